"""Whom a configuration has us fetch from and send to: known to the pipeline, with fetchers kept for each."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TypeVar

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.models import Config
from inboxd.destination import Destination
from inboxd.errors import LedgerUnavailable
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.pipeline import Pipeline
from inboxd.pool.pool import Pool
from inboxd.setups import fetchers_of, senders_of
from inboxd.source import Source

One = TypeVar("One", Source, Destination)


class Partners:
    """Used in the pipeline's thread, and before it begins."""

    def __init__(self, pipeline: Pipeline, pool: Pool, clock: Clock) -> None:
        self._pipeline = pipeline
        self._pool = pool
        self._clock = clock

    def connect(self, config: Config) -> None:
        """Those of lanes that go on stay as they are; the others begin anew."""
        lanes, clock = self._pipeline.lanes, self._clock
        sources, destinations = self._pipeline.errands.sources, self._pipeline.outbox.destinations
        for source in _drop_others(sources, lanes):
            source.close()
        _drop_others(destinations, lanes)
        for inbox, rules in config.inboxes.items():
            for name, one in rules.sources.items():
                if name not in sources:
                    sources[name] = Source(name, one, lanes[inbox], clock)
            for name, other in rules.destinations.items():
                if name not in destinations:
                    destinations[name] = Destination(name, other, lanes[inbox], clock)
        self._pool.fetchers.keep(fetchers_of(config))
        self._pool.senders.keep(senders_of(config))
        self._pool.wakeup()
        self._tell_unknown()

    def _tell_unknown(self) -> None:
        """Results whose destination the configuration has no longer."""
        with suppress(LedgerUnavailable):  # told by others; the doctor and the status have them, too
            counts = self._pipeline.outbox.sends.counts()
            for name in sorted(counts.keys() - self._pipeline.outbox.destinations.keys()):
                emit(events.DESTINATION_UNKNOWN, destination=name, count=sum(counts[name].values()))

    def retire(self, config: Config, inboxes: Collection[str]) -> None:
        """What is under way with partners of these inboxes is cut off, to be gone on with under new rules.

        But where work/ is to be another folder, its results must be sent before.
        """
        lanes = self._pipeline.lanes
        sources = {name for inbox in inboxes for name in config.inboxes[inbox].sources}
        cut = [inbox for inbox in inboxes if not lanes[inbox].must_be_empty]
        destinations = {name for inbox in cut for name in config.inboxes[inbox].destinations}
        fetchers, senders = fetchers_of(config).items(), senders_of(config).items()
        self._pool.fetchers.keep({name: both for name, both in fetchers if name not in sources})
        self._pool.senders.keep({name: both for name, both in senders if name not in destinations})
        self._pool.wakeup()


def _drop_others(known: dict[str, One], lanes: dict[str, Lane]) -> list[One]:
    """Forget those whose lane is not among `lanes`, and return them."""
    others = [name for name, one in known.items() if lanes.get(one.lane.name) is not one.lane]
    return [known.pop(name) for name in others]
