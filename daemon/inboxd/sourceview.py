"""What operators see of the sources, as data. Any thread: it only reads, and each value once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inboxd.intake.remote import Health
from inboxd.items import Item, ItemState
from inboxd.progress import show_span
from inboxd.source import Source

COUNTED = tuple(state for state in ItemState if state is not ItemState.ACKED)


def describe(source: Source, counts: Mapping[ItemState, int]) -> dict[str, Any]:
    """A row of `inboxd status`. `counts`: of its items that are not acknowledged."""
    return {
        "source": source.name,
        "inbox": source.lane.name,
        "kind": source.rules.kind,
        "address": source.rules.address,
        "condition": condition(source),
        "rests": rests(source),
        "next_poll": next_poll(source),
        "polled_at": source.polled_at,
        "listed": source.listed,
        "new": source.new,
        **{state.lower(): counts.get(state, 0) for state in COUNTED},
    }


def rests(source: Source) -> bool:
    """It is away or refuses us."""
    return source.agenda.breaker.health is not Health.CLOSED


def condition(source: Source) -> str:
    """What it is at, or what keeps it."""
    trouble = source.agenda.breaker.text()
    if trouble and not source.agenda.breaker.lets_pass:
        return trouble
    going = {
        "polling": source.polling or source.has_listing,
        f"fetching {len(source.fetching)}": source.fetching,
        f"acknowledging {len(source.acking)}": source.acking,
    }
    told = ", ".join(what for what, goes_on in going.items() if goes_on)
    return "; ".join(filter(None, (trouble, told, source.full))) or "waits"


def next_poll(source: Source) -> float | None:
    """Seconds until it is asked again, 0.0 when that is due; None while it is being asked, and if it never is."""
    if source.polling or source.has_found:
        return None
    agenda = source.agenda
    left = max(0.0 if agenda.poll_is_due() else agenda.poll_in(), agenda.breaker.left())
    return left if left < math.inf else None


# Items


def item_row(item: Item) -> dict[str, Any]:
    """An item as JSON shows it. Its URL stays here: it may let whoever has it in."""
    hidden = {"url", "digest", "inbox"}
    return {key: value for key, value in item._asdict().items() if key not in hidden} | {"state": str(item.state)}


def tell_item(item: Item, now: float) -> str:
    """What it waits for, in a sentence. `now`: wall clock, seconds."""
    return f"item {item.item!r} of source {item.source} {_TELL[item.state](item, now)}"


def _discovered(item: Item, now: float) -> str:
    if item.not_before > now:
        return f"could not be fetched in attempt {item.attempts} ({item.message}); again in {_left(item, now)}"
    last = f", again ({item.message})" if item.message else ""
    return f"is to be fetched as soon as its source allows{last}"


def _fetching(item: Item, _now: float) -> str:
    return f"is being fetched, in attempt {item.attempts}"


def _held(_item: Item, _now: float) -> str:
    return "is here; the source is told when its file is processed"


def _ack_due(item: Item, now: float) -> str:
    if item.not_before > now:
        times = "once" if item.failures == 1 else f"{item.failures} times"
        return f"is here; to tell the source failed {times} ({item.message}); again in {_left(item, now)}"
    return "is here; the source is told next"


def _acked(item: Item, _now: float) -> str:
    return "is here, and the source knows" if item.ack else "is here; the source wants to hear nothing"


def _abandoned(item: Item, _now: float) -> str:
    how = f"`inboxd poll {item.source} --again {item.id}` fetches it after all"
    return f"was given up in attempt {item.attempts} ({item.message}); {how}"


_TELL = {
    ItemState.DISCOVERED: _discovered, ItemState.FETCHING: _fetching, ItemState.HELD: _held,
    ItemState.ACK_DUE: _ack_due, ItemState.ACKED: _acked, ItemState.ABANDONED: _abandoned,
}  # fmt: skip


def _left(item: Item, now: float) -> str:
    return show_span(max(0.0, item.not_before - now))
