"""Between the pipeline and the fetchers: which errands go out, and what their reports change.

As dispatch.py for the workers: reads of the ledger happen here, writes only through the records that `news` and `form`
return, inside the pipeline's transactions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from inboxd.clock import Clock
from inboxd.custody.claim import Taken
from inboxd.custody.failpoints import failpoint
from inboxd.custody.items import Items
from inboxd.errors import LedgerUnavailable
from inboxd.items import SOURCE_FAULTS, Item, ItemState, Judged, judge_ack, judge_fetch
from inboxd.lane import Lane
from inboxd.model import Ending, InboxFile, Outcome, Report, new_id
from inboxd.source import Source
from inboxd.sourcestory import SourceStory
from inboxd.wire import Errand, OrderedItem

_ANSWERED = frozenset({Ending.DONE, Ending.FAILED, Ending.REJECTED})  # the source did, for better or worse
_LISTED_OR_UNKNOWN = frozenset({Ending.DONE, Ending.RELEASED})
_QUOTA_LOOK = 60.0  # seconds
_MANY = 1 << 62


class FetchersFront(Protocol):
    """What the pipeline knows of the fetchers."""

    def free(self, source: str) -> int:
        """How many errands it would take now."""

    def dispatch(self, errand: Errand) -> list[tuple[str, Report]]:
        """Have it done; what it returns can't be done any more."""

    def reports(self) -> list[tuple[str, Report]]:
        """What has been reported since the last call: (batch id, report)."""


@dataclass(slots=True)
class Going:
    """An errand on its way to a fetcher. `items` are the new records."""

    source: Source
    verb: str
    files: tuple[OrderedItem, ...]
    items: list[Item] = field(default_factory=list)

    def write(self, ledger: Items) -> None:
        """Before the fetcher hears of it: FETCHING; and that the source may have heard an acknowledgement."""
        ledger.change("tell" if self.verb == "ack" else "fetch", self.items)


@dataclass(slots=True)
class Running:
    """An errand that a fetcher has."""

    source: Source
    verb: str
    left: set[str]


@dataclass(slots=True)
class News:
    """What reports and listings change, before and after it is committed."""

    reports: list[tuple[str, Report]]
    judged: list[tuple[Source, Report, Judged]] = field(default_factory=list)
    found: list[tuple[Source, list[Item]]] = field(default_factory=list)
    new: dict[str, list[Item]] = field(default_factory=dict)  # by source: those that nobody knew

    def write(self, ledger: Items) -> None:
        """In the open transaction."""
        for source, found in self.found:
            self.new[source.name] = ledger.discover(found)
        for verb in ("release", "abandon", "wait", "ack"):
            ledger.change(verb, [judged.item for _source, _report, judged in self.judged if judged.verb == verb])

    def brought(self) -> list[tuple[Lane, list[tuple[Item, Report]]]]:
        """Items whose bytes are here, to be claimed."""
        lanes = {source.lane.name: source.lane for source, _report, judged in self.judged if judged.verb == "hold"}
        return [(lane, self._brought_to(lane)) for lane in lanes.values()]

    def _brought_to(self, lane: Lane) -> list[tuple[Item, Report]]:
        return [(one.item, report) for source, report, one in self.judged if one.verb == "hold" and source.lane is lane]


class Errands:
    """Forms errands, hands them to the fetchers, and judges what comes back."""

    def __init__(self, fetchers: FetchersFront, items: Items, clock: Clock) -> None:
        self.sources: dict[str, Source] = {}
        self.items = items
        self._fetchers = fetchers
        self._clock = clock
        self._reported: list[tuple[str, Report]] = []
        self._running: dict[str, Running] = {}
        self._story = SourceStory(clock)

    def of(self, lane: Lane) -> list[Source]:
        """The sources of an inbox."""
        return [source for source in self.sources.values() if source.lane is lane]

    def busy(self) -> bool:
        """Something is out, or has come back and is not recorded."""
        return bool(self._running or self._reported) or not all(source.is_quiet for source in self.sources.values())

    def collect(self) -> None:
        """A turn begins: take in what the fetchers have to report."""
        self._reported += self._fetchers.reports()
        if self._reported:
            failpoint("fetch.reported")

    # What reports and listings change

    def news(self) -> News | None:
        """Judge what has been reported, and read on in listings; changes nothing yet."""
        if not (self._reported or self.sources):
            return None
        now = self._clock.time()
        news = News(list(self._reported))
        for batch, report in self._reported:
            running = self._running[batch]
            source = running.source
            if running.verb == "fetch":
                news.judged.append((source, report, self._judge_fetch(source, report, now)))
            elif running.verb == "ack":
                judged = judge_ack(source.acking[report.file_id], report, source.limits, now)
                news.judged.append((source, report, judged))
        news.found = list(self._found(now))
        return news if news.reports or news.found else None

    def _found(self, now: float) -> Iterator[tuple[Source, list[Item]]]:
        """A listing lies in incoming/: a disk that is gone is no reason to end. Its source is polled again."""
        for source in self.sources.values():
            if not source.has_found:
                continue
            try:
                found = source.found(now)
            except (OSError, ValueError, TypeError) as error:
                source.listing_lost()
                source.agenda.poll_failed()
                self._story.listing_lost(source, error)
            else:
                yield source, found

    def _judge_fetch(self, source: Source, report: Report, now: float) -> Judged:
        item = source.fetching[report.file_id]
        if report.ending is Ending.DONE and not os.path.exists(source.ordered(item).path):
            report = report._replace(ending=Ending.FAILED, message="its part has gone from incoming/")
        return judge_fetch(item, report, source.limits, now)

    def apply(self, news: News) -> None:
        """The commit is through: memory follows."""
        for batch, report in news.reports:
            self._note(batch, report)
        del self._reported[: len(news.reports)]
        for source, report, judged in news.judged:
            self._follow(source, report, judged)
        for source, _found in news.found:
            source.took(len(news.new[source.name]))
            self._story.found(source, news.new[source.name])

    def _note(self, batch: str, report: Report) -> None:
        """Take one report off the books; what it says of the source, its agenda has to know."""
        running = self._running[batch]
        running.left.discard(report.file_id)
        if not running.left:
            del self._running[batch]
        source = running.source
        if _is_fault(running.verb, report):
            self._story.fault(source, report, source.agenda.failed(report))
        elif report.begun and report.ending in _ANSWERED:
            self._story.works(source, source.agenda.worked())
        else:
            source.agenda.released()
        if running.verb == "poll":
            self._note_poll(source, report)

    def _note_poll(self, source: Source, report: Report) -> None:
        if report.ending is Ending.DONE:
            result = report.result or {}
            source.polled(int(result.get("items", 0)), report.seconds, self._clock.time())
            self._story.polled(source, report)
            return
        source.poll_failed()
        source.agenda.poll_failed()

    def _follow(self, source: Source, report: Report, judged: Judged) -> None:
        """One item's new state, in memory."""
        item = judged.item
        if judged.verb in ("ack", "wait"):
            del source.acking[item.id]
            if judged.verb == "wait":
                source.look(ItemState.ACK_DUE, item.not_before)
        elif judged.verb == "hold":
            source.fetching[item.id] = item
        else:
            del source.fetching[item.id]
            source.look(ItemState.DISCOVERED, item.not_before)
            if judged.verb == "abandon":
                source.forget(item)
        self._story.judged(source, report, judged)

    # Files that were items

    def record(self, taken: Iterable[tuple[Lane, Taken]]) -> None:
        """In the open transaction: HELD, together with CLAIMED; what could not be had is fetched again, as another."""
        for _lane, one in taken:
            held = [self._item(file)._replace(size=file.size) for file in one.claimed if file.source is not None]
            lost = [self._item(file) for file in (*one.gone, *one.strange) if file.source is not None]
            if held:
                self.items.hold(held, self._clock.time())
            if lost:
                self.items.change("release", [_anew(item) for item in lost])

    def _item(self, file: InboxFile) -> Item:
        assert file.source is not None
        return self.sources[file.source].fetching[file.id]

    def recorded(self, taken: Taken) -> None:
        """The commit is through."""
        for file in taken.claimed:
            if file.source is not None:
                self._story.held(self.sources[file.source], self._item(file), file)
        for file in (*taken.claimed, *taken.gone, *taken.strange):
            if file.source is not None:
                source = self.sources[file.source]
                del source.fetching[file.id]
                source.look(ItemState.DISCOVERED)
                source.look(ItemState.ACK_DUE)

    def delivered(self, files: Iterable[InboxFile]) -> None:
        """In the open transaction: a source that waits for success is owed an acknowledgement."""
        processed = [file for file in files if file.source is not None and file.outcome is Outcome.PROCESSED]
        self.items.processed([file.id for file in processed])
        for name in {file.source for file in processed}:
            if name in self.sources:
                self.sources[name].look(ItemState.ACK_DUE)

    # Which errands go out

    def form(self) -> list[Going]:
        """For every source that has a fetcher free: acknowledge, poll, fetch, in this order."""
        going: list[Going] = []
        try:
            for source in self.sources.values():
                room = min(self._fetchers.free(source.name), source.agenda.room())
                if room > 0 and not source.lane.retiring:
                    going.extend(self._for_one(source, room))
        except LedgerUnavailable:
            self.unform(going)
            raise
        return going

    def _for_one(self, source: Source, room: int) -> Iterator[Going]:
        for errand in self._acks(source, room):
            room -= 1
            yield errand
        if room > 0 and not (source.polling or source.has_found) and source.agenda.poll_is_due():
            room -= 1
            yield Going(source, "poll", (source.new_poll(),))
        if room > 0 and self._clock.time() >= source.looks[ItemState.DISCOVERED]:
            if source.may_fetch(self._clock.monotonic()):
                yield from self._fetches(source, room)
            elif source.is_backlogged:
                self._story.backlog(source)

    def _acks(self, source: Source, room: int) -> list[Going]:
        due = [item for item in self._due(source, ItemState.ACK_DUE, source.acking) if item.id not in source.acking]
        errands = [Going(source, "ack", self._orders(source, some), _told(some)) for some in source.together(due)]
        errands = errands[:room]
        source.acking |= {item.id: item for errand in errands for item in errand.items}
        if sum(len(errand.items) for errand in errands) < len(due):
            source.look(ItemState.ACK_DUE)
        return errands

    def _fetches(self, source: Source, room: int) -> list[Going]:
        due = self._allowed(source, self._due(source, ItemState.DISCOVERED, {}))
        begun = [
            item._replace(
                state=ItemState.FETCHING,
                inbox=source.lane.name,
                attempts=item.attempts + 1,
                ack=source.ack,
                message=None,
            )
            for item in due
        ]
        errands = [Going(source, "fetch", self._orders(source, some), some) for some in source.together(begun)][:room]
        source.fetching |= {item.id: item for errand in errands for item in errand.items}
        if sum(len(errand.items) for errand in errands) < len(begun):
            source.look(ItemState.DISCOVERED)
        return errands

    def _orders(self, source: Source, items: list[Item]) -> tuple[OrderedItem, ...]:
        return tuple(source.ordered(item) for item in items)

    def _due(self, source: Source, state: ItemState, out: dict[str, Item]) -> list[Item]:
        """What the ledger has for it; asked only when there may be something."""
        now = self._clock.time()
        if now < source.looks[state]:
            return []
        limit = source.rules.parallel * 25 + len(out)
        found = self.items.due(source.name, state, now, limit)
        if len(found) < limit:
            source.looks[state] = self.items.next_due(source.name, state, now) or math.inf
        return found

    def _allowed(self, source: Source, due: list[Item]) -> list[Item]:
        """Those of them that its backlog and its quota let come now."""
        due, quota = due[: source.room], source.rules.quota
        if quota is None or not due:
            return due
        now = self._clock.time()
        count, size = self.items.taken_between(source.name, now - quota.per, now)  # no later, by a clock since set back
        flying = source.fetching.values()
        left = (quota.items or _MANY) - count - len(flying)
        weight = (quota.bytes or _MANY) - size - sum(map(source.most_of, flying))
        sizes = accumulate(map(source.most_of, due), initial=0)
        allowed = [item for item, before in zip(due[: max(0, left)], sizes, strict=False) if before < weight]
        source.used_up = 0.0
        if not allowed:  # what is on its way looks again when it has come
            source.looks[ItemState.DISCOVERED] = now + _QUOTA_LOOK
            if count >= (quota.items or _MANY) or size >= (quota.bytes or _MANY):
                source.used_up = self.items.first_taken(source.name, now - quota.per, now) + quota.per
                self._story.quota(source, count, size)
        return allowed

    def unform(self, going: Iterable[Going]) -> None:
        """The commit failed: nothing has gone out. Items to be fetched are given back by a report, since after a
        COMMIT that was cut off nobody knows what the ledger says of them."""
        for one in going:
            if one.verb == "fetch":
                batch = self._enter(one)
                self._reported += [(batch, Report(item.id, Ending.RELEASED, begun=False)) for item in one.items]
            elif one.verb == "poll":
                one.source.poll_failed()
            else:
                for item in one.items:
                    del one.source.acking[item.id]
                one.source.look(ItemState.ACK_DUE)

    def _enter(self, going: Going) -> str:
        """Into the books; returns the id of its batch."""
        batch = new_id()
        self._running[batch] = Running(going.source, going.verb, {order.id for order in going.files})
        return batch

    def dispatch(self, going: Going) -> None:
        """To a fetcher, now that the ledger knows."""
        source, batch = going.source, self._enter(going)
        source.agenda.began(going.verb)
        errand = Errand(batch, source.lane.name, source.name, going.verb, going.files)
        self._reported += self._fetchers.dispatch(errand)

    def next_wake(self) -> float:
        """Monotonic seconds when there may be something to do, other than reports."""
        if self._reported or any(source.has_found for source in self.sources.values()):
            return 0.0
        return min((self._wake_of(source) for source in self.sources.values()), default=math.inf)

    def _wake_of(self, source: Source) -> float:
        if self._fetchers.free(source.name) <= 0 or source.lane.retiring:
            return math.inf  # a report will wake us
        now, wall = self._clock.monotonic(), self._clock.time()
        looks = dict(source.looks)
        if source.full:
            looks[ItemState.DISCOVERED] = max(looks[ItemState.DISCOVERED], wall + 1.0)
        moments = [now + max(0.0, look - wall) for look in looks.values()]
        if not (source.polling or source.has_found):
            moments.append(source.agenda.next_poll())
        return max(source.agenda.rests_until(), min(moments))


def _is_fault(verb: str, report: Report) -> bool:
    """Of the source. That a poll brings no listing is, whatever its fetcher died of: no item can be charged for it."""
    no_listing = verb == "poll" and report.begun and report.ending not in _LISTED_OR_UNKNOWN
    return no_listing or report.ending in SOURCE_FAULTS


def _told(items: list[Item]) -> list[Item]:
    return [item._replace(attempts=item.attempts + 1) for item in items]


def _anew(item: Item) -> Item:
    """Its file's row is spent: it becomes another file."""
    return item._replace(state=ItemState.DISCOVERED, id=new_id(), message="its part could not be claimed")
