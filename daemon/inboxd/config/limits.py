"""What a source or a destination may take in config.yaml: time, and tries."""

from __future__ import annotations

from pydantic import model_validator

from inboxd.config.remote import Count
from inboxd.config.section import Section
from inboxd.config.units import Duration, Interval, show_duration
from inboxd.lifecycle import Limits


class Timeout(Section):
    """How long a source or a destination may take."""

    connect: Interval = 10.0
    """Until it has answered the first time."""
    idle: Interval = 1800.0
    """Without a single byte."""
    total: Interval = 1860.0
    """For one item, one whole listing with all its pages, one acknowledgement or one result, from beginning to end."""

    @model_validator(mode="after")
    def _in_order(self) -> Timeout:
        if self.total < self.connect:
            raise ValueError(
                f"'total' ({show_duration(self.total)}) is shorter than 'connect' ({show_duration(self.connect)}); "
                "raise 'total'"
            )
        return self


class Attempts(Section):
    """What follows when an item can't be fetched, or a result not sent: exponential backoff with full jitter. A source
    or a destination that is away rests likewise, and none of its items or results is charged for that."""

    max_failures: Count = 5
    """Failures laid to an item or a result before it is given up."""
    first: Duration = 1.0
    """The longest first wait; each further one may be twice as long."""
    longest: Duration = 300.0
    """No wait is longer than this, whatever the number of failures."""

    @model_validator(mode="after")
    def _in_order(self) -> Attempts:
        if self.first > self.longest:
            raise ValueError(
                f"'first' ({show_duration(self.first)}) is longer than 'longest' ({show_duration(self.longest)}); "
                "raise 'longest'"
            )
        return self

    @property
    def limits(self) -> Limits:
        """The same, as lifecycle.backoff() takes it. Attempts that were cut off are not bounded."""
        return Limits(self.max_failures, 1 << 31, self.first, self.longest)
