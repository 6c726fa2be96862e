"""Free bytes and inodes where an inbox's files lie; claiming pauses below the minimum and resumes by itself.

So it does when the kernel says that nothing is left, of a quota or of descriptors perhaps, whatever the numbers say.
"""

from __future__ import annotations

import math
from pathlib import Path

from inboxd import events
from inboxd.config.units import show_size
from inboxd.custody import disk
from inboxd.events import emit

_EVERY = 1.0  # seconds for which an answer holds
_ANYHOW = 10.0  # seconds until somebody asks, though nothing waits
_LONGEST = 15.0  # seconds between two tries to take a file, while there is nothing left


class Space:
    """Watches the file systems of some folders on behalf of one inbox. Instants in monotonic seconds."""

    def __init__(self, inbox: str, folders: list[Path], min_bytes: int, min_inodes: int) -> None:
        self._inbox = inbox
        self._folders = folders
        self._min_bytes = min_bytes
        self._min_inodes = min_inodes
        self._asked = -math.inf
        self._told = False
        self._pause = self._refused_at = self._refused_until = 0.0
        self.refused = ""
        self._low: str | None = None

    @property
    def low(self) -> str | None:
        """What there is too little of, or what else keeps files from coming in, in words; None when there is enough."""
        return self._low or self.refused or None

    def enough(self, now: float) -> bool:
        """There is room, or may be again. Looks at most once a second; says so when the answer changes."""
        if now - self._asked >= _EVERY:
            self._asked = now
            self._look()
        return self._low is None and now >= self._refused_until

    def refuse(self, error: OSError, now: float) -> None:
        """A file could not be taken for want of something: tried again later, longer each time."""
        if not self.refused:
            self._refused_at = now
            self.refused = f"nothing can be moved to {self._folders[0]}: {error.strerror}"
            emit(events.DEGRADED, reason=f"{self._inbox}: {self.refused}")
        self._pause = min(max(_EVERY, 2 * self._pause), _LONGEST)
        self._refused_until = now + self._pause

    def grant(self, now: float) -> None:
        """A file was taken."""
        if self.refused:
            emit(events.RESUMED, reason=f"{self._inbox}: {self.refused}", seconds=now - self._refused_at)
        self._pause, self.refused = 0.0, ""

    def require(self, min_bytes: int, min_inodes: int) -> None:
        """New minima, after a reload."""
        self._min_bytes, self._min_inodes, self._asked = min_bytes, min_inodes, -math.inf

    @property
    def next_look(self) -> float:
        """When to ask, whatever there is to do: who looks in the evening is to know of the night."""
        return self._asked + _ANYHOW

    @property
    def look_again(self) -> float:
        """While space is low, when to look again; otherwise any time."""
        return max(-math.inf if self._low is None else self._asked + _EVERY, self._refused_until)

    def _look(self) -> None:
        self._low, room = None, {}
        for folder in self._folders:
            try:
                free, inodes = room[folder] = disk.free_space(folder)
            except OSError as error:  # its disk is away, which is told by whoever looks after that
                self._low = f"{folder} can't be looked at: {error.strerror}"
                return
            if free < self._min_bytes:
                self._tell(folder, show_size(free), show_size(self._min_bytes))
            elif inodes < self._min_inodes:
                self._tell(folder, f"{inodes} inodes", f"{self._min_inodes} inodes")
        if self._told and self._low is None:
            self._told, first = False, self._folders[0]
            emit(events.SPACE_BACK, inbox=self._inbox, free=show_size(room[first][0]), folder=str(first))

    def _tell(self, folder: Path, free: str, needed: str) -> None:
        self._low = f"only {free} free on {folder}, {needed} wanted"
        if not self._told:
            self._told = True
            emit(events.SPACE_LOW, inbox=self._inbox, free=free, folder=str(folder), needed=needed)
