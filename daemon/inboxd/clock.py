"""Time, injected everywhere: spans on the monotonic clock, instants for rows and logs on the wall clock."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Protocol

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4)


class Clock(Protocol):
    """What policy and mechanism may know of time."""

    def monotonic(self) -> float:
        """Seconds that never jump (CLOCK_MONOTONIC, clock_gettime(2)); the same in every process of this boot."""

    def uptime(self) -> float:
        """The same, and what the machine slept counts, too (CLOCK_BOOTTIME)."""

    def time(self) -> float:
        """Seconds since the epoch, UTC; may jump."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def uptime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """Which boot of the machine this is: what was not synced is to be believed in the same one alone.

    Where /proc does not say, it is another one each time.
    """
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())
