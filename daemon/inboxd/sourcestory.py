"""What the journal tells of sources and their items: outages once, trouble singly, success a line each up to a rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.units import show_duration
from inboxd.events import emit
from inboxd.items import Item, Judged
from inboxd.model import Ending, InboxFile, Report
from inboxd.progress import LineBudget
from inboxd.source import Source

_QUIET = 3600.0  # seconds between two words about the same quota or backlog


class SourceStory:
    """Turns what became of errands into events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines = LineBudget()
        self._said: dict[tuple[str, str], float] = {}
        self._seconds: dict[str, float] = {}  # by file id: how long its fetch took

    def polled(self, source: Source, report: Report) -> None:
        """A listing has come."""
        result = report.result or {}
        if result.get("cut"):
            emit(events.SOURCE_LISTING_CUT, **_of(source), items=result.get("items", 0))

    def listing_lost(self, source: Source, error: Exception) -> None:
        """It came, and can't be read here."""
        emit(events.SOURCE_LISTING_LOST, **_of(source), message=str(error), delay=source.agenda.poll_in())

    def found(self, source: Source, new: Sequence[Item]) -> None:
        """These are new; with the last of a listing the poll is told."""
        if events.is_told(events.ITEM_DISCOVERED):
            for item in new:
                emit(events.ITEM_DISCOVERED, **_of(source), **_about(item))
        if not source.has_found:
            emit(
                events.SOURCE_POLLED, **_of(source), items=source.listed, new=source.new, seconds=source.poll_seconds
            )  # fmt: skip

    def fault(self, source: Source, report: Report, rest: float | None) -> None:
        """The source failed us; with a `rest` in seconds somebody has to be told."""
        if rest is not None:
            event = events.SOURCE_REFUSED if report.ending is Ending.BROKEN else events.SOURCE_AWAY
            emit(event, **_of(source), message=report.message, delay=rest)

    def works(self, source: Source, outage: float | None) -> None:
        """It answers; `outage`: after so many seconds."""
        if outage is not None:
            emit(events.SOURCE_BACK, **_of(source), seconds=outage)

    def judged(self, source: Source, report: Report, judged: Judged) -> None:
        """What became of one item; what is here is told when it is claimed."""
        item = judged.item
        about: dict[str, Any] = {**_of(source), **_about(item), "message": report.message, "delay": judged.delay}
        if judged.verb == "hold":
            self._seconds[item.id] = report.seconds
        elif judged.verb == "abandon":
            reason = "rejected" if report.ending is Ending.REJECTED else "too many failures"
            emit(events.ITEM_ABANDONED, **about, attempt=item.attempts, reason=reason)
        elif judged.verb == "release" and judged.delay:
            emit(events.ITEM_WAITING, **about, attempt=item.attempts)
        elif judged.verb == "wait" and judged.delay:
            emit(events.ITEM_ACK_WAITING, **about, attempt=item.failures)
        elif judged.verb == "ack":
            emit(events.ITEM_ACKED, **_of(source), **_about(item))

    def held(self, source: Source, item: Item, file: InboxFile) -> None:
        """Its bytes and its row are here."""
        seconds = self._seconds.pop(item.id, 0.0)
        if self._lines.take(1, self._clock.monotonic()):
            emit(events.ITEM_FETCHED, **_of(source), **_about(item), bytes=file.size, seconds=seconds)

    def quota(self, source: Source, items: int, size: int) -> None:
        """It has sent as much as it may; told once an hour."""
        quota = source.rules.quota
        if quota is not None and self._is_news(source, "quota"):
            message = f"{items} items, {size} bytes within {show_duration(quota.per)}"
            emit(events.SOURCE_QUOTA, **_of(source), message=message)

    def backlog(self, source: Source) -> None:
        """Its inbox is full; told once an hour."""
        if self._is_news(source, "backlog"):
            emit(events.SOURCE_BACKLOG, **_of(source), count=source.lane.unfinished())

    def _is_news(self, source: Source, what: str) -> bool:
        now = self._clock.monotonic()
        if now < self._said.get((source.name, what), 0.0):
            return False
        self._said[source.name, what] = now + _QUIET
        return True


def _of(source: Source) -> dict[str, object]:
    return {"source": source.name, "inbox": source.lane.name}


def _about(item: Item) -> dict[str, object]:
    return {"item": item.item, "file": item.name, "file_id": item.id}
