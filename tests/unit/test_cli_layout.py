"""What is seen of a page where a terminal has little room."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from inboxd.cli import pages, screen
from inboxd.cli.layout import GAP, Column, fit, fit_rows, shorten
from inboxd.cli.page import BUSY, CALM, TROUBLED, Page, Table, Text
from support.answering import destination, download, inbox, row, source, status


def lines(page: Page, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False, emoji=False).print(screen._drawn(page), crop=False)
    return out.getvalue().splitlines()


# Columns


def test_all_is_shown_where_there_is_room() -> None:
    assert fit([Column(20, 10, 5, 0), Column(7, 7, 7)], 29) == [20, 7]


def test_what_can_be_spared_goes_in_its_order() -> None:
    columns = [Column(20, 20, 8), Column(10, 10, 10, 2), Column(10, 10, 10, 0), Column(10, 10, 10, 1)]
    assert fit(columns, 56) == [20, 10, 10, 10]
    assert fit(columns, 55) == [20, 10, 0, 10]
    assert fit(columns, 43) == [20, 10, 0, 0]
    assert fit(columns, 20) == [20, 0, 0, 0]


def test_what_stays_becomes_narrower_only_then() -> None:
    columns = [Column(40, 24, 8), Column(30, 24, 8), Column(9, 9, 6), Column(5, 5, 5, 0)]
    assert fit(columns, 68) == [24, 24, 9, 5]
    assert fit(columns, 67) == [27, 27, 9, 0]
    assert fit(columns, 30) == [10, 9, 7, 0]
    assert fit(columns, 10) == [8, 8, 6, 0], "no narrower"


_COLUMNS = st.tuples(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.none() | st.integers(0, 4)).map(
    lambda one: Column(one[0] + one[1] + one[2], one[0] + one[1], one[0], one[3])
)


@given(st.lists(_COLUMNS, max_size=14), st.integers(1, 300))
def test_no_line_is_wider_than_it_may_be(columns: list[Column], room: int) -> None:
    widths = fit(columns, room)
    shown = [column for column, width in zip(columns, widths, strict=True) if width]
    assert all(column in shown for column in columns if column.spare is None)
    assert all(column.least <= width <= column.width for column, width in zip(columns, widths, strict=True) if width)
    if sum(column.least + GAP for column in shown) - GAP <= room:
        assert sum(width + GAP for width in widths if width) - GAP <= room


@given(st.text(max_size=40), st.integers(1, 40))
def test_a_text_is_shortened_in_the_middle(text: str, room: int) -> None:
    short = shorten(text, room)
    assert len(short) == min(len(text), room)
    assert short == text or (text.startswith(short.split("…")[0]) and "…" in short)


def test_both_ends_of_a_name_are_seen() -> None:
    assert shorten("north/2026-11-23.csv", 11) == "north…3.csv"


_NAMES = st.integers(1, 64).map(lambda size: ("name-" * 13)[:size])
_COUNTS = st.integers(0, 9_999_999)
_CONDITION = "refuses us, the next try is in 285 s: status 401"


@given(_NAMES, st.lists(_COUNTS, min_size=7, max_size=7), st.integers(80, 250))
def test_what_matters_is_seen_at_every_width(name: str, counts: list[int], width: int) -> None:
    """The name, the counts that are not 0, and the condition; in each table, and no line is too wide."""
    keys = ("listed", "new", "discovered", "fetching", "held", "ack_due", "abandoned")
    ours = source(source=name, inbox=name, condition=_CONDITION, rests=True, **dict(zip(keys, counts, strict=True)))
    keys = ("backlog", "running", "waiting", "processed", "errors", "quarantined")
    some = inbox(inbox=name, condition="away: " + _CONDITION, claimed=0, **dict(zip(keys, counts, strict=False)))
    told = destination(destination=name, inbox=name, condition=_CONDITION, due=counts[0], abandoned=counts[1])
    answer = status(some, sources=[ours], destinations=[told], downloads=[download(source=name)])
    page = pages.status(answer)
    shown = lines(page, width)
    assert max(map(len, shown)) <= width
    for first in ("source", "inbox", "destination"):
        (table,) = [
            part for part in page if isinstance(part, Table) and part.heads[0] == first and "condition" in part.heads
        ]
        text = lines([table], width)
        words = set(" ".join(text).split())
        for number in counts[: {"inbox": 6, "source": 7, "destination": 2}[first]]:
            assert number == 0 or str(number) in words
        assert "condition" in words
        assert name[:3] in words | {word[:3] for word in words}
        assert "401" in "".join("".join(text).split())


@pytest.mark.parametrize(("width", "gone"), [(200, []), (130, ["address"]), (110, ["address", "last poll"])])
def test_columns_of_least_worth_go_first(width: int, gone: list[str]) -> None:
    page = pages.status(status(sources=[source(source="partner", condition="waits")]))
    head = next(line for line in lines(page, width) if line.startswith("source ") and "listed" in line)
    assert [word for word in ("address", "last poll") if word not in head] == gone


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_outcome_of_a_file_stays_on_its_line(width: int) -> None:
    listed = [
        row(reason="too many failures", file="a/very/long/folder/" * 5 + "name.csv"),
        row(state="RUNNING", outcome=None),
    ]
    shown = lines(pages.files({"files": listed}), width)
    assert len(shown) == 3
    assert max(map(len, shown)) <= width
    assert row()["id"] in shown[1] and "error: too many failures" in shown[1]
    assert shown[1].rstrip().endswith(".csv")


# Rows


def _count(page: Page) -> int:
    return sum(1 + len(part.rows) if isinstance(part, Table) else 1 for part in page)


def _page() -> Page:
    return [
        Text("first"),
        Text(""),
        Table(("a",), [("a1",), ("a2",), ("a3",)], worth=(CALM, BUSY, CALM)),
        Text(""),
        Table(("b",), [("b1",), ("b2",), ("b3",)], worth=(CALM, CALM, TROUBLED)),
    ]


def test_a_page_that_fits_is_left_alone() -> None:
    assert fit_rows(_page(), 11, _count) == _page()


def test_what_is_calm_goes_first_and_what_is_troubled_last() -> None:
    shown = fit_rows(_page(), 10, _count)
    kept = [[row[0] for row in part.rows] for part in shown if isinstance(part, Table)]
    assert kept == [["a2"], ["b3", "b1", "b2"]]
    assert str(shown[-1]).startswith("2 rows are not shown")
    shown = fit_rows(_page(), 6, _count)
    assert [[row[0] for row in part.rows] for part in shown if isinstance(part, Table)] == [["b3"]]
    assert [str(part) for part in shown if isinstance(part, Text)][:2] == ["first", ""]
    assert str(shown[-1]).startswith("5 rows are not shown")


@given(st.integers(0, 20))
def test_every_row_is_shown_or_counted(height: int) -> None:
    shown = fit_rows(_page(), height, _count)
    rows = sum(len(part.rows) for part in shown if isinstance(part, Table))
    missing = int(str(shown[-1]).split()[0]) if isinstance(shown[-1], Text) else 0
    assert rows + missing == 6
    assert _count(shown) <= max(height, 2)


def test_a_trouble_is_seen_among_many_calm_inboxes() -> None:
    calm = [inbox(inbox=f"i{number:02}", backlog=0, claimed=0, running=0, waiting=0, done=0, total=0, errors=0,
                  quarantined=0, oldest=None) for number in range(12)]  # fmt: skip
    calm[11] = inbox(inbox="i11", paused="an operator said so")
    page = pages.status(status(*calm, sources=[source(condition=_CONDITION, rests=True, expected=None)]))
    console = Console(file=io.StringIO(), width=120, height=30)
    shown = fit_rows(page, 30, lambda page: len(console.render_lines(screen._drawn(page))))
    text = "\n".join(lines(shown, 120))
    assert len(text.splitlines()) <= 30
    for word in ("paused: an operator", "refuses us", "destination", "busy", "rows are not shown"):
        assert word in text
