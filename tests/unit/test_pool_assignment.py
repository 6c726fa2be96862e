"""What is said of the files of an order whose worker does not come back."""

from __future__ import annotations

import pytest

from inboxd.model import Ending, Report
from inboxd.pool.assignment import Assignment, Cause, Death, how_it_ended
from inboxd.pool.exchange import Exchange
from inboxd.wire import BrokenFrame, Mark, Order, OrderedFile

ORDER = Order("batch", "inbox", tuple(OrderedFile(name, f"/{name}", name, 1, 1) for name in "abcd"))
DIED = Death(Cause.DIED, "killed by signal 11", "tail", pid=7)


def said(reports):
    return [(r.file_id, r.ending, r.begun) for r in reports]


def made(*done: str, whole: bool = False) -> Assignment:
    assignment = Assignment(ORDER, whole, since=100.0)
    assignment.accept([Report(name, Ending.PROCESSED) for name in done], last=False)
    return assignment


def test_the_mark_tells_whom_to_charge():
    assert said(made("a").remains(Mark("batch", 2, 0.0), DIED)) == [
        ("b", Ending.RELEASED, True),
        ("c", Ending.CRASHED, True),
        ("d", Ending.RELEASED, False),
    ]


@pytest.mark.parametrize("mark", [None, Mark("another", 2, 0.0)])
def test_without_a_mark_nothing_has_begun(mark):
    assert {r.begun for r in made().remains(mark, DIED)} == {False}
    assert {r.ending for r in made().remains(mark, DIED)} == {Ending.RELEASED}


def test_a_death_after_the_last_file_charges_nobody():
    assert said(made("a", "b").remains(Mark("batch", 4, 0.0), DIED)) == [
        ("c", Ending.RELEASED, True),
        ("d", Ending.RELEASED, True),
    ]


def test_a_death_after_the_report_of_the_file_charges_nobody():
    assert said(made("a", "b").remains(Mark("batch", 1, 0.0), DIED)) == [
        ("c", Ending.RELEASED, False),
        ("d", Ending.RELEASED, False),
    ]


def test_a_timeout_is_laid_to_the_file_that_took_too_long():
    late = Death(Cause.TIMED_OUT, "ran too long", file_id="b")
    assert said(made("a").remains(Mark("batch", 1, 0.0), late))[0] == ("b", Ending.TIMED_OUT, True)
    assert said(made("a").remains(Mark("batch", 2, 0.0), late))[:2] == [
        ("b", Ending.RELEASED, True),
        ("c", Ending.RELEASED, True),
    ]


@pytest.mark.parametrize(("whole", "begun"), [(False, [True, False, False, False]), (True, [True] * 4)])
def test_a_stop_charges_nobody(whole, begun):
    """A call for all of them has begun with each."""
    stop = Death(Cause.STOPPED, "the daemon stops")
    reports = made(whole=whole).remains(Mark("batch", 0, 0.0), stop)
    assert {r.ending for r in reports} == {Ending.RELEASED}
    assert [r.begun for r in reports] == begun


def test_only_the_file_in_hand_is_told_to_have_been_in_the_middle():
    assert [r.message for r in made("a").remains(Mark("batch", 2, 0.0), DIED)] == [
        "finished, but its report was lost: its worker ended after it (killed by signal 11)",
        "killed by signal 11 in the middle of the file",
        "not begun: its worker ended before (killed by signal 11)",
    ]


def test_a_whole_batch_is_bisected_unless_it_is_one_file():
    reports = made(whole=True).remains(Mark("batch", 0, 0.0), DIED)
    assert {(r.ending, r.begun, r.bisect, r.detail) for r in reports} == {(Ending.RELEASED, False, True, "tail")}
    alone = Assignment(Order("batch", "inbox", ORDER.files[:1]), whole=True, since=0.0)
    assert said(alone.remains(Mark("batch", 0, 0.0), DIED)) == [("a", Ending.CRASHED, True)]


def test_nothing_is_left_after_the_remains():
    assignment = made()
    assert len(assignment.remains(None, DIED)) == 4
    assert assignment.remains(None, DIED) == []


@pytest.mark.parametrize(
    ("names", "last"),
    [("ab", False), ("bb", False), ("x", False), ("b", True)],
    ids=["again", "twice", "unknown", "short"],
)
def test_impossible_reports_are_refused_and_change_nothing(names, last):
    assignment = made("a")
    with pytest.raises(BrokenFrame):
        assignment.accept([Report(name, Ending.PROCESSED) for name in names], last=last)
    assert [r.file_id for r in assignment.remains(None, DIED)] == ["b", "c", "d"]


def test_the_deadline_follows_the_mark():
    assignment = made()
    assert assignment.deadline(None, 10.0) == 110.0
    assert assignment.deadline(Mark("another", 0, 500.0), 10.0) == 110.0
    assert assignment.deadline(Mark("batch", 1, 130.0), 10.0) == 140.0


def test_how_a_process_ended_in_words():
    assert how_it_ended(3) == "exit status 3"
    assert how_it_ended(-9) == "killed by signal 9 (SIGKILL: by the kernel when memory runs out, or by somebody)"
    assert how_it_ended(-15) == "killed by signal 15"


def test_the_exchange_bounds_what_waits():
    woken: list[bool] = []
    exchange = Exchange(2, lambda: woken.append(True))
    exchange.set_workers(idle=1, ahead=2)
    assert (exchange.free(), exchange.idle()) == (3, 1)
    exchange.dispatch(ORDER)
    assert (exchange.free(), exchange.idle()) == (2, 0)
    assert exchange.next_order(lambda: False) is None
    assert exchange.next_order(lambda: True) is ORDER
    assert (exchange.free(), exchange.idle()) == (2, 0)
    exchange.dispatch(ORDER)
    exchange.close()
    exchange.dispatch(ORDER)
    assert [(batch, r.begun) for batch, r in exchange.take_reports()] == [("batch", False)] * 8
    assert (exchange.free(), exchange.idle(), bool(woken)) == (0, 0, True)
