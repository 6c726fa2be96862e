"""Free bytes and inodes where an inbox's files lie; claiming pauses below the minimum and resumes by itself."""

from __future__ import annotations

import math
from pathlib import Path

from inboxd import events
from inboxd.config.units import show_size
from inboxd.custody import disk
from inboxd.events import emit

_EVERY = 1.0  # seconds for which an answer holds


class Space:
    """Watches the file systems of some folders on behalf of one inbox. Instants in monotonic seconds."""

    def __init__(self, inbox: str, folders: list[Path], min_bytes: int, min_inodes: int) -> None:
        self._inbox = inbox
        self._folders = folders
        self._min_bytes = min_bytes
        self._min_inodes = min_inodes
        self._asked = -math.inf
        self.low: str | None = None

    def enough(self, now: float) -> bool:
        """There is room. Looks at most once a second; says so when the answer changes."""
        if now - self._asked >= _EVERY:
            self._asked = now
            self._look()
        return self.low is None

    def require(self, min_bytes: int, min_inodes: int) -> None:
        """New minima, after a reload."""
        self._min_bytes, self._min_inodes, self._asked = min_bytes, min_inodes, -math.inf

    @property
    def look_again(self) -> float:
        """While space is low, when to look again; otherwise any time."""
        return -math.inf if self.low is None else self._asked + _EVERY

    def _look(self) -> None:
        before, self.low = self.low, None
        for folder in self._folders:
            free, inodes = disk.free_space(folder)
            if free < self._min_bytes:
                self._tell(before, folder, show_size(free), show_size(self._min_bytes))
            elif inodes < self._min_inodes:
                self._tell(before, folder, f"{inodes} inodes", f"{self._min_inodes} inodes")
        if before is not None and self.low is None:
            free, _ = disk.free_space(self._folders[0])
            emit(events.SPACE_BACK, inbox=self._inbox, free=show_size(free), folder=str(self._folders[0]))

    def _tell(self, before: str | None, folder: Path, free: str, needed: str) -> None:
        self.low = f"only {free} free on {folder}, {needed} wanted"
        if before is None:
            emit(events.SPACE_LOW, inbox=self._inbox, free=free, folder=str(folder), needed=needed)
