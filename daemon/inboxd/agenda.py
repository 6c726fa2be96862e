"""What may go to a partner now, and when a source of his is polled: the breaker, and a schedule beside it."""

from __future__ import annotations

import math

from inboxd.clock import Clock
from inboxd.config.sources import Source as Rules
from inboxd.intake.remote import Breaker, Health, schedule
from inboxd.lifecycle import Limits, backoff
from inboxd.model import Ending, Report

_MANY = 1 << 31


class Access:
    """Whether errands may go to one source or destination. Instants in monotonic seconds."""

    def __init__(self, limits: Limits, clock: Clock, *, seldom: float = 0.0) -> None:
        """`seldom`: the least seconds between two tries while it refuses us."""
        self.breaker = Breaker(limits, clock, seldom=seldom)
        self._clock = clock

    def room(self) -> int:
        """How many errands may go now: none while it rests, one when the rest is over."""
        if not self.breaker.lets_pass:
            return 0
        return _MANY if self.breaker.health is Health.CLOSED else 1

    def began(self, _verb: str) -> None:
        """An errand goes."""
        self.breaker.begin()

    def worked(self) -> float | None:
        """It did as it was told. Returns the seconds of the outage that this ends, if it ends one."""
        return self.breaker.succeed()

    def failed(self, report: Report) -> float | None:
        """It was away, or refused us. Returns the seconds of its rest, if somebody has to be told."""
        told = self.breaker.fail(report.message, refused=report.ending is Ending.BROKEN, after=report.after)
        return self.breaker.left() if told else None

    def released(self) -> None:
        """An errand came back before its end."""
        self.breaker.release()

    def rests_until(self) -> float:
        """When an errand may go again; inf while one is under way to see."""
        return self._clock.monotonic() + self.breaker.left()


class Agenda(Access):
    """Of one source: when it is polled, too."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        super().__init__(rules.retry.limits, clock, seldom=rules.every)
        self._limits: Limits = rules.retry.limits
        self._schedule = schedule(rules.every, rules.cron, rules.zone, clock)
        self._again = math.inf  # when a poll that failed is tried again
        self._asked = False

    def ask(self) -> None:
        """An operator wants a poll now, whatever the schedule and the breaker say."""
        self._asked = True
        self.breaker.hurry()

    def began(self, verb: str) -> None:
        """An errand goes."""
        super().began(verb)
        if verb == "poll":
            self._schedule.begin()
            self._again, self._asked = math.inf, False

    def poll_failed(self) -> None:
        """There is no listing: another try comes before the schedule's next."""
        self._again = self._clock.monotonic() + backoff(max(1, self.breaker.failures), self._limits)

    def poll_is_due(self) -> bool:
        """By schedule, after a failure, or since an operator asked."""
        return self._asked or self._schedule.left() == 0.0 or self._clock.monotonic() >= self._again

    def next_poll(self) -> float:
        """When it is worth asking again whether one is due."""
        now = self._clock.monotonic()
        return now if self.poll_is_due() else min(now + self._schedule.wait(), self._again)

    def poll_in(self) -> float:
        """Seconds until the next poll, as far as the schedule goes."""
        return max(0.0, min(self._schedule.left(), self._again - self._clock.monotonic()))
