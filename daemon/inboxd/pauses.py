"""Which inboxes an operator has paused: that outlives the daemon."""

from __future__ import annotations

from pathlib import Path

from inboxd.custody import disk
from inboxd.errors import DiskError
from inboxd.pipeline import Pipeline


class Pauses:
    """Used by the pipeline's thread, and before that begins."""

    def __init__(self, path: Path, pipeline: Pipeline) -> None:
        self._path = path
        self._pipeline = pipeline

    def remember(self) -> None:
        """Write them down. Raises DiskError."""
        lanes = self._pipeline.lanes.values()
        paused = [lane.name for lane in lanes if lane.paused and not lane.broken]
        try:
            disk.write_over(self._path, "".join(f"{name}\n" for name in paused))
        except OSError as error:
            raise DiskError.of("it is done, but can't be remembered beyond the next stop", error) from error

    def recall(self) -> None:
        """Pause those that are written down."""
        for name in self._path.read_text(encoding="utf-8").split() if self._path.exists() else ():
            lane = self._pipeline.lanes.get(name)
            if lane is not None and lane.paused is None:
                lane.pause("an operator said so, before the last start")
