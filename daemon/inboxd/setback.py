"""The wall clock was set back: what waits for a moment that it had named must not wait until that comes again."""

from __future__ import annotations

import math
from collections.abc import Iterable

from inboxd.clock import Clock
from inboxd.custody.ledger import Ledger
from inboxd.errands import Errands
from inboxd.items import LONGEST_ASKED
from inboxd.lane import Lane
from inboxd.lifecycle import Limits
from inboxd.outbox import Outbox

_STEP = 60.0  # seconds by which waits may become longer; clocks are slewed, and stepped by little, all the time


class SetBack:
    """Notices it, and has tried at once what would wait too long. Used by the pipeline's thread.

    Files: those whose last attempt began in what is the future now. Items and results: those that are due later than
    the longest wait from now on.
    """

    def __init__(self, ledger: Ledger, errands: Errands, outbox: Outbox, clock: Clock) -> None:
        self._ledger = ledger
        self._errands = errands
        self._outbox = outbox
        self._clock = clock
        self._seen = math.inf  # the first look is for what an earlier life has left

    def look(self, lanes: Iterable[Lane]) -> None:
        """Whenever the pipeline turns. Raises LedgerUnavailable; the next look makes up for it."""
        now, known = self._clock.time(), list(lanes)
        if now < self._seen - _STEP:
            self._hurry(known, now)
        self._seen = now

    def _hurry(self, lanes: list[Lane], now: float) -> None:
        sources, destinations = self._errands.sources.values(), self._outbox.destinations.values()
        with self._ledger.transaction():
            for lane in lanes:
                self._ledger.hurry(lane.name, now)
            for source in sources:
                self._errands.items.hurry(source.name, now + _longest(source.limits))
            for destination in destinations:
                self._outbox.sends.hurry(destination.name, now + _longest(destination.limits))
        for lane in lanes:
            lane.next_waiting = 0.0
        for source in sources:
            for state in source.looks:
                source.look(state)
        for destination in destinations:
            destination.look()


def _longest(limits: Limits) -> float:
    return max(LONGEST_ASKED, limits.longest)
