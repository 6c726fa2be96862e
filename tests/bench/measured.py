"""What runs show, and how those of two candidates compare."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; None is what its scenario doesn't measure.

    Rates in files per second, CPU in seconds per 1,000 files, memory in bytes, all other times in seconds.
    """

    rate: float | None = None
    bandwidth: float | None = None  # bytes per second, counted like `rate`
    steady: float | None = None  # from the first appearance to the last: start-up left out
    early: float | None = None  # in the first tenth of the files
    late: float | None = None  # in the last tenth
    ready: float | None = None  # from its start to READY
    first: float | None = None  # from its start to the first file in processed/
    cpu: float | None = None
    rss: int | None = None
    parent: int | None = None  # the process itself
    parent_first: int | None = None  # the same, when its first file was in processed/
    parent_peak: int | None = None  # the most it has had
    child: int | None = None  # the largest below it
    p50: float | None = None
    p99: float | None = None
    idle: float | None = None  # per cent of a core
    lost: int | None = None  # files that were never taken up
    status: float | None = None  # `inboxd status --json`
    files: float | None = None  # `inboxd files --json`

    @property
    def between(self) -> float | None:
        """From READY to the first file; None for peers that say READY later than that."""
        wait = None if self.ready is None or self.first is None else self.first - self.ready
        return wait if wait is None or wait >= 0 else None


Results = dict[str, list[Measured]]  # by candidate, a run for each round


def ratios(results: Results, name: str, to: str) -> list[float]:
    """Files per second of `name` to those of `to`, within each round that both have run."""
    pairs = zip(results.get(name, []), results.get(to, []), strict=False)
    return [mine.rate / other.rate for mine, other in pairs if mine.rate and other.rate]


def median(values: list[float]) -> float | None:
    """None of nothing."""
    return statistics.median(values) if values else None
