"""Whether the inboxes' work folders are still where their paths lead: a disk may go, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inboxd.clock import Clock
from inboxd.lane import Lane
from inboxd.outage import Outages

_EVERY = 1.0  # seconds between two looks


class Homes:
    """Keeps an inbox waiting, with all that it holds, while its disk is away. Used by the pipeline's thread."""

    def __init__(self, outages: Outages, clock: Clock) -> None:
        self._outages = outages
        self._clock = clock
        self._next = 0.0

    def look(self, lanes: Iterable[Lane], holds_nothing: Callable[[Lane], bool]) -> None:
        """Once a second, and whenever an inbox that is away is to be tried again.

        What is held stays held, in memory and in the ledger: the folder that comes back is the very one, or is not
        taken for it. `holds_nothing`: any folder may do. Raises LedgerUnavailable.
        """
        due = self._clock.monotonic() >= self._next
        if due:
            self._next = self._clock.monotonic() + _EVERY
        for lane in lanes:
            if (due or lane.away) and not (lane.away and self._outages.must_wait(lane.name)):
                self._look_at(lane, holds_nothing)

    def _look_at(self, lane: Lane, holds_nothing: Callable[[Lane], bool]) -> None:
        work, was_away, before = lane.claims.work, lane.away, lane.claims.work.identity
        lane.away = work.why_away()
        if lane.away and work.why_away(anything=holds_nothing(lane)) == "":
            lane.away = ""
        if lane.away:
            self._outages.begin(lane.name, f"{lane.name}: {work.path} is away: {lane.away}")
        elif was_away or work.identity != before:
            self._outages.end(lane.name)
            lane.view.look_anew()
