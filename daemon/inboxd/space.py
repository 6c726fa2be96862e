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
        self._told = False
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
        self.low, room = None, {}
        for folder in self._folders:
            try:
                free, inodes = room[folder] = disk.free_space(folder)
            except OSError as error:  # its disk is away, which is told by whoever looks after that
                self.low = f"{folder} can't be looked at: {error.strerror}"
                return
            if free < self._min_bytes:
                self._tell(folder, show_size(free), show_size(self._min_bytes))
            elif inodes < self._min_inodes:
                self._tell(folder, f"{inodes} inodes", f"{self._min_inodes} inodes")
        if self._told and self.low is None:
            self._told, first = False, self._folders[0]
            emit(events.SPACE_BACK, inbox=self._inbox, free=show_size(room[first][0]), folder=str(first))

    def _tell(self, folder: Path, free: str, needed: str) -> None:
        self.low = f"only {free} free on {folder}, {needed} wanted"
        if not self._told:
            self._told = True
            emit(events.SPACE_LOW, inbox=self._inbox, free=free, folder=str(folder), needed=needed)
