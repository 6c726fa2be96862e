"""The wall clock of a whole daemon, to be set to any time while it runs: clock.c, preloaded."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

from support.shim import compiled

DAY = 86400
YEAR = 365 * DAY


class WallClock:
    """That of this machine plus an offset, which jumps."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / "clock"
        place.write_bytes(bytes(8))
        with place.open("r+b") as stream:
            self._offset = mmap.mmap(stream.fileno(), 8)
        self.env = {"LD_PRELOAD": str(compiled("clock.c")), "INBOXD_CLOCK": str(place)}

    @property
    def ahead(self) -> int:
        """Seconds by which it is ahead of the machine's."""
        return struct.unpack("q", self._offset)[0]

    def jump(self, seconds: int) -> None:
        """Forward, or back where that is negative: in every process at once."""
        struct.pack_into("q", self._offset, 0, self.ahead + seconds)

    def time(self) -> float:
        """What the daemon sees, in seconds since the epoch."""
        return time.time() + self.ahead
