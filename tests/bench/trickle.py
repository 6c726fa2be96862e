"""Files that come one by one: how long each is on its way."""

from __future__ import annotations

import os
import select
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from candidates import Candidate, running
from measured import Measured
from meter import cost
from peers.inotify import names, watch
from scenarios import STALL, prepare, upload

from support.load import files


def trickle(candidate: Candidate, folder: Path, count: int, per_second: int = 200, span: float = 0.0) -> Measured:
    """From rename-in to appearance in processed/, as inotify tells it; what goes beyond the `span` of a `quiet`."""
    prepare(folder)
    appeared: dict[bytes, float] = {}
    with running(candidate, folder) as run:
        run.wait_ready()
        events = watch(str(folder / "processed"))
        before = cost(run.process.pid).cpu
        sent = dict(_paced(folder / "inbound", count, per_second, events, appeared))
        while len(appeared) < count and _collect(events, appeared, STALL):
            pass
        os.close(events)
        spent = cost(run.process.pid)
    latencies = sorted(appeared[name] - sent[name] - span for name in appeared)
    return Measured(
        rate=len(appeared) / (max(appeared.values()) - min(sent.values())),
        cpu=(spent.cpu - before) * 1000 / len(appeared),
        p50=statistics.median(latencies),
        p99=latencies[int(0.99 * (len(latencies) - 1))],
        lost=count - len(appeared),
    )


def _paced(
    inbound: Path, count: int, per_second: int, events: int, appeared: dict[bytes, float]
) -> Iterator[tuple[bytes, float]]:
    """Upload on time, and read what has appeared in between."""
    begin = time.monotonic()
    for number, (name, content) in enumerate(files(count)):
        while (left := begin + number / per_second - time.monotonic()) > 0:
            _collect(events, appeared, left)
        yield name, upload(inbound, name, content)


def _collect(events: int, appeared: dict[bytes, float], timeout: float) -> bool:
    """Note what has appeared; False when nothing did within `timeout` seconds."""
    ready, _, _ = select.select([events], [], [], timeout)
    now = time.monotonic()
    for name in names(events) if ready else ():
        appeared.setdefault(name, now)
    return bool(ready)
