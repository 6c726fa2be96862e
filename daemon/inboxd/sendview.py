"""What operators see of the destinations, as data. Any thread: it only reads, and each value once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inboxd.destination import Destination
from inboxd.intake.remote import Health
from inboxd.progress import show_span
from inboxd.sends import Send, SendState


def describe(destination: Destination, counts: Mapping[SendState, int]) -> dict[str, Any]:
    """A row of `inboxd status`. `counts`: of its sends that have not come to an end."""
    return {
        "destination": destination.name,
        "inbox": destination.lane.name,
        "kind": destination.rules.kind,
        "address": destination.rules.address,
        "condition": condition(destination),
        "rests": rests(destination),
        "sending": len(destination.sending),
        "due": counts.get(SendState.DUE, 0),
        "abandoned": counts.get(SendState.ABANDONED, 0),
    }


def describe_unknown(name: str, counts: Mapping[SendState, int]) -> dict[str, Any]:
    """Likewise of one that the configuration has no longer."""
    return {
        "destination": name, "inbox": "", "kind": "", "address": "", "condition": unknown(name),
        "rests": True, "sending": 0, "due": counts.get(SendState.DUE, 0),
        "abandoned": counts.get(SendState.ABANDONED, 0),
    }  # fmt: skip


UNKNOWN = "is not in the configuration any more"


def remedy(name: str) -> str:
    """What to do about a destination that the configuration has no longer."""
    return f"put it back and `inboxd reload`, or let go of what waits for it: `inboxd send {name} --drop`"


def unknown(name: str) -> str:
    """How it is with such a one."""
    return f"{UNKNOWN}; {remedy(name)}"


def rests(destination: Destination) -> bool:
    """It is away or refuses us."""
    return destination.access.breaker.health is not Health.CLOSED


def condition(destination: Destination) -> str:
    """What it is at, or what keeps it."""
    going = f"sending {len(destination.sending)}" if destination.sending else "waits"
    return destination.access.breaker.text() or going


def send_row(send: Send) -> dict[str, Any]:
    """A send as JSON shows it."""
    return {**send._asdict(), "state": str(send.state)}


def tell_send(send: Send, now: float) -> str:
    """What it waits for, in a sentence. `now`: wall clock, seconds."""
    return f"result {send.name!r} ({send.id}) {_TELL[send.state](send, now)}"


def _due(send: Send, now: float) -> str:
    if send.not_before > now:
        left = show_span(send.not_before - now)
        return f"was not sent to {send.destination} in attempt {send.attempts} ({send.message}); again in {left}"
    last = f", again ({send.message})" if send.message else ""
    return f"is to be sent to {send.destination} as soon as that allows{last}"


def _abandoned(send: Send, _now: float) -> str:
    how = f"`inboxd send {send.destination} --again {send.id}` tries it again, `--drop {send.id}` lets it be"
    return f"was given up for {send.destination} in attempt {send.attempts} ({send.message}); {how}"


def _sent(send: Send, _now: float) -> str:
    return f"was sent to {send.destination}"


def _dropped(send: Send, _now: float) -> str:
    return f"was dropped, and not sent to {send.destination}"


_TELL = {
    SendState.DUE: _due,
    SendState.SENT: _sent,
    SendState.ABANDONED: _abandoned,
    SendState.DROPPED: _dropped,
}
