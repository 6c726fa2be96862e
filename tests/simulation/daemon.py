"""One life of the daemon, put together as app.py does, without its threads and its children."""

from __future__ import annotations

import functools
import os
import posixpath
import tempfile
from pathlib import Path
from typing import Any, cast

import yaml

from inboxd import beneath
from inboxd.config.load import load
from inboxd.config.models import Config
from inboxd.custody import workfolder
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.outcomes import Outcomes
from inboxd.custody.recovery import Recovery, Traces
from inboxd.custody.sends import Sends
from inboxd.dispatch import Dispatcher
from inboxd.errands import Errands
from inboxd.errors import InboxdError
from inboxd.intake.inbox import InboxView
from inboxd.lane import Lane
from inboxd.model import Report
from inboxd.outbox import Outbox
from inboxd.pipeline import Fronts, Pipeline
from inboxd.space import Space
from inboxd.story import Story
from inboxd.wire import Errand, Mark
from simulation.calls import Calls
from simulation.handler import Handler
from simulation.ledger import Shelf
from simulation.pool import SimPool
from simulation.uploader import ROOT
from simulation.world import World

RETRY = {"max_failures": 3, "max_attempts": 10, "first": "1s", "longest": "5s"}


@functools.cache
def configuration(settle: str, durability: str, duplicates: str, claim: str) -> Config:
    """Read by the real loader."""
    rules: dict[str, Any] = {
        "root": ROOT, "settle": {"quiet": "1s"} if settle == "quiet" else settle, "recursive": True, "watch": "poll",
        "layout": "", "handler": {"python": "none:none"}, "retry": RETRY, "duplicates": duplicates,
        "claim": claim,
    }  # fmt: skip
    settings = {
        "state": "/site/state",
        "durability": durability,
        "workers": {"batch_size": 3},
        "inboxes": {"main": rules},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "config.yaml"
        place.write_text(yaml.safe_dump(settings))
        return load(place)


class _Nobody:
    """No fetcher ever comes: pipeline's fronts for sources and destinations."""

    def free(self, source: str) -> int:
        return 0

    def dispatch(self, errand: Errand) -> list[tuple[str, Report]]:
        return []

    def reports(self) -> list[tuple[str, Report]]:
        return []


class StatePath:
    """A path of the simulated disk, as far as outcomes.py asks."""

    def __init__(self, path: str, calls: Calls) -> None:
        self._path, self._calls = path, calls

    def __fspath__(self) -> str:
        return self._path

    @property
    def parent(self) -> StatePath:
        return StatePath(posixpath.dirname(self._path), self._calls)

    def read_bytes(self) -> bytes:
        fd = self._calls.open(self._path, os.O_RDONLY)
        with self._calls.fdopen(fd, "rb") as stream:
            return stream.read()  # type: ignore[no-any-return]


class Life:
    """From a start on. What ends it is an exception; then nothing of it is used again."""

    def __init__(self, world: World, config: Config, shelf: Shelf, handler: Handler, marks: list[Mark] | None) -> None:
        """Starts: recovers, and looks. Raises what the daemon's start raises."""
        clock = world.clock
        workfolder._held.clear()
        beneath._lasting.clear()
        self.world = world
        self.config = config
        self.pool = SimPool(world, handler)
        self.ledger: Ledger = shelf.open()
        lanes = [self._lane(name) for name in self.config.inboxes]
        outcomes = Outcomes(cast(Path, StatePath("/site/state/outcomes.log", calls=world.calls)))
        durable = self.config.durability == "full"
        dispatcher = Dispatcher(self.pool, self.config.workers.batch_size, clock, outcomes, durable=durable)
        fronts = Fronts(dispatcher, Errands(_Nobody(), Items(self.ledger), clock), Outbox(_Nobody(), Sends(self.ledger), clock))  # fmt: skip
        self.pipeline = Pipeline(lanes, self.ledger, fronts, clock, durable=durable)
        recovery = Recovery(
            self.ledger, {lane.name: lane.keeper() for lane in lanes}, Traces(marks, outcomes), Story(clock), clock
        )
        recovery.run()
        self.summary = recovery.summary

    def begin(self) -> None:
        """The pipeline's first turn may come."""
        for lane in self.pipeline.lanes.values():
            lane.load(self.ledger)
            lane.view.start()

    def _lane(self, name: str) -> Lane:
        rules, clock = self.config.inboxes[name], self.world.clock
        view = InboxView(name, rules, self.config.rescan, clock, lambda: None)
        space = Space(name, [rules.folder("work")], self.config.min_free_space, self.config.min_free_inodes)
        return Lane(name, rules, view, self.ledger, space, clock)

    @property
    def lane(self) -> Lane:
        return self.pipeline.lanes["main"]

    def retry(self, file_id: str) -> bool:
        """operator.py, `inboxd retry`; False where it says that it can't be done."""
        try:
            file = self.ledger.get(file_id)
            if file is None:
                return False
            self.pipeline.take_back(self.lane, file)
        except (InboxdError, OSError):
            return False
        return True

    def stop(self) -> None:
        """In good order. What is reported meanwhile is recorded, unless an outage forbids it."""
        self.pipeline.draining = True
        self.pool.drain()
        for _ in range(50):
            self.pipeline.turn()
            if self.pipeline.quiet():
                break
        for lane in self.pipeline.lanes.values():
            lane.close()
        self.ledger.close()
