"""Many files at once, or none. Each run has a fresh folder: on ext4, creating files is slow for minutes after a mass
deletion."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from candidates import Candidate, running
from measured import Measured
from meter import Cost, cost, resident

from support.load import files
from support.wait import wait_until

_TELLING = 1_000  # files whose pace says something
STALL = 60.0  # seconds without a new appearance: what has not come by then is lost. A pass over a million takes 12
_LONGEST = 3600.0  # seconds for one run
_TICK = 0.004  # seconds between two times that a file system tells apart


def prepare(folder: Path) -> None:
    """The folders every candidate needs; and what other runs left to be written is written, at nobody's cost."""
    os.sync()
    for name in ("inbound", "processed"):
        (folder / name).mkdir(parents=True)


def backlog(candidate: Candidate, folder: Path, count: int, size: int = 1024) -> Measured:
    """Files of `size` bytes are there before it starts, just written."""
    prepare(folder)
    _make(folder / "inbound", count, size)
    return _clear(candidate, folder, count, size)


def old_backlog(candidate: Candidate, folder: Path, count: int) -> Measured:
    """Files are there before it starts, long since on the disk: what one run has processed, the next one finds again.

    To make so many anew for each, and to remove them all, takes hours.
    """
    prepare(folder)
    kept = folder.parent / f"{count}-files"
    if kept.exists():
        kept.rename(folder / "inbound")
    else:
        _make(folder / "inbound", count)
        os.sync()
    measured = _clear(candidate, folder, count)
    if not measured.lost:
        (folder / "processed").rename(kept)
    return measured


def _make(folder: Path, count: int, size: int = 1024) -> None:
    for name, content in files(count, size=size):
        _write(folder, name, content)


def _clear(candidate: Candidate, folder: Path, count: int, size: int = 1024) -> Measured:
    """From its exec to the last appearance in processed/."""
    with running(candidate, folder) as run:
        wait_until(lambda: any((folder / "processed").iterdir()), "the first file in processed/", _LONGEST)
        parent = resident(run.process.pid)
        _await_all(folder, count)
        measured = _rates(folder, count, run.since, 0.0, cost(run.process.pid))
        ready = run.ready and run.ready - run.since
        return replace(measured, ready=ready, parent_first=parent, bandwidth=measured.rate * size)


def burst(candidate: Candidate, folder: Path, count: int) -> Measured:
    """Files are written under temporary names and renamed in, as fast as that goes, while it waits for them."""
    prepare(folder)
    with running(candidate, folder) as run:
        run.wait_ready()
        before = cost(run.process.pid).cpu
        since = time.time()
        for name, content in files(count):
            upload(folder / "inbound", name, content)
        _await_all(folder, count)
        return _rates(folder, count, since, before, cost(run.process.pid))


def idle(candidate: Candidate, folder: Path, seconds: float) -> Measured:
    """Nothing to do: a share of one core, and the memory it keeps."""
    prepare(folder)
    with running(candidate, folder) as run:
        run.wait_ready()
        time.sleep(1.0)  # what start-up left to do
        before = cost(run.process.pid).cpu
        time.sleep(seconds)
        after = cost(run.process.pid)
    spent = (after.cpu - before) / seconds * 100
    return Measured(idle=spent, rss=after.rss, parent=after.parent, child=after.child)


def upload(folder: Path, name: bytes, content: bytes) -> float:
    """Returns the instant of its rename, seconds on the monotonic clock."""
    _write(folder, b"." + name, content)
    raw = os.fsencode(folder)
    now = time.monotonic()
    os.rename(os.path.join(raw, b"." + name), os.path.join(raw, name))
    return now


def _write(folder: Path, name: bytes, content: bytes) -> None:
    with open(os.path.join(os.fsencode(folder), name), "wb", buffering=0) as stream:
        stream.write(content)


def _await_all(folder: Path, count: int) -> None:
    """Until all have appeared, or nothing more appears. Look rarely: it costs the candidate's cores."""
    every = 0.02 + count / 200_000
    seen, changed = 0, time.monotonic()

    def over() -> bool:
        nonlocal seen, changed
        now, found = time.monotonic(), _count(folder / "processed")
        if found > seen:
            seen, changed = found, now
        return seen >= count or now - changed > STALL

    wait_until(over, f"{count} files in processed/", _LONGEST, every)


def _count(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(1 for _ in entries)


def _rates(folder: Path, count: int, since: float, cpu_before: float, spent: Cost) -> Measured:
    """A rename sets the time of change of an inode (in steps of a tick), so processed/ itself tells when."""
    with os.scandir(folder / "processed") as entries:
        times = sorted(entry.stat(follow_symlinks=False).st_ctime for entry in entries)
    tenth = len(times) // 10
    return Measured(
        rate=len(times) / max(times[-1] - since, _TICK),
        steady=_pace(times),
        early=_pace(times[:tenth]) if tenth >= _TELLING else None,
        late=_pace(times[-tenth:]) if tenth >= _TELLING else None,
        first=times[0] - since,
        cpu=(spent.cpu - cpu_before) * 1000 / len(times),
        rss=spent.rss,
        parent=spent.parent,
        parent_peak=spent.peak,
        child=spent.child,
        lost=count - len(times),
    )


def _pace(times: Sequence[float]) -> float:
    """Files per second between the first and the last."""
    return len(times) / max(times[-1] - times[0], _TICK)
