"""What operators see of the sources, as data. Any thread: it only reads, and each value once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inboxd.intake.remote import Health
from inboxd.items import ItemState
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
    if resting := source.agenda.breaker.text():
        return resting
    going = {
        "polling": source.polling or source.has_listing,
        f"fetching {len(source.fetching)}": source.fetching,
        f"acknowledging {len(source.acking)}": source.acking,
    }
    told = ", ".join(what for what, goes_on in going.items() if goes_on)
    return "; ".join(filter(None, (told, source.full))) or "waits"


def next_poll(source: Source) -> float | None:
    """Seconds until it is asked again, 0.0 when that is due; None while it is being asked, and if it never is."""
    if source.polling or source.has_found:
        return None
    agenda = source.agenda
    left = max(0.0 if agenda.poll_is_due() else agenda.poll_in(), agenda.breaker.left())
    return left if left < math.inf else None
