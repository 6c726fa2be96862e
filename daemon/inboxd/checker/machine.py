"""I12 to I14: the ledger as a file, and the processes."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from inboxd.checker.evidence import Footprint
from inboxd.checker.facts import Facts

WAL_LIMIT = 64 << 20  # bytes


def i12_sound_ledger(facts: Facts) -> Iterator[str]:
    """The ledger is whole, its log bounded, its totals equal to its rows."""
    for problem in facts.ledger.problems:
        yield f"integrity_check: {problem}"
    if facts.ledger.wal_size > WAL_LIMIT:
        yield f"the write-ahead log has {facts.ledger.wal_size} bytes"
    if facts.evidence.newest is not None:
        return  # the totals are of all
    ended = [row for row in facts.rows if row["outcome"] and row["state"] != "LOST"]
    counted = Counter((row["inbox"], row["outcome"]) for row in ended)
    told = Counter({(row["inbox"], row["outcome"]): row["files"] for row in facts.ledger.totals})
    for key in sorted(counted.keys() | told.keys()):
        if counted[key] > told[key] or (counted[key] < told[key] and not facts.evidence.lived):
            yield f"totals of {key} say {told[key]}, there are {counted[key]} rows"


def i13_no_survivors(facts: Facts) -> Iterator[str]:
    """Every process that holds the generation lock belongs to the daemon that runs now."""
    found = list(holders(facts.state / "generation.lock"))
    # One that starts waits with it open, and answers nobody yet.
    daemons = {facts.evidence.daemon, *holders(facts.state / "instance.lock")}
    for pid in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            family = {pid, *(parent.pid for parent in process.parents())}
            if not daemons & family:
                yield f"process {pid} ({' '.join(process.cmdline())[:80]}) outlived its daemon"


def holders(lock: Path) -> Iterator[int]:
    """Processes that have the file open; only our own user's can be seen (proc(5))."""
    if not lock.exists():
        return
    wanted = os.stat(lock)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), wanted):
                        yield int(pid)
                        break


def i14_back_to_baseline(facts: Facts) -> Iterator[str]:
    """Descriptors, threads and memory of the daemon are what they were."""
    before, pid = facts.evidence.before, facts.evidence.daemon
    if before is None or pid is None:
        return
    now = Footprint.of(pid)
    if now.fds > before.fds + 8:
        yield f"{now.fds} open descriptors, {before.fds} before"
    if now.threads > before.threads + 2:
        yield f"{now.threads} threads, {before.threads} before"
    if now.rss > before.rss * 1.5 + (32 << 20):
        yield f"{now.rss >> 20} MiB of memory, {before.rss >> 20} before"
