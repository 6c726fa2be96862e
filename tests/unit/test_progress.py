"""Counts, rates and what is left; and the budget of log lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.progress import LineBudget, Progress, show_span


def test_nothing_yet() -> None:
    progress = Progress(100.0)
    assert progress.figures(0, 100.0) == {"done": 0, "total": 0, "percent": None, "rate": 0.0, "eta": 0.0}
    assert progress.text(0, 100.0) == "0 files so far, nothing waits"


def test_waiting_and_nothing_moves() -> None:
    progress = Progress(100.0)
    assert progress.figures(5, 160.0) == {"done": 0, "total": 5, "percent": 0.0, "rate": 0.0, "eta": None}
    assert progress.text(5, 160.0) == "0 of 5 (0.0 %), 0 files/s"


def test_half_way() -> None:
    progress = Progress(0.0)
    for second in range(1, 11):
        progress.done(100, float(second))
    figures = progress.figures(1000, 11.0)
    assert (figures["done"], figures["total"], figures["percent"]) == (1000, 2000, 50.0)
    assert figures["rate"] == pytest.approx(100.0)
    assert figures["eta"] == pytest.approx(10.0)
    assert progress.text(1000, 11.0) == "1,000 of 2,000 (50.0 %), 100 files/s, 10 s left"
    assert progress.text(1000, 11.0, "paused") == "1,000 of 2,000 (50.0 %), paused"
    assert progress.text(0, 11.0, "paused") == "1,000 of 1,000 (100.0 %), 100 files/s, 0 s left"


def test_a_new_heap_begins_at_nothing_and_the_count_goes_on() -> None:
    progress = Progress(0.0)
    progress.done(10, 1.0)
    progress.rest()
    assert progress.figures(0, 1.0)["percent"] == 100.0
    assert progress.figures(30, 2.0)["percent"] == 0.0
    assert progress.count == 10


def test_the_rate_forgets() -> None:
    progress = Progress(0.0)
    progress.done(3000, 1.0)
    assert progress.rate(2.0) > 0.0
    assert progress.rate(60.0) == 0.0


def test_a_new_heap_has_a_rate_of_its_own() -> None:
    """What was idle before says nothing of how long this one takes; what is hardly a pause does."""
    progress = Progress(0.0)
    progress.done(1, 100.0)
    progress.rest()
    progress.done(50, 120.0)
    assert progress.figures(100, 121.0)["eta"] == pytest.approx(2.0)
    progress.rest()
    progress.done(150, 122.0)
    assert progress.rate(122.0) == pytest.approx(100.0)


def test_a_single_moment_is_no_burst() -> None:
    """Files that end in one turn are no thousand files a second."""
    progress = Progress(0.0)
    progress.done(10, 100.0)
    assert progress.rate(100.0) == 10.0


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 20)), max_size=30), st.integers(0, 10**7), st.floats(0, 100)
)
def test_figures_are_always_sane(ends: list[tuple[int, float]], waiting: int, later: float) -> None:
    progress, now = Progress(0.0), 0.0
    for count, pause in ends:
        now += pause
        progress.done(count, now)
    figures = progress.figures(waiting, now + later)
    assert figures["total"] == figures["done"] + waiting
    assert figures["percent"] is None or 0.0 <= figures["percent"] <= 100.0
    assert figures["rate"] >= 0.0
    assert figures["eta"] is None or figures["eta"] >= 0.0
    assert progress.count == sum(count for count, _pause in ends)


def test_one_thread_counts_while_others_look(quick_switches: None) -> None:
    """The pipeline counts; the main thread and every `inboxd status` look."""
    progress = Progress(0.0)
    faults: list[BaseException] = []
    ended = threading.Event()

    def look() -> None:
        try:
            while not ended.is_set():
                progress.figures(1, 1.0)
        except RuntimeError as error:
            faults.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(5_000):
        progress.done(1, 1.0)
    ended.set()
    for reader in readers:
        reader.join(20)
    assert faults == []
    assert progress.figures(1, 1.0)["done"] == 5_000


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads meet as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (75.0, "1 min 15 s"),
        (3599.7, "1 h 0 min"),
        (90061.0, "25 h 1 min"),
    ],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert show_span(seconds) == text


def test_the_budget_is_spent_and_comes_back() -> None:
    budget = LineBudget(per_second=10.0)
    assert all(budget.take(1, 5.0) for _ in range(10))
    assert not budget.take(1, 5.0)
    assert budget.take(5, 5.5)
    assert not budget.take(1, 5.5)


def test_a_refusal_costs_nothing() -> None:
    budget = LineBudget(per_second=10.0)
    assert not budget.take(11, 1.0)
    assert budget.take(10, 1.0)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), max_size=50))
def test_no_more_lines_than_the_budget(asked: list[tuple[int, float]]) -> None:
    budget, now, spent = LineBudget(per_second=20.0), 0.0, 0
    for lines, pause in asked:
        now += pause
        spent += lines * budget.take(lines, now)
    assert spent <= 20.0 + 20.0 * now + 1e-6
