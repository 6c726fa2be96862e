"""What becomes of a result that was sent: the policy alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.lifecycle import Limits
from inboxd.model import Ending, Report
from inboxd.sends import OPEN_SENDS, SEND_TRANSITIONS, Send, SendState, judge_send

LIMITS = Limits(3, 1 << 31, 1.0, 300.0)
NOW = 1000.0


def a_send(**values: Any) -> Send:
    return Send("a" * 32, "b" * 32, "customer", "report.csv", "main", 10, **{"attempts": 1, **values})


def judged(ending: Ending, *, begun: bool = True, after: float | None = None, **values: Any) -> Any:
    report = Report("a" * 32, ending, message="told so", begun=begun, after=after)
    return judge_send(a_send(**values), report, LIMITS, NOW, lambda: 1.0)


def test_what_has_arrived_is_sent() -> None:
    one = judged(Ending.DONE, failures=2, message="earlier")
    assert one.verb == "finish"
    assert one.send == a_send(state=SendState.SENT, ended_at=NOW)


@pytest.mark.parametrize("ending", [Ending.UNAVAILABLE, Ending.BROKEN])
def test_an_outage_is_not_laid_to_a_result(ending: Ending) -> None:
    one = judged(ending, attempts=100)
    assert (one.verb, one.send.failures, one.send.state) == ("wait", 0, SendState.DUE)
    assert one.send.not_before == NOW + 300.0
    assert one.send.message == "told so"
    assert judged(ending, after=7.0).send.not_before == NOW + 7.0


def test_a_result_that_is_refused_is_tried_again_and_then_given_up() -> None:
    first, second = judged(Ending.FAILED), judged(Ending.FAILED, attempts=2, failures=1)
    assert [(one.verb, one.send.failures, one.delay) for one in (first, second)] == [("wait", 1, 1.0), ("wait", 2, 2.0)]
    last = judged(Ending.FAILED, attempts=3, failures=2)
    assert (last.verb, last.send.state) == ("abandon", SendState.ABANDONED)
    assert last.send.ended_at is None, "an operator has to decide"


def test_a_result_that_is_gone_is_given_up_at_once() -> None:
    assert judged(Ending.REJECTED).verb == "abandon"


def test_what_was_cut_off_may_have_been_heard() -> None:
    assert judged(Ending.RELEASED).send == a_send(attempts=1)
    assert judged(Ending.RELEASED, begun=False).send == a_send(attempts=0)
    assert judged(Ending.UNAVAILABLE, begun=False).verb == "wait"


@given(
    st.sampled_from(list(Ending)), st.booleans(), st.one_of(st.none(), st.floats(0, 1e6)), st.integers(1, 10**6),
    st.integers(0, 2),
)  # fmt: skip
def test_nothing_ends_but_by_arrival_or_refusal(
    ending: Ending, begun: bool, after: float | None, attempts: int, failures: int
) -> None:
    one = judged(ending, begun=begun, after=after, attempts=attempts, failures=failures)
    assert one.send.state is SEND_TRANSITIONS[SendState.DUE, one.verb]
    assert (one.verb == "finish") == (ending is Ending.DONE)
    assert one.send.not_before < NOW + 1e6 + 300.0
    if not begun and ending is not Ending.DONE:
        assert one.verb == "wait"


def test_every_open_state_can_come_to_an_end() -> None:
    for state in OPEN_SENDS:
        ways = {target for (before, _verb), target in SEND_TRANSITIONS.items() if before is state}
        assert ways - OPEN_SENDS
    for state, _verb in itertools.product(set(SendState) - OPEN_SENDS, [None]):
        assert not [verb for before, verb in SEND_TRANSITIONS if before is state], "final"
