"""The life of one slot of the pool, and of the child in it. Pure."""

from __future__ import annotations

from enum import StrEnum

from inboxd.errors import IllegalTransition


class ChildState(StrEnum):
    """STARTING  The process runs and has not said Ready. Taken by ready, stop or exit.
    IDLE      Ready, without an order. Taken by hand over, stop or exit.
    BUSY      It has an order. Taken by finish (its last report), stop or exit.
    STOPPING  Asked to end, or killed; may still be finishing a file. Taken by exit, or by abandon.
    EXITED    Reaped, or never started. Taken by spawn, or by wait.
    BACKOFF   The slot waits before the next start. Taken by spawn.
    FATAL     SIGKILL did not end the process (uninterruptible sleep). The slot is out of use until it ends.
    """

    STARTING = "STARTING"
    IDLE = "IDLE"
    BUSY = "BUSY"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    BACKOFF = "BACKOFF"
    FATAL = "FATAL"


_S = ChildState

TRANSITIONS: dict[tuple[ChildState, str], ChildState] = {
    (_S.EXITED, "spawn"): _S.STARTING,
    (_S.BACKOFF, "spawn"): _S.STARTING,
    (_S.STARTING, "ready"): _S.IDLE,
    (_S.IDLE, "hand over"): _S.BUSY,
    (_S.BUSY, "finish"): _S.IDLE,
    (_S.STARTING, "stop"): _S.STOPPING,
    (_S.IDLE, "stop"): _S.STOPPING,
    (_S.BUSY, "stop"): _S.STOPPING,
    (_S.STOPPING, "abandon"): _S.FATAL,
    (_S.STARTING, "exit"): _S.EXITED,
    (_S.IDLE, "exit"): _S.EXITED,
    (_S.BUSY, "exit"): _S.EXITED,
    (_S.STOPPING, "exit"): _S.EXITED,
    (_S.FATAL, "exit"): _S.EXITED,
    (_S.EXITED, "wait"): _S.BACKOFF,
    (_S.BACKOFF, "exit"): _S.EXITED,  # the pool stops while the slot waits
}

LIVE = frozenset({_S.STARTING, _S.IDLE, _S.BUSY, _S.STOPPING, _S.FATAL})


def follow(state: ChildState, event: str) -> ChildState:
    """The state after `event`; raises IllegalTransition where the table has no such arrow."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a child that is {state} has no arrow {event!r}") from None
