"""What is told regularly: systemd's ping and STATUS, progress and resource lines; and all of `inboxd status`."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from inboxd import __version__, events, sendview, syncing
from inboxd.arrivals import Expectations
from inboxd.clock import Clock
from inboxd.config.models import Config
from inboxd.custody import disk
from inboxd.custody.history import History
from inboxd.downloads import Download, Downloads
from inboxd.errors import LedgerUnavailable
from inboxd.escape import escape
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.model import Outcome, State
from inboxd.outage import LEDGER
from inboxd.pipeline import Pipeline
from inboxd.pool.pool import Pool
from inboxd.resources import Sampler
from inboxd.service import Service
from inboxd.source import Source
from inboxd.sourceview import condition, describe, rests

_PROGRESS = 5.0  # seconds between two looks at the progress
_HANGS = 3.0  # seconds without an answer of ledger or disk, before that is told
_ARRIVALS = 10.0  # seconds between two looks for what is expected
_NOTHING: dict[Outcome, tuple[int, int]] = {}

Totals = dict[str, dict[Outcome, tuple[int, int]]]
Counts = dict[str, dict[State, int]]


class App(Protocol):
    """What a bulletin is about."""

    config: Config
    clock: Clock
    state: str
    pipeline: Pipeline
    pool: Pool
    history: History
    service: Service


class Bulletin:
    """Belongs to the main thread, but for `status`, which any thread may call."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._since, self._began = app.clock.time(), app.clock.monotonic()
        self._sampler = Sampler()
        self._onlooker = Sampler()  # for `status`, whose CPU shares are since the last one
        self._looking = threading.Lock()
        self._downloads = Downloads()
        self._expectations = Expectations(app.config.state, app.history, app.clock)
        self._due = dict.fromkeys(("resources", "progress", "arrivals"), 0.0)
        self._told: dict[str, tuple[int, int]] = {}
        self._ping_every = app.service.watchdog_interval() or math.inf
        self._next_ping = 0.0
        self._answer: Future[None] | None = None

    def turn(self) -> float:
        """Tell what is due. Returns seconds until something is due again."""
        now = self._app.clock.monotonic()
        self._ping(now)
        if now >= self._due["progress"]:
            self._due["progress"] = now + _PROGRESS
            self._tell_progress(now)
            self._tell_downloads(now)
        if now >= self._due["arrivals"]:
            self._due["arrivals"] = now + _ARRIVALS
            self._expectations.start(self._app.config)
        if now >= self._due["resources"]:
            self._due["resources"] = now + self._app.config.resources.every
            with contextlib.suppress(OSError):  # no descriptor is left to look with: the next time, then
                self._tell_resources()
        return max(0.0, min(*self._due.values(), self._next_ping) - now)

    def _ping(self, now: float) -> None:
        """Tell systemd that we live: only if the pipeline has made a turn since the last time, or waits for the
        ledger or a disk.

        Either may hang for longer than systemd waits; a new daemon would hang there as well, and kill running work.
        """
        if now < self._next_ping:
            return
        self._next_ping = now + self._ping_every / 3
        turned = self._answer is None or self._answer.done()
        pipeline = self._app.pipeline
        if turned or pipeline.ledger.asked_at is not None or syncing.under_way(pipeline.thread) is not None:
            self._app.service.ping()
        if turned:
            self._answer = pipeline.ask(lambda: None) if self._ping_every < math.inf else None

    def _tell_progress(self, now: float) -> None:
        """One line per inbox in which something has happened, and the STATUS text."""
        texts = []
        for lane in list(self._app.pipeline.lanes.values()):
            waiting = lane.unfinished()
            figures = (lane.progress.count, waiting)
            text = lane.progress.text(waiting, now, self._halted(lane))
            if waiting:
                texts.append(f"{lane.name} {text}")
            if figures != self._told.get(lane.name, (0, 0)):
                self._told[lane.name] = figures
                if any(figures):  # else a reload has made it anew
                    emit(events.PROGRESS, inbox=lane.name, summary=text)
        resting = [f"source {one.name} {condition(one)}" for one in self._sources() if rests(one)]
        destinations = list(self._app.pipeline.outbox.destinations.values())
        resting += [f"destination {one.name} {sendview.condition(one)}" for one in destinations if sendview.rests(one)]
        troubles = _troubles(list(self._app.pipeline.lanes.values()))
        self._app.service.status(
            "; ".join((self._state(now), *troubles, ", ".join(texts) or "nothing waits", *resting))
        )

    def _state(self, now: float) -> str:
        reasons = self._away()
        asked_at = self._app.pipeline.ledger.asked_at
        if not reasons and asked_at is not None and now - asked_at > _HANGS:
            reasons = [f"the ledger has not answered for {now - asked_at:.0f} s"]
        if reasons:
            return "degraded: " + "; ".join(reasons)
        return "degraded" if self._reasons() else self._app.state.lower()

    def _reasons(self) -> list[str]:
        """Why we are degraded: what is away, and which inboxes take nothing for want of it, or of room."""
        lanes = [lane for lane in list(self._app.pipeline.lanes.values()) if not lane.away]  # told as an outage
        troubles = [f"{lane.name}: {trouble}" for lane in lanes if (trouble := lane.trouble())]
        return self._away() + troubles

    def _away(self) -> list[str]:
        """The outages; and a disk that does not come to the end of a sync."""
        pipeline = self._app.pipeline
        sync = syncing.under_way(pipeline.thread)
        seconds = self._app.clock.monotonic() - sync.since if sync is not None else 0.0
        if sync is None or seconds <= _HANGS:
            return pipeline.outages.reasons()
        return [*pipeline.outages.reasons(), f"the disk of {escape(sync.place())} has not synced for {seconds:.0f} s"]

    def _halted(self, lane: Lane) -> str:
        """What holds up what waits there, nobody knows for how long: in words; "" where nothing does."""
        if self._app.pipeline.outages.is_away(LEDGER):
            return "nothing is counted while the ledger is away"
        if lane.paused is not None:
            return "paused"
        return lane.trouble().partition(":")[0]

    def _sources(self) -> list[Source]:
        return list(self._app.pipeline.errands.sources.values())

    def _tell_downloads(self, now: float) -> None:
        """A line for each that takes long."""
        for download in self._downloads.news(self._look_at_downloads(now), now):
            emit(
                events.FETCH_PROGRESS, source=download.source, inbox=download.inbox, file_id=download.file_id,
                file=download.file, bytes=download.bytes, size=download.size, summary=download.text(),
            )  # fmt: skip

    def _look_at_downloads(self, now: float) -> list[Download]:
        return self._downloads.look(self._app.pool.errands(), now)

    def _tell_resources(self) -> None:
        sample = self._sampler.sample([worker["pid"] for worker in self._app.pool.snapshot() if worker["pid"]])
        queue = sum(lane.unfinished() for lane in list(self._app.pipeline.lanes.values()))
        free = _free(self._app.config.state) or 0
        sample = {**sample, "queue": queue, "disk_free": free}
        emit(events.RESOURCES, summary=self._sampler.text(sample), **sample)

    def _from_ledger(self) -> tuple[Totals, Counts, dict[str, float]]:
        """What the ledger counts; nothing while it is away, which `degraded` tells."""
        history = self._app.history
        try:
            return history.totals(), history.counts(), history.oldest()
        except LedgerUnavailable:
            return {}, {}, {}

    def status(self) -> dict[str, Any]:
        """All of `inboxd status`, as data."""
        app, now = self._app, self._app.clock.monotonic()
        totals, counts, oldest = self._from_ledger()
        ages = {inbox: max(0.0, app.clock.time() - claimed) for inbox, claimed in oldest.items()}
        workers, resources = self._look(now)
        reasons = self._reasons()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "config": str(app.config.file),
            "state": "DEGRADED" if reasons and app.state == "RUNNING" else app.state,
            "degraded": reasons,
            "since": self._since,
            "uptime": now - self._began,
            "durability": app.config.durability,
            "ledger": app.config.ledger_url.partition(":")[0].partition("+")[0],
            "inboxes": [
                {
                    **_inbox(lane, totals.get(lane.name, _NOTHING), counts.get(lane.name, {}), now),
                    **({"eta": None} if self._halted(lane) else {}),
                    "oldest": ages.get(lane.name),
                    "expected": self._expectations.standing(lane.name),
                }
                for lane in list(app.pipeline.lanes.values())
            ],
            "sources": self._describe_sources(),
            "destinations": self._describe_destinations(),
            "downloads": [download.row() for download in self._look_at_downloads(now)],
            "workers": workers,
            "resources": {**resources, "disk_free": _free(app.config.state)},
        }

    def _describe_sources(self) -> list[dict[str, Any]]:
        sources = self._sources()
        try:
            counts = self._app.history.item_counts() if sources else {}
        except LedgerUnavailable:
            counts = {}
        return [
            {
                **describe(source, counts.get(source.name, {})),
                "expected": self._expectations.standing(source.lane.name, source.name),
            }
            for source in sources
        ]

    def _describe_destinations(self) -> list[dict[str, Any]]:
        known = dict(self._app.pipeline.outbox.destinations)
        try:
            counts = self._app.history.send_counts()
        except LedgerUnavailable:
            counts = {}
        told = [sendview.describe(one, counts.get(name, {})) for name, one in known.items()]
        return told + [sendview.describe_unknown(name, counts[name]) for name in counts if name not in known]

    def _look(self, now: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The workers, and what the daemon itself uses."""
        workers = self._app.pool.snapshot()
        with self._looking:
            sample = self._onlooker.sample([worker["pid"] for worker in workers if worker["pid"]])
        shares = {used["pid"]: used["cpu"] for used in sample.pop("workers")}
        return [_worker(worker, shares.get(worker["pid"], 0.0), now) for worker in workers], sample


def _free(folder: Path) -> int | None:
    """Free bytes there; None while it can't be looked at, as when its disk is away."""
    try:
        return disk.free_space(folder)[0]
    except OSError:
        return None


def _troubles(lanes: Sequence[Lane]) -> Iterator[str]:
    """Which inboxes take nothing: a word for each kind of trouble, and their names."""
    kinds = {
        "away": [lane.name for lane in lanes if lane.condition.startswith("away")],
        "low on disk": [lane.name for lane in lanes if lane.space.low is not None],
        "paused": [lane.name for lane in lanes if lane.paused is not None],
    }
    return (f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)


def _worker(facts: dict[str, Any], cpu: float, now: float) -> dict[str, Any]:
    since = facts["since"]
    return {
        "slot": facts["slot"],
        "pid": facts["pid"],
        "state": facts["state"],
        "inbox": facts["inbox"],
        "batch": facts["batch"],
        "file_id": facts["file_id"],
        "file": facts["file"],
        "since": None if since is None else max(0.0, now - since),
        "files": facts["files_done"],
        "rss": facts["rss"],
        "cpu": cpu,
        "restarts": facts["restarts"],
    }


def _inbox(lane: Lane, totals: dict[Outcome, tuple[int, int]], counts: dict[State, int], now: float) -> dict[str, Any]:
    waiting = lane.unfinished()
    figures = {outcome: totals.get(outcome, (0, 0)) for outcome in Outcome}
    return {
        "inbox": lane.name,
        "condition": lane.condition,
        "paused": lane.paused,
        "space": lane.space.low,
        "backlog": lane.view.backlog,
        "claimed": counts.get(State.CLAIMED, 0) + counts.get(State.CLAIMING, 0),
        "running": counts.get(State.RUNNING, 0),
        "waiting": counts.get(State.WAITING, 0),
        "processed": figures[Outcome.PROCESSED][0],
        "errors": figures[Outcome.ERROR][0],
        "quarantined": figures[Outcome.QUARANTINE][0],
        "bytes": sum(size for _count, size in figures.values()),
        "disk_free": _free(lane.work),
        **lane.progress.figures(waiting, now),
    }
