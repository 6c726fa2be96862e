"""When a source is asked, and when it is left in peace. Pure: clocks and dice are handed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from inboxd.clock import Clock
from inboxd.errors import IllegalTransition
from inboxd.items import LONGEST_ASKED
from inboxd.lifecycle import Limits, backoff

LOOK_AHEAD = 30.0  # seconds: a jump of the wall clock is noticed within them
_JITTER = 0.1  # of an interval
_MOST_FAILURES = 5  # in a row, before a source rests
_STEP_BACK = 1.0  # seconds by which a wall clock may be slewed between two looks

Jitter = Callable[[], float]  # from 0.0 to 1.0


class Schedule(Protocol):
    """When a source is polled."""

    def left(self) -> float:
        """Seconds until the next poll; 0.0 when it is due."""

    def wait(self) -> float:
        """Seconds until it is worth asking again, which may be before the poll is due."""

    def begin(self) -> None:
        """A poll begins: choose the next moment."""


class Every(Schedule):
    """At intervals, each a tenth longer or shorter at random. On the monotonic clock; due at once at first."""

    def __init__(self, span: float, clock: Clock, jitter: Jitter = random.random) -> None:
        self._span = span
        self._clock = clock
        self._jitter = jitter
        self._next = clock.monotonic()

    def left(self) -> float:
        return max(0.0, self._next - self._clock.monotonic())

    def wait(self) -> float:
        return self.left()

    def begin(self) -> None:
        self._next = self._clock.monotonic() + self._span * (1.0 - _JITTER + 2.0 * _JITTER * self._jitter())


class Cron(Schedule):
    """At the moments of a cron expression in a time zone. On the wall clock, which may jump.

    Moments that were jumped over, or slept through, are made good by one poll. When the clock is set back, the moments
    that come again are taken again.
    """

    def __init__(self, expression: str, zone: str, clock: Clock) -> None:
        self._expression = expression
        self._zone = ZoneInfo(zone)
        self._clock = clock
        self._seen = clock.time()
        self._next = next_moment(expression, self._zone, self._seen)

    def left(self) -> float:
        now = self._clock.time()
        if now < self._seen - _STEP_BACK:
            self._next = next_moment(self._expression, self._zone, now)
        self._seen = now
        return max(0.0, self._next - now)

    def wait(self) -> float:
        return min(self.left(), LOOK_AHEAD)

    def begin(self) -> None:
        self._seen = self._clock.time()
        self._next = next_moment(self._expression, self._zone, self._seen)


def next_moment(expression: str, zone: ZoneInfo, after: float) -> float:
    """The first moment of a valid cron expression after an instant, both in seconds since the epoch; inf if none is.

    Where clocks are put forward, a fixed hour that is left out comes at once after the gap; where they are put back,
    it comes once (as in Debian's cron(8)).
    """
    from cronsim import CronSim

    begin = datetime.fromtimestamp(math.floor(after), zone)
    moments = (moment.timestamp() for moment in CronSim(expression, begin))
    return next((moment for moment in moments if moment > after), math.inf)  # in a second hour, some lie before


def schedule(every: float, cron: str | None, zone: str | None, clock: Clock) -> Schedule:
    """What `every`, or `cron` and `zone`, of a source mean."""
    return Cron(cron, zone or "UTC", clock) if cron else Every(every, clock)


class Health(StrEnum):
    """CLOSED   The source works, as far as we know; everything passes, but for a pause that it asked for. Taken by
             trip: after five failures in a row, or the first refusal.
    OPEN     It is away or refuses us, and rests: nothing passes until the rest is over. Taken by probe, or by the
             success of an errand that was under way.
    PROBING  The rest is over, and one errand is under way to see; nothing else passes. Taken by succeed, or by fail
             and release, which open it again.
    """

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    PROBING = "PROBING"


_H = Health

TRANSITIONS: dict[tuple[Health, str], Health] = {
    (_H.CLOSED, "succeed"): _H.CLOSED,
    (_H.CLOSED, "fail"): _H.CLOSED,
    (_H.CLOSED, "trip"): _H.OPEN,
    (_H.OPEN, "probe"): _H.PROBING,
    (_H.OPEN, "fail"): _H.OPEN,  # of errands that were under way
    (_H.OPEN, "succeed"): _H.CLOSED,
    (_H.PROBING, "succeed"): _H.CLOSED,
    (_H.PROBING, "fail"): _H.OPEN,
    (_H.PROBING, "release"): _H.OPEN,
}


def follow(health: Health, event: str) -> Health:
    """The state after `event`; raises IllegalTransition where the table has no such arrow."""
    try:
        return TRANSITIONS[health, event]
    except KeyError:
        raise IllegalTransition(f"a source that is {health} has no arrow {event!r}") from None


class Breaker:
    """Keeps errands from a source that is away or refuses us. Instants in monotonic seconds."""

    def __init__(self, limits: Limits, clock: Clock, jitter: Jitter = random.random, *, seldom: float = 0.0) -> None:
        """`seldom`: the least seconds between two tries while it refuses us."""
        self.health = Health.CLOSED
        self.failures = 0  # in a row
        self.is_refused = False
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._seldom = seldom
        self._rests = 0  # of this outage
        self._until = -math.inf
        self._since = 0.0  # when the first failure in a row was reported
        self._reason = ""

    @property
    def lets_pass(self) -> bool:
        """An errand may go now. Say begin() when it does."""
        return self.health is not Health.PROBING and self.left() == 0.0

    def left(self) -> float:
        """Seconds until an errand may go; inf while one is under way to see."""
        if self.health is Health.PROBING:
            return math.inf
        return max(0.0, self._until - self._clock.monotonic())

    def begin(self) -> None:
        """An errand goes. After a rest it is the only one until its end is known."""
        if self.health is not Health.CLOSED:
            self.health = follow(self.health, "probe")

    def succeed(self) -> float | None:
        """The source did as it was told. Returns the seconds of the outage that this ends, if it ends one."""
        was_away = self.health is not Health.CLOSED
        self.health = follow(self.health, "succeed")
        self.failures = self._rests = 0
        self.is_refused = False
        if not was_away:
            return None  # a pause that it asked for goes on
        self._until = -math.inf
        return self._clock.monotonic() - self._since

    def fail(self, reason: str, *, refused: bool = False, after: float | None = None) -> bool:
        """The source was away, or refused us; `after`: the seconds for which it asked us to wait.

        True when somebody has to be told: an outage begins, or it turns out to be a refusal.
        """
        now, before = self._clock.monotonic(), self.health
        if not self.failures:
            self._since = now
        self.failures += 1
        self._reason = reason
        trips = before is Health.CLOSED and (refused or self.failures >= _MOST_FAILURES)
        self.health = follow(before, "trip" if trips else "fail")
        told = trips or (refused and not self.is_refused)
        self.is_refused = refused or (self.is_refused and before is Health.OPEN)
        if self.health is Health.OPEN and (told or before is not Health.OPEN):  # else it was under way: nothing new
            self._rests += 1
            self._until = now + self._rest()
        if after is not None:
            self._until = max(self._until, now + min(after, LONGEST_ASKED))
        return told

    def hurry(self) -> None:
        """Somebody wants an errand to go now: its rest, or the pause that it asked for, is over. Its outage is not."""
        self._until = -math.inf

    def release(self) -> None:
        """An errand was given back before its end, so that nothing is known: another one may go and see."""
        if self.health is Health.PROBING:
            self.health = follow(self.health, "release")

    def _rest(self) -> float:
        """Who is refused asks seldom: a wrong password said often locks the account, or bans our address."""
        if self.is_refused:
            return max(self._seldom, self._limits.longest * (0.5 + 0.5 * self._jitter()))
        return backoff(self._rests, self._limits, self._jitter)

    def text(self) -> str:
        """How it is, for people; empty when all is well."""
        failures = "1 failure" if self.failures == 1 else f"{self.failures} failures in a row"
        if self.health is Health.PROBING:
            return f"is tried again after {failures}: {self._reason}"
        if self.health is Health.OPEN:
            what = "refuses us" if self.is_refused else f"rests after {failures}"
            return f"{what}, the next try is in {self.left():.0f} s: {self._reason}"
        if self.left():
            return f"asked us to wait, for {self.left():.0f} s more: {self._reason}"
        return f"does not answer: {failures}: {self._reason}" if self.failures else ""
