"""Making durable, and which thread waits for that just now.

A sync takes as long as the disk needs for what others have left to it, too: seconds, minutes, for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple


class Sync(NamedTuple):
    """One that has not come to its end."""

    fd: int
    since: float  # monotonic seconds

    def place(self) -> str:
        """What it makes durable, as the kernel knows it: nothing that has to ask the disk."""
        try:
            return os.readlink(f"/proc/self/fd/{self.fd}")
        except OSError:
            return "a disk"  # it has just come to its end


_under_way: dict[int, Sync] = {}  # by thread


def sync(fd: int) -> None:
    """fsync(2). A failure is never retried on the same data."""
    watched(os.fsync, fd)


def watched(call: Callable[[int], None], fd: int) -> None:
    """Sync by this call."""
    thread = threading.get_ident()
    _under_way[thread] = Sync(fd, time.monotonic())
    try:
        call(fd)
    finally:
        del _under_way[thread]


def under_way(thread: int) -> Sync | None:
    """What this thread waits for. Any thread may ask."""
    return _under_way.get(thread)
