"""What follows from a report on an item, case by case; and no arrow of the table is without one who takes it."""

from __future__ import annotations

from typing import Any

import pytest

from inboxd.items import ITEM_TRANSITIONS, Item, ItemState, Judged, judge_ack, judge_fetch
from inboxd.lifecycle import Limits
from inboxd.model import Ending, Report

LIMITS = Limits(3, 1 << 31, 10.0, 100.0)
NOW = 1000.0
FETCHING = Item("s", "a", "1", "main", "f" * 32, ItemState.FETCHING, attempts=2, failures=1, message="before")
DUE = Item("s", "a", "1", "main", "f" * 32, ItemState.ACK_DUE, ack="held", attempts=2, failures=1, message="before")


def _whole() -> float:
    """The longest of all waits."""
    return 1.0


def _fetch(ending: Ending, item: Item = FETCHING, **report: Any) -> Judged:
    return judge_fetch(item, Report(item.id, ending, **{"message": "why", **report}), LIMITS, NOW, _whole)


def _ack(ending: Ending, item: Item = DUE, **report: Any) -> Judged:
    return judge_ack(item, Report(item.id, ending, **{"message": "why", **report}), LIMITS, NOW, _whole)


def test_fetched() -> None:
    judged = _fetch(Ending.DONE)
    assert (judged.verb, judged.charged, judged.delay) == ("hold", False, 0.0)
    assert judged.item == FETCHING._replace(attempts=0, failures=0, message=None, fetched_at=NOW)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.CRASHED, Ending.TIMED_OUT])
def test_a_failed_fetch_is_charged(ending: Ending) -> None:
    judged = _fetch(ending)
    assert (judged.verb, judged.charged, judged.delay) == ("release", True, 20.0)  # the second failure
    told = {"state": ItemState.DISCOVERED, "failures": 2, "not_before": NOW + 20.0, "message": "why"}
    assert judged.item == FETCHING._replace(**told)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.CRASHED, Ending.TIMED_OUT])
def test_the_last_failure_gives_it_up(ending: Ending) -> None:
    judged = _fetch(ending, FETCHING._replace(failures=2))
    assert (judged.verb, judged.charged) == ("abandon", True)
    assert judged.item == FETCHING._replace(state=ItemState.ABANDONED, failures=3, message="why")


def test_rejected_is_given_up_at_once() -> None:
    judged = _fetch(Ending.REJECTED, FETCHING._replace(failures=0))
    assert (judged.verb, judged.item.state, judged.item.failures) == ("abandon", ItemState.ABANDONED, 1)


@pytest.mark.parametrize("ending", [Ending.UNAVAILABLE, Ending.BROKEN])
@pytest.mark.parametrize(("after", "delay"), [(None, 20.0), (7.5, 7.5)])
def test_the_sources_fault_is_not_the_items(ending: Ending, after: float | None, delay: float) -> None:
    judged = _fetch(ending, FETCHING._replace(failures=2), after=after)
    assert (judged.verb, judged.charged, judged.delay) == ("release", False, delay)
    assert (judged.item.failures, judged.item.not_before) == (2, NOW + delay)


def test_a_failure_may_say_when_to_come_again() -> None:
    assert _fetch(Ending.FAILED, after=3.0).item.not_before == NOW + 3.0


def test_what_never_began_was_no_attempt() -> None:
    for ending in (Ending.RELEASED, Ending.UNAVAILABLE):
        judged = _fetch(ending, begun=False)
        assert (judged.verb, judged.charged, judged.delay) == ("release", False, 0.0)
        assert judged.item == FETCHING._replace(state=ItemState.DISCOVERED, attempts=1)


def test_a_cut_off_fetch_costs_an_attempt_only() -> None:
    judged = _fetch(Ending.RELEASED)
    assert (judged.verb, judged.charged, judged.delay) == ("release", False, 0.0)
    assert judged.item == FETCHING._replace(state=ItemState.DISCOVERED, message="why")


@pytest.mark.parametrize("ending", [Ending.DONE, Ending.REJECTED])
def test_acknowledged(ending: Ending) -> None:
    """What is gone there has been told before."""
    judged = _ack(ending)
    assert judged.verb == "ack"
    assert judged.item == DUE._replace(state=ItemState.ACKED, failures=0, message=None, acked_at=NOW)


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.UNAVAILABLE, Ending.BROKEN, Ending.CRASHED, Ending.TIMED_OUT])
def test_an_acknowledgement_is_never_given_up(ending: Ending) -> None:
    judged = _ack(ending, DUE._replace(failures=1_000))
    assert (judged.verb, judged.charged, judged.delay) == ("wait", True, 100.0)
    heard = ending not in (Ending.FAILED, Ending.BROKEN)  # perhaps
    attempts = DUE.attempts if heard else DUE.attempts - 1
    assert judged.item == DUE._replace(attempts=attempts, failures=1_001, not_before=NOW + 100.0, message="why")


def test_an_acknowledgement_cut_off_is_said_again_at_once() -> None:
    """It may have been heard, but not if it had not begun."""
    assert _ack(Ending.RELEASED) == Judged(DUE, "wait")
    unsaid = Judged(DUE._replace(attempts=DUE.attempts - 1), "wait")
    assert _ack(Ending.RELEASED, begun=False) == _ack(Ending.UNAVAILABLE, begun=False) == unsaid


@pytest.mark.parametrize(("before", "verb"), sorted(ITEM_TRANSITIONS))
def test_every_arrow_begins_and_ends_at_a_state(before: ItemState, verb: str) -> None:
    assert before in ItemState
    assert ITEM_TRANSITIONS[before, verb] in ItemState
    assert verb


def test_the_way_of_an_item() -> None:
    """As the page of the lifecycle tells it; and what is told to the source can't be taken back."""
    state = ItemState.DISCOVERED
    for verb in ("fetch", "release", "fetch", "abandon", "renew", "fetch", "hold", "owe", "wait", "ack"):
        state = ITEM_TRANSITIONS[state, verb]
    assert state is ItemState.ACKED
    assert not [verb for before, verb in ITEM_TRANSITIONS if before is ItemState.ACKED]
    reached = {ItemState.DISCOVERED, *ITEM_TRANSITIONS.values()}
    assert reached == set(ItemState)


def test_every_verb_leads_to_one_state() -> None:
    """custody/items.py counts on it."""
    targets: dict[str, set[ItemState]] = {}
    for (_before, verb), after in ITEM_TRANSITIONS.items():
        targets.setdefault(verb, set()).add(after)
    assert all(len(states) == 1 for states in targets.values())
