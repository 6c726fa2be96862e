"""Time, injected everywhere: spans on the monotonic clock, instants for rows and logs on the wall clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What policy and mechanism may know of time."""

    def monotonic(self) -> float:
        """Seconds that never jump (CLOCK_MONOTONIC, clock_gettime(2)); the same in every process of this boot."""

    def time(self) -> float:
        """Seconds since the epoch, UTC; may jump."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
