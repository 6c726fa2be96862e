"""The watch on one inbound folder: watchdog's Observer over our emitter; and when to do without."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from watchdog.events import FileSystemEventHandler
from watchdog.observers.api import BaseObserver

from inboxd import threads
from inboxd.intake import mounts
from inboxd.intake.emitter import Emitter
from inboxd.intake.hints import Hints
from inboxd.intake.match import OWN_PREFIX
from inboxd.model import new_id

_PROBE = 1.0  # seconds for a probe file's event to arrive


class Watch:
    """Kernel events for one folder, as hints."""

    def __init__(self, root: Path, recursive: bool, on_create: bool, hints: Hints, wake: Callable[[], None]) -> None:
        self._root = root
        self._recursive = recursive
        self._make = functools.partial(Emitter, hints=hints, on_create=on_create, heard=self._hear)
        self._heard = threading.Event()
        self._wake = wake
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Begin. Raises OSError (WatchLimit among them): then there is no watch."""
        observer = BaseObserver(self._make)  # type: ignore[arg-type]
        # For its threads only: nothing is queued for a handler.
        observer.schedule(FileSystemEventHandler(), str(self._root), recursive=self._recursive)
        try:
            threads.start(observer)
        except OSError:
            observer.stop()  # its emitter may have begun
            raise
        self._observer = observer

    def _hear(self) -> None:
        """In the emitter's thread: hints are there. An exception here would end that thread."""
        self._heard.set()
        self._wake()

    def stop(self) -> None:
        """End; harmless when there is no watch."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    @property
    def alive(self) -> bool:
        """All its threads live, and the kernel still watches the folder; an observer may outlive its emitter."""
        observer = self._observer
        if observer is None or not observer.is_alive():
            return False
        return all(emitter.is_alive() and emitter.covers("") for emitter in self._emitters())

    def cover(self, folder: str) -> None:
        """A pass has come to this folder: hear of it from now on, if we do not yet. Raises OSError."""
        for emitter in self._emitters():
            if not emitter.covers(folder):
                emitter.cover(folder)

    def _emitters(self) -> list[Emitter]:
        return cast(list[Emitter], list(self._observer.emitters)) if self._observer is not None else []

    def works(self) -> bool:
        """A probe file's event really arrives. Where we may not write, we take it on trust."""
        probe = f"{OWN_PREFIX}probe-{new_id()}"
        self._heard.clear()
        try:
            with open(self._root / probe, "xb"):
                os.unlink(self._root / probe)  # its events come all the same, and nothing is left if we are killed
        except OSError:
            return True
        return self._heard.wait(_PROBE)


def why_poll(root: Path, choice: str) -> str:
    """Why no kernel events are asked for here; "" when they are."""
    if choice == "poll":
        return "the configuration says so"
    if choice == "auto" and (kind := mounts.network_kind(root)):
        return f"it is on a network file system ({kind})"
    return ""
