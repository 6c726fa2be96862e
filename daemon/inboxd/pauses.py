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
        lanes = self._pipeline.lanes
        paused = [lane.name for lane in lanes.values() if lane.paused and not lane.broken]
        try:
            paused += [name for name in self._noted() if name not in lanes]  # a reload may bring them back
            disk.write_over(self._path, "".join(f"{name}\n" for name in paused))
        except OSError as error:
            raise DiskError.of("it is done, but can't be remembered beyond the next stop", error) from error

    def recall(self) -> None:
        """Pause those that are written down."""
        for name in self._noted():
            lane = self._pipeline.lanes.get(name)
            if lane is not None and lane.paused is None:
                lane.pause("an operator said so earlier")

    def _noted(self) -> list[str]:
        return disk.read_noted(self._path).split()
