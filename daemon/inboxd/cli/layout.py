"""What of a page is seen where a terminal has little room: which columns, how wide, and which rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inboxd.cli.page import Page, Table, Text

GAP = 2  # cells between two columns


@dataclass(frozen=True, slots=True)
class Column:
    """In cells: the width it would have, one that reads well, and the least that is of use.

    `spare`: it may be left out; the lower, the sooner.
    """

    width: int
    fair: int
    least: int
    spare: int | None = None


def fit(columns: Sequence[Column], room: int) -> list[int]:
    """How wide each is where a line has `room` cells; 0 for what is left out.

    First goes what can be spared, until the rest reads well; only then is that made narrower. Who wants little of what
    is left over is served first.
    """
    shown = set(range(len(columns)))

    def excess(sizes: Callable[[Column], int]) -> int:
        return sum(sizes(columns[number]) + GAP for number in shown) - GAP - room

    sparing = [(column.spare, number) for number, column in enumerate(columns) if column.spare is not None]
    for _spare, number in sorted(sparing):
        if excess(lambda column: column.fair) <= 0:
            break
        shown.remove(number)
    narrow = excess(lambda column: column.fair) > 0
    given = [0] * len(columns)
    for number in shown:
        given[number] = columns[number].least if narrow else columns[number].fair
    left = max(0, -excess(lambda column: column.least if narrow else column.fair))
    wanting = sorted(shown, key=lambda number: columns[number].width - given[number])
    for served, number in enumerate(wanting):
        more = min(columns[number].width - given[number], left // (len(wanting) - served))
        given[number] += more
        left -= more
    return given


def shorten(text: str, room: int, measure: Callable[[str], int] = len) -> str:
    """Its beginning and its end, where it has more than `room` cells."""
    if measure(text) <= room:
        return text
    for kept in range(min(room, len(text)) - 1, -1, -1):
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if measure(short) <= room:
            return short
    return ""


def fit_rows(page: Page, height: int, measure: Callable[[Page], int]) -> Page:
    """As much of a page as `height` lines hold, the rows of most worth first; a last line says how many are missing.

    `measure`: how many lines a page takes.
    """
    if measure(page) <= height:
        return page
    tables = [(place, part) for place, part in enumerate(page) if isinstance(part, Table)]
    rows = [(part.worth_of(row), place, -row) for place, part in tables for row in range(len(part.rows))]
    rows.sort()
    few, many = 0, len(rows)  # to be left out: so few are not enough, so many are, or nothing is
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if measure(_without(page, rows[:middle])) <= height else (middle, many)
    return _without(page, rows[:many])


def _without(page: Page, out: Sequence[tuple[int, int, int]]) -> Page:
    """Nor tables that have no rows left, and the empty lines before them."""
    missing = {(place, -row) for _worth, place, row in out}
    kept: Page = []
    for place, part in enumerate(page):
        if not isinstance(part, Table) or not part.rows:
            kept.append(part)
            continue
        rows = [row for row in range(len(part.rows)) if (place, row) not in missing]
        rows.sort(key=part.worth_of, reverse=True)
        if rows:
            kept.append(replace(part, rows=[part.rows[row] for row in rows]))
        elif kept and kept[-1] == Text(""):
            kept.pop()
    many = f"{len(out)} rows are" if len(out) > 1 else "1 row is"
    return [*kept, Text(f"{many} not shown for want of room, the calmest first; `inboxd status` shows all", "dim")]
