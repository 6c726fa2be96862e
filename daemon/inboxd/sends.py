"""What can happen to a result that is to be sent, and what follows from an errand's report. Pure, as items.py is.

A send is one result for one destination. The result stays in work/, in the results folder of its file, until every send
of that file has come to an end; then it appears in outbound/, or goes.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import NamedTuple

from inboxd.items import SOURCE_FAULTS, Jitter, delay_of
from inboxd.lifecycle import Limits
from inboxd.model import Ending, Report


class SendState(StrEnum):
    """DUE        The destination is to have it, and is tried until it has. Taken by finish, or given up.
    SENT       It has it. Final.
    ABANDONED  Given up: refused too often, or gone from work/. Taken by an operator, who renews or drops it.
    DROPPED    An operator wants it sent no more; its result goes to outbound/ unsent. Final.
    """

    DUE = "DUE"
    SENT = "SENT"
    ABANDONED = "ABANDONED"
    DROPPED = "DROPPED"


_S = SendState

SEND_TRANSITIONS: dict[tuple[SendState, str], SendState] = {
    (_S.DUE, "send"): _S.DUE,  # the destination may have it from here on
    (_S.DUE, "wait"): _S.DUE,
    (_S.DUE, "finish"): _S.SENT,
    (_S.DUE, "abandon"): _S.ABANDONED,
    (_S.DUE, "drop"): _S.DROPPED,
    (_S.ABANDONED, "drop"): _S.DROPPED,
    (_S.ABANDONED, "renew"): _S.DUE,
}

#: In these its result has to stay.
OPEN_SENDS = frozenset({_S.DUE, _S.ABANDONED})


class Send(NamedTuple):
    """One row of the ledger."""

    id: str  # what tells it from every other, here and there: its idempotency key
    file_id: str  # whose handler left it
    destination: str
    name: str  # of the result, below the results folder of its file
    inbox: str
    size: int  # bytes
    state: SendState = SendState.DUE
    attempts: int = 0  # begun
    failures: int = 0  # laid to it
    not_before: float = 0.0  # wall clock seconds; it is not tried before
    message: str | None = None
    due_at: float = 0.0  # wall clock seconds
    ended_at: float | None = None


class JudgedSend(NamedTuple):
    """A send after its report: the new record, the verb that writes it, and what it means for the destination."""

    send: Send
    verb: str  # "finish", "wait", "abandon"
    delay: float = 0.0  # seconds until the next try


def judge_send(send: Send, report: Report, limits: Limits, now: float, jitter: Jitter = random.random) -> JudgedSend:
    """What becomes of a send that was tried. `now`: wall clock, seconds."""
    if report.ending is Ending.DONE:
        return JudgedSend(send._replace(state=_S.SENT, failures=0, message=None, ended_at=now), "finish")
    if not report.begun:
        return JudgedSend(send._replace(attempts=max(0, send.attempts - 1)), "wait")
    if report.ending is Ending.RELEASED:
        return JudgedSend(send, "wait")
    told = send._replace(message=report.message or str(report.ending))
    if report.ending in SOURCE_FAULTS:
        delay = delay_of(report, send.attempts, limits, jitter)
        return JudgedSend(told._replace(not_before=now + delay), "wait", delay)
    failures = send.failures + 1
    if report.ending is Ending.REJECTED or failures >= limits.max_failures:
        return JudgedSend(told._replace(state=_S.ABANDONED, failures=failures), "abandon")
    delay = delay_of(report, failures, limits, jitter)
    return JudgedSend(told._replace(failures=failures, not_before=now + delay), "wait", delay)
