"""What is shown, before anybody decides how: lines and tables, free of anything that could harm a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from inboxd.config.quantity import show_size
from inboxd.escape import escape
from inboxd.progress import show_span

Tone = Literal["", "title", "good", "warn", "bad", "dim"]


@dataclass(frozen=True, slots=True)
class Text:
    """A line, or a cell. What it is made of is escaped here, once and for all."""

    raw: str
    tone: Tone = ""

    def __str__(self) -> str:
        return escape(self.raw)


@dataclass(frozen=True, slots=True)
class Bar:
    """How far something is: a bar on a terminal, a percentage elsewhere."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{100 * self.done / self.total:.1f} %" if self.total else "-"


Cell = str | int | Text | Bar
NOTHING = ""
CALM, BUSY, TROUBLED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Table:
    """Columns under heads; those in `right` hold numbers.

    Where a terminal has little room, those in `spare` are left out, in this order (NOTHING: numbers that are all 0);
    those in `whole` are not broken, those in `cut` shortened in the middle, all others folded. `worth`: of each row.
    """

    heads: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    right: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()
    spare: tuple[str, ...] = ()
    worth: Sequence[int] = ()

    def worth_of(self, row: int) -> int:
        """Of two rows, that of less worth is left out first."""
        return self.worth[row] if self.worth else CALM


Page = list[Text | Table]


def worth(*, troubled: object, busy: object) -> int:
    """Of the row of something."""
    return TROUBLED if troubled else BUSY if busy else CALM


def when(seconds: float | None) -> str:
    """Local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def span(seconds: float | None) -> str:
    """Like "1 min 15 s"; below a minute with a decimal where that says something."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else show_span(seconds)


def amount(count: int | None) -> str:
    """Bytes."""
    return "-" if count is None else show_size(count)


def plain(page: Page) -> str:
    """Aligned text, for a pipe."""
    return "\n".join(_aligned(part) if isinstance(part, Table) else str(part) for part in page)


def _aligned(table: Table) -> str:
    lines = [list(table.heads), *([_word(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths, table) for line in lines)


def _word(cell: Cell) -> str:
    return escape(str(cell))


def _line(words: list[str], widths: list[int], table: Table) -> str:
    padded = (
        word.rjust(width) if head in table.right else word.ljust(width)
        for head, word, width in zip(table.heads, words, widths, strict=True)
    )
    return "  ".join(padded).rstrip()
