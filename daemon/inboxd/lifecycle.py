"""What can happen to a file, at all; and what follows from a report.

Pure: no disk, no clock, no database. The table is drawn in docs/lifecycle.md, and a test keeps the two equal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from inboxd.model import Ending, InboxFile, Outcome, Report, State

#: CLAIMING   The claim is announced in the ledger, and the rename into work/ may or may not have happened.
#:            Brought by claim, before it touches the file; taken by claim (CLAIMED), or by recovery.
#: CLAIMED    In work/, ours, accepted: from here on the file is never lost. Taken by dispatch, or decided without
#:            a run.
#: RUNNING    A worker has it, or a dead worker had it. The attempt is counted already. Taken by its report, which
#:            decides, or lets it wait, or gives it back, or misses it; by recovery, likewise.
#: WAITING    In work/, to be run again, not before `not_before`. Taken by dispatch, or decided without a run.
#: DECIDED    Outcome and destination are recorded, the file may still be in work/. Taken by deliver.
#: DONE       At its destination. Final.
#: ABANDONED  The uploader took or replaced the file before we had it; nothing was ours. Final.
#: LOST       Somebody else removed a file we held. An alarm has been raised. Final, unless it is found in work/ again.
FINAL = frozenset({State.DONE, State.ABANDONED, State.LOST})
OPEN = frozenset(State) - FINAL

TRANSITIONS: dict[tuple[State, str], State] = {
    (State.CLAIMING, "claim"): State.CLAIMED,
    (State.CLAIMING, "abandon"): State.ABANDONED,
    (State.CLAIMED, "dispatch"): State.RUNNING,
    (State.CLAIMED, "decide"): State.DECIDED,  # quarantine, duplicate: no handler is asked
    (State.CLAIMED, "lose"): State.LOST,
    (State.RUNNING, "decide"): State.DECIDED,
    (State.RUNNING, "wait"): State.WAITING,
    (State.RUNNING, "release"): State.CLAIMED,
    (State.RUNNING, "lose"): State.LOST,  # it was gone before its handler was begun
    (State.WAITING, "dispatch"): State.RUNNING,
    (State.WAITING, "decide"): State.DECIDED,
    (State.WAITING, "lose"): State.LOST,
    (State.DECIDED, "deliver"): State.DONE,
    (State.DECIDED, "lose"): State.LOST,
    (State.DONE, "retry"): State.CLAIMED,  # an operator moved it back from errors/
    (State.DONE, "reopen"): State.DECIDED,  # it is in work/ again, by a power cut or since its disk was restored
    (State.LOST, "find"): State.CLAIMED,  # somebody has put it back, or its disk is there again
}


def sources(verb: str) -> tuple[State, ...]:
    """The states that `verb` may leave; what a compare-and-set in the ledger has to ask for."""
    return tuple(state for (state, name) in TRANSITIONS if name == verb)


@dataclass(frozen=True, slots=True)
class Limits:
    """The retry policy of an inbox. Spans in seconds."""

    max_failures: int = 3
    max_attempts: int = 10
    first: float = 1.0
    longest: float = 300.0


class Decision(NamedTuple):
    """What follows from a report: exactly one of an outcome, a wait, a release or a loss."""

    verb: str  # "decide", "wait", "release" or "lose"
    attempts: int
    failures: int
    outcome: Outcome | None = None
    reason: str = ""
    delay: float = 0.0  # seconds; for "wait"
    charged: bool = False


_FINAL_FAULTS = {Ending.REJECTED: "rejected", Ending.INPUT_CHANGED: "input changed"}


def decide(file: InboxFile, report: Report, limits: Limits, jitter: Callable[[], float] = random.random) -> Decision:
    """What follows when `report` comes in for `file`; `file.attempts` already counts the run.

    A file that never began costs nothing. A run cut off by a stop costs an attempt but no failure; when attempts
    run out the file goes to errors/, so that no file can run for ever.
    """
    if report.ending is Ending.MISSING:
        return Decision("lose", max(file.attempts - 1, 0), file.failures)
    if report.ending in (Ending.UNAVAILABLE, Ending.BROKEN) or not report.begun:
        return Decision("release", max(file.attempts - 1, 0), file.failures)
    if report.ending is Ending.PROCESSED:
        return Decision("decide", file.attempts, file.failures, Outcome.PROCESSED, "processed")
    if report.ending in _FINAL_FAULTS:
        reason = _FINAL_FAULTS[report.ending]
        return Decision("decide", file.attempts, file.failures + 1, Outcome.ERROR, reason, charged=True)
    if report.ending is Ending.RELEASED:
        if file.attempts >= limits.max_attempts:
            return Decision("decide", file.attempts, file.failures, Outcome.ERROR, "too many attempts")
        return Decision("release", file.attempts, file.failures)
    failures = file.failures + 1
    if failures >= limits.max_failures or file.attempts >= limits.max_attempts:
        reason = "too many failures" if failures >= limits.max_failures else "too many attempts"
        return Decision("decide", file.attempts, failures, Outcome.ERROR, reason, charged=True)
    delay = report.after if report.after is not None else backoff(failures, limits, jitter)
    return Decision("wait", file.attempts, failures, delay=delay, charged=True)


def as_lost(file: InboxFile, now: float) -> InboxFile:
    """The record of a file that somebody else has removed from work/. `now`: wall clock, seconds."""
    return file._replace(state=State.LOST, reason="missing from work/", finished_at=now)


def backoff(failures: int, limits: Limits, jitter: Callable[[], float] = random.random) -> float:
    """Seconds before the next attempt after so many failures: exponential, with full jitter.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: full jitter spends the least work.
    """
    ceiling = min(limits.longest, limits.first * 2.0 ** min(failures - 1, 60))
    return ceiling * jitter()
