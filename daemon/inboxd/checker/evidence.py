"""What whoever checks knows, beside what lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one process holds; `rss` in bytes."""

    fds: int
    threads: int
    rss: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """What it holds now. Raises psutil.Error."""
        process = psutil.Process(pid)
        return cls(process.num_fds(), process.num_threads(), process.memory_info().rss)


@dataclass(frozen=True, slots=True)
class Dropped:
    """One file that was handed to an inbox; names as os.fsdecode gives them."""

    inbox: str
    name: str
    sha256: str
    size: int
    folder: str = ""


@dataclass(frozen=True)
class Evidence:
    """Nothing of it has to be known; the more is, the more is checked."""

    manifest: list[Dropped] | None = None  # every file that was dropped
    offered: tuple[Dropped, ...] = ()  # what sources have; of it, nothing need be here before all is finished
    acked: frozenset[tuple[str, str]] | None = None  # (source, item): what sources were told of
    received: frozenset[tuple[str, str, int]] | None = None  # (key, name, bytes): what destinations have received
    results_lost: bool = False  # somebody removed results from work/
    witness: list[dict[str, Any]] | None = None  # every line the handler wrote
    calm: bool = False  # nothing was killed, stopped or timed out: each run counts once
    set_back: bool = False  # the wall clock was, meanwhile: what it says tells no order
    finished: bool = False  # the daemon had the time to end everything
    rebuilt: bool = False  # the ledger was lost, or an older one put back: it has forgotten earlier runs
    retried: frozenset[str] = frozenset()  # ids an operator took back from errors/: their counters began again
    taken: frozenset[str] | None = frozenset()  # ids whose delivered file somebody took since; None: of any
    daemon: int | None = None  # pid of the daemon that runs now
    before: Footprint | None = None  # ... and what it held when it was young
    newest: int | None = None  # look at so many files at most, besides those on their way; None: at all
    lived: bool = False  # limits may have been others, rows may be pruned, and alarms are told only for a day
    bytes: bool = True  # read every delivered file, and compare

    def may_be_taken(self, file_id: str) -> bool:
        """It need not lie at its destination any more."""
        return self.taken is None or file_id in self.taken
