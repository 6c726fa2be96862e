"""Remote sources in config.yaml: where items are fetched from, how often, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from inboxd.config.fields import Pattern
from inboxd.config.kinds import address_of, check_kind
from inboxd.config.limits import Attempts, Timeout
from inboxd.config.places import Ftp, Move, Sftp, Store
from inboxd.config.remote import Amount, Count, Cron, Hour, Processes, Zone
from inboxd.config.section import Section
from inboxd.config.units import Interval, Size, show_duration
from inboxd.config.web import Ack, Http

__all__ = [
    "KINDS",
    "Ack",
    "Attempts",
    "Expect",
    "Ftp",
    "Http",
    "Kind",
    "Move",
    "Quota",
    "Sftp",
    "Source",
    "Store",
    "Timeout",
]

Kind = Literal["http", "sftp", "ftp", "store"]
KINDS: tuple[Kind, ...] = ("http", "sftp", "ftp", "store")
_LONGEST = 31 * 86400.0  # seconds: what a quota looks back


class Expect(Section):
    """Files that have to arrive by an hour of the day; an error is logged when they have not."""

    by: Hour
    """The hour, such as `"06:30"`."""
    weekdays: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1)] = [
        "mon", "tue", "wed", "thu", "fri", "sat", "sun",
    ]  # fmt: skip
    """The days on which they are expected."""
    at_least: Count = 1
    """How many, since that hour of the expected day before."""
    zone: Zone
    """The time zone of the hour, such as `Europe/Berlin` or `UTC`."""


class Quota(Section):
    """The most that is fetched within a span; more waits at the source, and a warning says so."""

    items: Count | None = None
    """So many items."""
    bytes: Amount | None = None
    """So many bytes; until it has come, an item of unknown size counts as `max_size`."""
    per: Interval = 86400.0
    """The span, which ends now."""

    @model_validator(mode="after")
    def _has_bounds(self) -> Quota:
        if self.items is None and self.bytes is None:
            raise ValueError("give 'items', 'bytes' or both")
        if self.per > _LONGEST:
            raise ValueError(f"'per' is at most {show_duration(_LONGEST)}")
        return self


class Source(Section):
    """A place that items are fetched from, to become files of the inbox: exactly one of `http`, `sftp`, `ftp` and
    `store`."""

    http: Http | None = None
    sftp: Sftp | None = None
    ftp: Ftp | None = None
    store: Store | None = None
    every: Interval = 60.0
    """How often it is asked for items; each time a tenth of it more or less, so that not all ask at once."""
    cron: Cron | None = None
    """When it is asked, instead of `every`: the five fields of crontab(5)."""
    zone: Zone | None = None
    """The time zone of `cron`, such as `Europe/Berlin` or `UTC`."""
    match: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    """Shell patterns of the names to take."""
    ignore: list[Pattern] = []
    """Shell patterns of names to leave alone, besides those of `ignore_temporary`."""
    ignore_temporary: bool = True
    """Leave names alone that uploaders use while they write, as in an inbox."""
    timeout: Timeout = Timeout()
    min_speed: Size = 0
    """An item that comes slower than so many bytes per second, over a minute, is broken off and tried again."""
    retry: Attempts = Attempts()
    max_size: Amount = 2 << 30
    """A larger item is given up; decoded bytes count."""
    max_items: Count = 100_000
    """A longer listing is cut off here, and a warning says so."""
    parallel: Processes = 4
    """At most so many items are fetched at once, each by a process of its own."""
    quota: Quota | None = None
    backlog: Count = 10_000
    """Nothing is fetched while the inbox has so many files waiting."""
    expect: Expect | None = None

    @property
    def kind(self) -> Kind:
        """Which of the four it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def address(self) -> str:
        """Where it is, for people: a URL without secrets."""
        return address_of(self.kind, getattr(self, self.kind))

    @model_validator(mode="after")
    def _one_of(self) -> Source:
        check_kind(self, KINDS)
        return self

    @model_validator(mode="after")
    def _has_a_schedule(self) -> Source:
        if self.cron is not None and "every" in self.model_fields_set:
            raise ValueError("'every' and 'cron' exclude each other; remove one")
        if self.cron is None and self.zone is not None:
            raise ValueError("'zone' is for 'cron'; add that, or remove it")
        if self.cron is not None and self.zone is None:
            raise ValueError("'cron' needs a 'zone', such as Europe/Berlin or UTC: hours differ from place to place")
        return self
