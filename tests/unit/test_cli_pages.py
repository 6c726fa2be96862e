"""What answers look like: the words, the columns, and names that would like to harm a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from inboxd.cli import pages, screen, sendpages, sourcepages
from inboxd.cli.page import Bar, Page, Table, Text, plain, span
from support.answering import (
    HOSTILE,
    destination,
    download,
    examined,
    expected,
    failure,
    inbox,
    item,
    looked_at,
    row,
    send,
    source,
    status,
)

_SHOWN = r"ev\x1b]0;owned\x07il\x0a\xff\u202e.csv"
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def drawn(page: Page, width: int) -> str:
    """As on a terminal of this width, with colours."""
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width, highlight=False, markup=False, emoji=False).print(
        screen._drawn(page), crop=False
    )
    return out.getvalue()


def story(**values: object) -> Page:
    ended = [send(state=state, ended_at=1795469437.0) for state in ("SENT", "DROPPED")]
    sends = [send(), send(state="ABANDONED"), *ended]
    told = {"history": [failure(1), failure(2)], "path": f"/srv/{HOSTILE}", "item": item(), "sends": sends}
    return pages.story({**row(**values), **told})


ALL = [
    pages.status(status(inbox(condition=HOSTILE), inbox(paused=HOSTILE), degraded=[HOSTILE])),
    pages.status(status(sources=[source(condition=HOSTILE, address=HOSTILE)], workers=[])),
    pages.files({"files": [row(), row(state="RUNNING", outcome=None, reason=None)]}),
    story(),
    pages.explanation({"why": [HOSTILE], "file": row()}),
    sourcepages.polled(
        {
            "source": "partner",
            "under_way": True,
            "hurried": 1,
            "full": HOSTILE,
            "renewed": [HOSTILE],
            "refused": {HOSTILE: HOSTILE},
        }
    ),
    pages.retried({"retried": [], "refused": {HOSTILE: HOSTILE}}),
    pages.findings(
        {"problems": [HOSTILE], "checked": [HOSTILE], "sources": [examined()], "destinations": [looked_at()]}
    ),
    sourcepages.examined(examined(problem=HOSTILE)),
    sendpages.examined(looked_at(problem=HOSTILE)),
    sendpages.sent(
        {
            "destination": "customer",
            "condition": HOSTILE,
            "hurried": 1,
            "due": 2,
            "abandoned": 1,
            "renewed": [HOSTILE],
            "dropped": [HOSTILE],
            "refused": {HOSTILE: HOSTILE},
        }
    ),
]


@pytest.mark.parametrize("page", ALL)
def test_hostile_names_are_harmless(page: Page) -> None:
    text = plain(page)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", text)
    text.encode()
    assert _SHOWN in text
    for width in (40, 80, 200):
        on_screen = _COLOURS.sub("", drawn(page, width))
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", on_screen)


def test_plain_columns_are_aligned() -> None:
    table = Table(("name", "count"), [("a", 5), ("longer", 1234)], right=frozenset({"count"}))
    assert plain([Text("title"), table]) == "title\nname    count\na           5\nlonger   1234"


def test_markup_is_no_markup() -> None:
    page: Page = [Text("[red]a[/red] :smile:"), Table(("name",), [("[bold]b",)])]
    assert "[red]a[/red] :smile:" in drawn(page, 80)
    assert "[bold]b" in drawn(page, 80)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_an_id_is_never_cut(width: int) -> None:
    """It is there to be copied."""
    page = pages.files({"files": [row(file="long/" * 20)]})
    lines = drawn(page, 400).splitlines()
    assert row()["id"] in lines[1]
    assert row()["id"] in drawn(page, width).replace("\n", "")


def test_status_counts_and_foretells() -> None:
    text = plain(pages.status(status()))
    first = text.splitlines()[0]
    assert first == "inboxd 0.1.0: RUNNING, pid 4242, up 2 h 2 min; durability full, ledger sqlite"
    assert re.search(r"orders +49 of 98 +50\.0 % +12\.5 +1 min 15 s", text)
    assert re.search(r"orders +48 +2 +1 +1050 +3 +1 +events; the oldest has waited 2 min 10 s", text)
    assert re.search(r"0 +4711 +busy +4\.2 s +orders", text)
    assert re.search(r"1 +- +backoff +- +- +-", text)


def test_status_tells_what_sources_are_at() -> None:
    text = plain(pages.status(status()))
    assert re.search(r"partner +orders +https://\S+ +42 s +2026-\S+ \S+ +120 +7 +5 +1 +3 +2 +1 +fetching 1", text)
    assert re.search(r"partner +\S+ +1 min 1 s +1GiB +4GiB +25\.0 % +12MiB +4 min 16 s", text)
    begun = plain(pages.status(status(downloads=[download(size=None, rate=None, percent=None, eta=None)])))
    assert re.search(r"partner +\S+ +1 min 1 s +1GiB +- +- +- +-", begun)
    fresh = plain(pages.status(status(sources=[source(polled_at=None, listed=None, new=0, next_poll=0.0)])))
    assert re.search(r"outbox +now +- +- +- +5", fresh)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"paused": "an operator said so", "oldest": 59.0}, "paused: an operator said so"),
        ({"paused": "so", "oldest": 60.0}, "paused: so; the oldest has waited 1 min 0 s"),
        ({"space": "12MiB free"}, "nothing is claimed: 12MiB free; the oldest has waited 2 min 10 s"),
        ({"condition": "away: no such mount", "oldest": None}, "away: no such mount"),
        ({"eta": None}, "unknown"),
        ({"done": 0, "total": 0, "percent": None, "eta": 0.0}, "events"),
    ],
)
def test_conditions_of_an_inbox(values: dict[str, object], words: str) -> None:
    assert words in plain(pages.status(status(inbox(**values))))


def test_a_bar_is_drawn_on_a_terminal_only() -> None:
    page: Page = [Table(("progress",), [(Bar(1, 4),), (Bar(0, 0),)])]
    assert plain(page) == "progress\n25.0 %\n-"
    assert "━" in drawn(page, 80)
    assert "25.0 %" in drawn(page, 80)


def test_a_story_is_told_in_order() -> None:
    text = plain(story())
    words = [
        "claimed, 1.5KiB",
        "attempt 1 failed after 0.250 s: KeyError",
        "Traceback",
        "attempt 2 failed",
        "error: too",
    ]
    assert [text.index(word) for word in words] == sorted(text.index(word) for word in words)
    assert "sha256: abab" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "RUNNING", "outcome": None, "finished_at": None}, "attempt 2 is running"),
        ({"state": "WAITING", "outcome": None, "finished_at": None, "not_before": 1.9e9}, "attempt 3 is due"),
        ({"state": "ABANDONED", "outcome": None, "reason": "gone", "destination": None}, "abandoned: gone"),
        ({"outcome": "processed", "reason": "processed", "result": {"rows": 3}}, 'result: {"rows": 3}'),
        ({"source": "partner"}, "from source partner"),
    ],
)
def test_stories_of_all_kinds(values: dict[str, object], words: str) -> None:
    assert words in plain(story(**values))


def test_a_run_of_a_former_life_is_not_timed() -> None:
    """A retried file whose content turned out to be known was not run again."""
    assert "after a run of 1.000 s" in plain(story())
    assert "after a run" not in plain(story(outcome="processed", reason="duplicate", attempts=0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "by 06:30 on Mon 2026-11-23 (Europe/Berlin): missing, 1 so far"),
        ({"missing": False}, "(Europe/Berlin): 1 so far"),
        ({"missing": False, "found": 2}, "(Europe/Berlin): here"),
    ],
)
def test_what_is_expected(values: dict[str, object], words: str) -> None:
    answer = status(inbox(expected=expected(**values)), sources=[source(expected=None)])
    text = plain(pages.status(answer))
    assert "inbox orders: expected 2 " in text
    assert words in text
    assert "source partner: expected 2 " in plain(pages.status(status()))


def test_what_the_doctor_found_at_a_source() -> None:
    lines = plain(
        sourcepages.examined(examined(names=["a", "b", "c", "d", "e"], reasons=[{"name": "x", "why": "odd"}]))
    ).splitlines()
    assert lines == [
        "source partner at sftp://partner.example:22/out answers in 0.50 s; items listed: 13",
        "  would be fetched, once two listings show them alike: 7: a, b, c, d, e, …",
        "  left alone: 2: x (odd), …",
        "  known already: 1 ack due, 3 acked",
        "  can't be used, for their ids, versions, sizes or URLs: 1",
        "  the listing is cut off at `max_items`",
    ]
    calm = examined(fresh=0, names=[], left_out=0, known={}, skipped=0, cut=False, twice=False)
    assert plain(sourcepages.examined(calm)).splitlines()[1:] == ["  would be fetched: nothing"]


def test_status_tells_what_destinations_are_at() -> None:
    told = destination(condition="rests after 5 failures in a row", due=3, abandoned=1)
    lines = plain(pages.status(status(destinations=[told]))).splitlines()
    row_of_it = next(line for line in lines if line.startswith("customer"))
    assert row_of_it.split()[:6] == ["customer", "orders", "https://customer.example/in", "3", "0", "1"]
    assert row_of_it.endswith("rests after 5 failures in a row")
    assert not any("destination" in line for line in plain(pages.status(status(destinations=[]))).splitlines())


def test_a_story_tells_what_became_of_the_results() -> None:
    lines = plain(story()).splitlines()
    what = f"result {_SHOWN} for customer"
    assert f"{what}: to be sent ({_SHOWN})" in lines
    assert f"{what}: given up in attempt 2 ({_SHOWN})" in lines
    assert [line.partition(" 20")[0] for line in lines if line.startswith(what)][2:] == [
        f"{what}: sent",
        f"{what}: dropped",
    ]


@pytest.mark.parametrize(
    ("due", "abandoned", "words"),
    [
        (0, 0, "nothing waits for it"),
        (1, 0, "1 result is due now"),
        (2, 3, "given up: 3; `inboxd send customer --again`"),
    ],
)
def test_what_sending_now_comes_to(due: int, abandoned: int, words: str) -> None:
    answer = {"destination": "customer", "due": due, "abandoned": abandoned, "hurried": 0, "renewed": [], "dropped": []}
    assert words in plain(sendpages.sent({**answer, "refused": {}}))


def test_problems_that_are_alike_are_told_by_the_first_of_them() -> None:
    many = [f"I2: in work/ without an open row: /work/{number}" for number in range(255)]
    rows = [f"I2: 01a2 (main: 'a', {number}) was lost" for number in range(21)]
    answer = {"problems": [*many, *rows, "degraded: no disk"], "checked": ["all"], "sources": [], "destinations": []}
    lines = plain(pages.findings(answer)).splitlines()
    assert lines[19:21] == [many[19], "I2: … and 235 more like it; --json names all"]
    assert lines[40:42] == [rows[19], "I2: … and 1 more like it; --json names all"]
    assert lines[42:] == ["degraded: no disk", "checked all: 277 problems"]


def test_a_refusal_names_its_id_once() -> None:
    page = pages.retried({"retried": ["a"], "refused": {"b": "b is WAITING", "c": "it is away"}})
    assert plain(page).splitlines() == ["to run again: 1 file", "refused: b is WAITING", "refused: c: it is away"]


@pytest.mark.parametrize(
    ("numbers", "values", "retries"),
    [
        ([], {"attempts": 1, "outcome": "processed"}, 0),
        ([1, 2], {"attempts": 2}, 0),
        ([1], {"attempts": 2, "outcome": "processed"}, 0),
        ([1], {"attempts": 1, "outcome": "processed"}, 1),
        ([1, 2, 1, 2], {"attempts": 2}, 1),
        ([1, 1, 1], {"attempts": 1}, 2),
        ([1], {"attempts": 1, "state": "WAITING", "outcome": None}, 0),
        ([1], {"attempts": 1, "state": "CLAIMED", "outcome": None}, 0),
        ([1], {"attempts": 0, "state": "CLAIMED", "outcome": None}, 1),
        ([2], {"attempts": 3, "state": "RUNNING", "outcome": None}, 0),
        ([1], {"attempts": 1, "state": "RUNNING", "outcome": None}, 1),
    ],
)
def test_a_story_says_where_an_operator_had_it_run_again(
    numbers: list[int], values: dict[str, object], retries: int
) -> None:
    """Only there do attempts count from the beginning; and the size is that of what it is now."""
    history = [failure(number, at=float(at)) for at, number in enumerate(numbers)]
    told = pages.story({**row(**values), "history": history, "path": "/", "item": None, "sends": []})
    assert plain(told).count("as an operator asked") == retries


def test_the_class_of_a_failure_is_told_once() -> None:
    history = [
        failure(1, error_class="KeyError", message=message) for message in ("KeyError: 'amount'", "", "'amount'")
    ]
    told = plain(pages.story({**row(attempts=1), "history": history, "path": "/", "item": None, "sends": []}))
    ends = [line.partition(" s: ")[2] for line in told.splitlines() if " s: " in line]
    assert ends == ["KeyError: 'amount'", "KeyError", "KeyError: 'amount'"]


def test_what_cost_no_attempt_may_have_its_number_again() -> None:
    history = [failure(1, charged=False), failure(1, charged=False), failure(1)]
    told = pages.story({**row(attempts=1), "history": history, "path": "/", "item": None, "sends": []})
    assert "as an operator asked" not in plain(told)


@pytest.mark.parametrize(("seconds", "words"), [(None, "-"), (0, "0 s"), (0.26, "0.3 s"), (75, "1 min 15 s")])
def test_spans(seconds: float | None, words: str) -> None:
    assert span(seconds) == words
