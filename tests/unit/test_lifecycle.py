"""What follows from a report, for every ending; and what can happen to a file at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.conclude import conclude
from inboxd.lifecycle import FINAL, OPEN, TRANSITIONS, Decision, Limits, backoff, decide, sources
from inboxd.model import Ending, InboxFile, Outcome, Report, State

LIMITS = Limits(max_failures=3, max_attempts=5, first=2.0, longest=60.0)
VERBS = sorted({verb for _state, verb in TRANSITIONS})
RUN_AGAIN = (Ending.RETRY, Ending.FAILED, Ending.CRASHED, Ending.TIMED_OUT)


def running(attempts: int = 1, failures: int = 0) -> InboxFile:
    return InboxFile(
        "1" * 32, "main", "", "a.csv", 1, 2, 3, 4, state=State.RUNNING, attempts=attempts, failures=failures
    )


def after(ending: Ending, file: InboxFile, **values: object) -> Decision:
    return decide(file, Report(file.id, ending, **values), LIMITS, jitter=lambda: 1.0)  # type: ignore[arg-type]


# The table


def test_every_state_is_open_or_final() -> None:
    assert set(State) == OPEN | FINAL
    assert not OPEN & FINAL


def test_every_state_but_the_first_is_reached() -> None:
    assert set(TRANSITIONS.values()) == set(State) - {State.CLAIMING}


def test_only_these_verbs_leave_a_final_state() -> None:
    final = {(state, verb) for state, verb in TRANSITIONS if state in FINAL}
    assert final == {(State.DONE, "retry"), (State.DONE, "reopen"), (State.LOST, "find")}


def test_a_verb_leads_to_one_state() -> None:
    for verb in VERBS:
        assert len({TRANSITIONS[state, verb] for state in sources(verb)}) == 1


# What follows


@pytest.mark.parametrize(
    ("ending", "verb", "outcome", "reason", "failures", "charged"),
    [
        (Ending.PROCESSED, "decide", Outcome.PROCESSED, "processed", 0, False),
        (Ending.REJECTED, "decide", Outcome.ERROR, "rejected", 1, True),
        (Ending.INPUT_CHANGED, "decide", Outcome.ERROR, "input changed", 1, True),
        (Ending.RETRY, "wait", None, "", 1, True),
        (Ending.FAILED, "wait", None, "", 1, True),
        (Ending.CRASHED, "wait", None, "", 1, True),
        (Ending.TIMED_OUT, "wait", None, "", 1, True),
        (Ending.RELEASED, "release", None, "", 0, False),
    ],
)
def test_the_first_run(
    ending: Ending, verb: str, outcome: Outcome | None, reason: str, failures: int, charged: bool
) -> None:
    file = running()
    delay = 2.0 if verb == "wait" else 0.0
    assert after(ending, file) == Decision(verb, 1, failures, outcome, reason, delay, charged)


@pytest.mark.parametrize("ending", [Ending.UNAVAILABLE, Ending.BROKEN])
@pytest.mark.parametrize("begun", [True, False])
def test_a_fault_of_the_set_up_costs_nothing(ending: Ending, begun: bool) -> None:
    file = running(attempts=LIMITS.max_attempts, failures=2)
    assert after(ending, file, begun=begun) == Decision("release", LIMITS.max_attempts - 1, 2)


@pytest.mark.parametrize("ending", Ending)
def test_a_file_that_never_began_costs_nothing(ending: Ending) -> None:
    file = running(attempts=LIMITS.max_attempts, failures=2)
    verb = "lose" if ending is Ending.MISSING else "release"
    assert after(ending, file, begun=False) == Decision(verb, LIMITS.max_attempts - 1, 2)


def test_attempts_are_never_negative() -> None:
    assert after(Ending.RELEASED, running(attempts=0), begun=False).attempts == 0


@pytest.mark.parametrize("ending", RUN_AGAIN)
def test_failures_run_out(ending: Ending) -> None:
    assert after(ending, running(attempts=2, failures=1)).verb == "wait"
    last = after(ending, running(attempts=3, failures=2))
    assert (last.verb, last.outcome, last.reason) == ("decide", Outcome.ERROR, "too many failures")
    assert (last.failures, last.charged) == (3, True)


@pytest.mark.parametrize("ending", RUN_AGAIN)
def test_attempts_run_out(ending: Ending) -> None:
    last = after(ending, running(attempts=5, failures=0))
    assert (last.verb, last.reason, last.failures, last.charged) == ("decide", "too many attempts", 1, True)


def test_stops_run_out_without_blame() -> None:
    assert after(Ending.RELEASED, running(attempts=4)).verb == "release"
    file = running(attempts=5, failures=1)
    assert after(Ending.RELEASED, file) == Decision("decide", 5, 1, Outcome.ERROR, "too many attempts")


@pytest.mark.parametrize("seconds", [0.0, 7.5, 86400.0])
def test_a_handler_may_say_when(seconds: float) -> None:
    assert after(Ending.RETRY, running(), after=seconds).delay == seconds


@given(attempts=st.integers(1, 12), failures=st.integers(0, 12), ending=st.sampled_from(Ending), begun=st.booleans())
def test_a_decision_is_one_thing_and_legal(attempts: int, failures: int, ending: Ending, begun: bool) -> None:
    decision = after(ending, running(attempts, failures), begun=begun)
    assert decision.verb in ("decide", "wait", "release", "lose")
    assert (decision.outcome is not None) == (decision.verb == "decide") == bool(decision.reason)
    assert decision.delay == 0.0 or decision.verb == "wait"
    assert decision.failures == failures + decision.charged
    assert attempts - 1 <= decision.attempts <= attempts
    assert (State.RUNNING, decision.verb) in TRANSITIONS


@given(
    endings=st.lists(st.sampled_from([*RUN_AGAIN, Ending.RELEASED])), failures=st.integers(1, 9), most=st.integers(1, 9)
)
def test_no_file_runs_for_ever(endings: list[Ending], failures: int, most: int) -> None:
    """Whatever happens to it once it has begun, at most `max_attempts` runs end its life."""
    limits = Limits(max_failures=failures, max_attempts=most)
    file = running(attempts=0)
    for run, ending in enumerate(endings, 1):
        file = file._replace(attempts=file.attempts + 1)
        decision = decide(file, Report(file.id, ending), limits)
        assert run <= most
        if decision.verb == "decide":
            return
        assert decision.failures < failures
        file = file._replace(attempts=decision.attempts, failures=decision.failures)
    assert len(endings) < most


# Backoff


def test_backoff_doubles_up_to_the_longest() -> None:
    delays = [backoff(failures, LIMITS, lambda: 1.0) for failures in range(1, 8)]
    assert delays == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_jitter_spreads_over_all_of_it() -> None:
    assert backoff(3, LIMITS, lambda: 0.0) == 0.0
    assert backoff(3, LIMITS, lambda: 0.25) == 2.0


@given(
    failures=st.integers(0, 10**9), first=st.floats(0, 1e6), longest=st.floats(0, 1e6), jitter=st.floats(0, 1),
)  # fmt: skip
def test_backoff_is_bounded(failures: int, first: float, longest: float, jitter: float) -> None:
    assert 0.0 <= backoff(failures, Limits(first=first, longest=longest), lambda: jitter) <= longest


@given(st.lists(st.text(min_size=1, max_size=4), min_size=8, max_size=8, unique=True))
def test_a_batch_waits_together(batches: list[str]) -> None:
    """A program that asked for all of its batch to be tried again gets it as a batch again."""
    delays = []
    for batch in batches:
        files = [running(attempts=1)._replace(id=number, batch=batch) for number in "abc"]
        ended = [conclude(one, Report(one.id, Ending.RETRY), LIMITS, "", 5.0, together=True) for one in files]
        assert len({one.file.not_before for one in ended}) == 1
        delays.append(ended[0].delay)
    assert len(set(delays)) == len(batches)
