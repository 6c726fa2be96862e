"""What is away, since when, and when to try again."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from inboxd import events
from inboxd.clock import Clock
from inboxd.events import emit

LEDGER = "(ledger)"  # no inbox is called so
OUTCOMES = "(outcomes)"  # the log that is kept while the ledger is away
_FIRST, _LONGEST = 0.5, 15.0  # seconds between two tries


def results_of(inbox: str) -> str:
    """What is away when the results that an inbox has sent can't leave work/: that alone must not stop the inbox."""
    return f"(results of {inbox})"


@dataclass(slots=True)
class _Outage:
    reason: str
    since: float
    pause: float
    again: float


class Outages:
    """Keeps the daemon *degraded* while something is away. All instants monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, _Outage] = {}

    def begin(self, what: str, reason: str) -> float:
        """It is away, or still away. Returns the seconds until the next try."""
        now = self._clock.monotonic()
        known = self._open.get(what)
        if known is None:
            emit(events.DEGRADED, reason=reason)
            known = self._open[what] = _Outage(reason, now, _FIRST / 2, now)
        known.reason = reason
        known.pause = min(known.pause * 2, _LONGEST)
        known.again = now + known.pause
        return known.pause

    def end(self, what: str) -> bool:
        """It works. True when it was away until now."""
        known = self._open.pop(what, None)
        if known is not None:
            emit(events.RESUMED, reason=known.reason, seconds=self._clock.monotonic() - known.since)
        return known is not None

    def note(self, what: str, trouble: str) -> None:
        """It was tried: away where there is a word of trouble, and else it works."""
        if trouble:
            self.begin(what, trouble)
        else:
            self.end(what)

    def forget(self, inbox: str) -> None:
        """An inbox has another disk now, or is gone from the configuration."""
        self.end(inbox)
        self.end(results_of(inbox))

    def is_away(self, what: str) -> bool:
        """It was away when it was last tried."""
        return what in self._open

    def must_wait(self, what: str) -> bool:
        """It is away, and it is too early to try again."""
        known = self._open.get(what)
        return known is not None and self._clock.monotonic() < known.again

    def next_try(self, *, of: str = "", but: Container[str] = ()) -> float:
        """Seconds until the earliest next try: of this one; or of any `but` those that nobody tries just now."""
        names = [of] if of else [name for name in self._open if name not in but]
        moments = [self._open[name].again for name in names]
        return max(0.0, min(moments, default=math.inf) - self._clock.monotonic())

    def reasons(self, inbox: str = "") -> list[str]:
        """Why we are degraded, or one `inbox` is; empty when we are not."""
        names = (LEDGER, OUTCOMES, inbox, results_of(inbox)) if inbox else tuple(self._open)
        return [known.reason for name, known in self._open.items() if name in names]
