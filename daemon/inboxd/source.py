"""All that the pipeline knows of one source while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from inboxd.agenda import Agenda
from inboxd.batching import together
from inboxd.clock import Clock
from inboxd.config.sources import Http
from inboxd.config.sources import Source as Rules
from inboxd.intake.match import Matcher
from inboxd.items import Item, ItemState
from inboxd.lane import Lane
from inboxd.lifecycle import Limits
from inboxd.listing import read_listing
from inboxd.model import new_id
from inboxd.progress import show_span
from inboxd.wire import Listed, OrderedItem

_SLICE = 500  # items of a listing taken in per turn


class Source:
    """When to ask it, what is on its way from it, and what it is to hear."""

    def __init__(self, name: str, rules: Rules, lane: Lane, clock: Clock) -> None:
        self.name = name
        self.rules = rules
        self.lane = lane
        self.limits: Limits = rules.retry.limits
        self.ack = _ack(rules)
        self.agenda = Agenda(rules, clock)
        self.polling = ""  # the path of the listing that is being written
        self.fetching: dict[str, Item] = {}  # by file id; until their files are CLAIMED
        self.acking: dict[str, Item] = {}
        self.looks: dict[ItemState, float] = {ItemState.DISCOVERED: 0.0, ItemState.ACK_DUE: 0.0}
        self.listed: int | None = None  # items of the last listing
        self.new = 0  # of them
        self.poll_seconds = 0.0
        self.polled_at: float | None = None  # wall clock seconds
        self.used_up = 0.0  # wall clock seconds: until then nothing is fetched, by its quota
        self._clock = clock
        self._full = ""  # why nothing could be fetched at the last look
        self._incoming = lane.rules.folder("incoming")
        self._matcher = Matcher(rules.match, rules.ignore, rules.ignore_temporary)
        self._twice = rules.sftp is not None or rules.ftp is not None  # an upload there may still grow
        self._sighted: dict[str, str] = {}  # item -> version, of the last listing
        self._seen: dict[str, str] = {}  # likewise, of the one that is being taken in
        self._listing: Iterator[Listed] | None = None
        self._path = ""
        self._unread = 0  # items of it
        self._slice: list[Item] | None = None

    # Polling

    def new_poll(self) -> OrderedItem:
        """The order for a poll, which is under way from now on."""
        self.polling = str(self._incoming / f"{new_id()}.listing")
        return OrderedItem(new_id(), self.polling, name="its listing")

    def poll_failed(self) -> None:
        """There is no listing."""
        _drop(self.polling)
        self.polling = ""

    def polled(self, count: int, seconds: float, now: float) -> None:
        """The listing is written: it is taken in from now on, a slice a turn. `now`: wall clock, seconds."""
        self._path, self.polling = self.polling, ""
        self._listing, self._seen, self._unread = read_listing(self._path), {}, count
        self.listed, self.new, self.poll_seconds, self.polled_at = count, 0, seconds, now

    @property
    def has_listing(self) -> bool:
        """Some of a listing is not taken in yet."""
        return self._listing is not None

    def found(self, now: float) -> list[Item]:
        """The next slice of new items; the same again until `took` is called.

        Raises OSError, ValueError, TypeError when the listing can't be read; then `listing_lost` has to follow.
        """
        if self._slice is None:
            assert self._listing is not None
            listed = list(islice(self._listing, _SLICE))
            self._unread -= len(listed)
            if len(listed) < _SLICE and self._unread > 0:
                raise ValueError(f"it has been cut off: {self._unread} items are missing")
            self._slice = [self._item(one, now) for one in listed if self._is_ready(one)]
            if len(listed) < _SLICE:
                self._listing = None
                self._sighted, self._seen = self._seen, {}
        return self._slice

    def took(self, new: int) -> None:
        """They are in the ledger, and so many of them are new."""
        self._slice = None
        self.new += new
        self.look(ItemState.DISCOVERED)
        if self._listing is None:
            _drop(self._path)

    def listing_lost(self) -> None:
        """What is left of it is given up. What was sighted before stays so: the next poll is compared with that."""
        self._listing, self._slice, self._seen = None, None, {}
        _drop(self._path)

    @property
    def has_found(self) -> bool:
        """`found` has something to give."""
        return self._listing is not None or self._slice is not None

    def _is_ready(self, one: Listed) -> bool:
        if not self._matcher.takes(one.name):
            return False
        if not self._twice:
            return True
        self._seen[one.item] = one.version
        return self._sighted.get(one.item) == one.version

    def _item(self, one: Listed, now: float) -> Item:
        return Item(
            source=self.name, item=one.item, version=one.version, inbox=self.lane.name, id=new_id(now), name=one.name,
            url=one.url, size=one.size, digest=one.digest, ack=self.ack, discovered_at=now,
        )  # fmt: skip

    # Fetching and acknowledging

    def may_fetch(self, now: float) -> bool:
        """The inbox and the disk would take more. `now`: monotonic seconds."""
        lane = self.lane
        if not lane.may_claim(now):
            self._full = f"inbox {lane.name} takes nothing now" if lane.paused is None else ""
            return False
        if self.is_backlogged:
            self._full = f"{lane.unfinished()} files wait in inbox {lane.name} (backlog: {self.rules.backlog})"
        else:
            self._full = "" if lane.has_space(now) else lane.space.low or ""
        return not self._full

    @property
    def full(self) -> str:
        """Why nothing is fetched although something is there; "" where nothing keeps it. Any thread."""
        if self.lane.paused is not None:
            return f"inbox {self.lane.name} is paused"
        left = self.used_up - self._clock.time()
        used_up = f"its quota is used up, and no more comes for {show_span(left)}" if left > 0.0 else ""
        return self._full or used_up

    @property
    def is_backlogged(self) -> bool:
        """As many files wait in its inbox as it may cause to wait."""
        return self.room == 0

    @property
    def room(self) -> int:
        """How many more items it may send before its inbox has enough."""
        return max(0, self.rules.backlog - self.lane.unfinished() - len(self.fetching))

    def look(self, state: ItemState, at: float = 0.0) -> None:
        """The ledger may have some in this state that are due `at` (wall clock seconds)."""
        self.looks[state] = min(self.looks[state], at)

    def ordered(self, item: Item) -> OrderedItem:
        """As a fetcher sees it."""
        return OrderedItem(
            item.id, str(self._incoming / item.part_name), item.item, item.name, item.url, item.size, item.digest,
            item.version, item.attempts,
        )  # fmt: skip

    def most_of(self, item: Item) -> int:
        """How many bytes it may bring."""
        return self.rules.max_size if item.size is None else item.size

    def forget(self, item: Item) -> None:
        """It is given up: what has come of it is not wanted any more."""
        path = self.ordered(item).path
        _drop(path)
        _drop(path + ".from")

    def together(self, items: list[Item]) -> list[list[Item]]:
        """What one errand each brings."""
        return together(items, lambda item: item.size or 0, self.rules.parallel)

    def ask_now(self) -> None:
        """Poll it, and look for what is due, whatever was planned."""
        self.agenda.ask()
        for state in self.looks:
            self.look(state)

    @property
    def is_quiet(self) -> bool:
        """Nothing is on its way from it, or to it."""
        return not (self.polling or self.fetching or self.acking)

    def close(self) -> None:
        """It is not polled any more, and no fetcher writes a listing: what is left of one is of no use."""
        _drop(self._path)
        _drop(self.polling)


def _ack(rules: Rules) -> str:
    """When the source is to hear of an item: "held", "processed", or "" for never."""
    place = getattr(rules, rules.kind)
    if isinstance(place, Http):
        return place.ack.when if place.ack is not None else ""
    return "" if place.after == "leave" else str(place.when)


def _drop(path: str) -> None:
    if path:
        try:
            os.unlink(path)
        except OSError:  # it is not there, or its disk is not; the next start sweeps incoming/
            pass
