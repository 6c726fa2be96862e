"""Where watching threads leave what they heard, for the pipeline. A hint may be lost; a scan finds all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from inboxd.intake.match import OWN_PREFIX

_MOST = 20_000  # names kept; beyond that a folder is simply looked through


@dataclass(slots=True)
class Heard:
    """All hints since the last time."""

    names: set[tuple[str, str]] = field(default_factory=set)  # (folder, name)
    folders: set[str] = field(default_factory=set)  # to be looked through
    overflow: bool = False
    root_lost: bool = False


class Hints:
    """Thread-safe by one lock."""

    def __init__(self, takes: Callable[[str], bool]) -> None:
        """`takes`: whether a name can be of interest at all."""
        self._takes = takes
        self._lock = threading.Lock()
        self._heard = Heard()

    @property
    def pending(self) -> bool:
        """There are some that nobody has taken yet."""
        return bool(self._heard.names)

    def name(self, folder: str, name: str) -> bool:
        """Something happened to this entry. False where nobody has to look; a probe must be heard (watch.py)."""
        if not (self._takes(name) or name.startswith(OWN_PREFIX)):
            return False
        with self._lock:
            if len(self._heard.names) < _MOST:
                self._heard.names.add((folder, name))
            else:
                self._heard.folders.add(folder)
        return True

    def folder(self, folder: str) -> None:
        """This folder is new, or too much happened in it."""
        with self._lock:
            self._heard.folders.add(folder)

    def overflow(self) -> None:
        """The kernel dropped events: everything must be looked through."""
        with self._lock:
            self._heard.overflow = True

    def root_lost(self) -> None:
        """The watched folder was deleted, moved or unmounted."""
        with self._lock:
            self._heard.root_lost = True

    def take(self) -> Heard:
        """All there is, and begin anew."""
        with self._lock:
            heard, self._heard = self._heard, Heard()
        return heard
