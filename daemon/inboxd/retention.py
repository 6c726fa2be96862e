"""What is older than its inbox keeps it goes by itself; but not by a wall clock that has just leapt ahead.

Such a clock makes every file look old, and what is removed does not come back when it is set right. Uptime does not
leap, so the two are compared, in each life of the daemon and between lives of one boot. After a reboot nothing can be
told: the clock that the machine starts with is believed.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

from inboxd import events
from inboxd.clock import Clock, boot
from inboxd.config.units import show_duration
from inboxd.custody import disk
from inboxd.custody.retention import Old, Pruned
from inboxd.errors import InboxdError
from inboxd.events import emit

_EVERY = 3600.0  # seconds between two looks for files that are too old
_LEAP = 3600.0  # seconds that a clock may be put forward from one look to the next
_DOUBT = 3 * 86400.0  # seconds in which somebody can notice, and set it back


class Doubt:
    """Whether the wall clock is believed. `memory`: the file that outlives us."""

    def __init__(self, clock: Clock, memory: Path) -> None:
        self._clock = clock
        self._memory = memory
        self._known = self._recall()  # wall clock less uptime, as it was believed last; None: not in this boot
        self._since: float | None = None  # uptime when it was first not believed

    def left(self) -> float:
        """Seconds until it is, if it is not set back before; 0.0 when it is. Raises OSError."""
        uptime = self._clock.uptime()
        offset = self._clock.time() - uptime
        leapt = self._known is not None and offset > self._known + _LEAP
        if leapt and self._since is None:
            self._since = uptime
            emit(events.LIBRARY, logger="retention", message=self._warning(offset))
        if leapt and self._since is not None and (left := self._since + _DOUBT - uptime) > 0.0:
            return left
        self._known, self._since = offset, None
        disk.write_over(self._memory, json.dumps({"boot": boot(), "offset": offset}))
        return 0.0

    def _warning(self, offset: float) -> str:
        ahead = show_duration(float(round(offset - (self._known or 0.0))))
        wait = show_duration(_DOUBT)
        return (
            f"the clock was put forward by {ahead}, so that files look older than they are: for {wait} none is removed "
            "by itself; set the clock right, or run `inboxd prune` if it is"
        )

    def _recall(self) -> float | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(self._memory.read_bytes())
            if known["boot"] == boot():
                return float(known["offset"])
        return None


def remove(old: Old, a_slice: Callable[[str], Pruned]) -> tuple[int, dict[str, str]]:
    """Slice after slice, each given the id that the one before ended with; a warning tells what can't be removed.

    Returns how many are forgotten; and by id, or by inbox when its folder can't be opened, why others are not.
    """
    total, kept, last = 0, {}, ""
    while True:
        try:
            part = a_slice(last)
        except OSError as error:
            kept[old.inbox] = f"{old.folder}: {error.strerror}"
            break
        total += part.forgotten
        kept |= {one: f"{error.filename}: {error.strerror}" for one, error in part.kept.items()}
        if not (last := part.last):
            break
    if kept:
        first = next(iter(kept.values()))
        words = f"{old.inbox}: what is too old can't be removed from {old.folder} ({len(kept)}); the first: {first}"
        emit(events.LIBRARY, logger="retention", message=words)
    return total, kept


def keep(prune: Callable[[], object], doubt: Doubt, stopping: threading.Event) -> None:
    """A thread: in slices between the pipeline's turns, until `stopping`."""
    while not stopping.wait(_EVERY):
        try:
            if doubt.left() == 0.0:
                prune()
        except (InboxdError, OSError) as error:  # an inbox's disk may be away
            emit(events.LIBRARY, logger="retention", message=f"put off: {error}")
