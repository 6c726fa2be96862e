"""The watch on one inbound folder: watchdog's Observer over our emitter; and when to do without."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver

from inboxd.intake import mounts
from inboxd.intake.emitter import Emitter
from inboxd.intake.hints import Hints
from inboxd.intake.match import OWN_PREFIX
from inboxd.model import new_id

_PROBE = 1.0  # seconds for a probe file's event to arrive


class _Waker(FileSystemEventHandler):
    """watchdog's thread only wakes the pipeline; an exception here would end that thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def dispatch(self, event: FileSystemEvent) -> None:
        self._wake()


class Watch:
    """Kernel events for one folder, as hints."""

    def __init__(self, root: Path, recursive: bool, on_create: bool, hints: Hints, wake: Callable[[], None]) -> None:
        self._root = root
        self._recursive = recursive
        self._make = functools.partial(Emitter, hints=hints, on_create=on_create)
        self._hints = hints
        self._waker = _Waker(wake)
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Begin. Raises OSError (WatchLimit among them): then there is no watch."""
        observer = BaseObserver(self._make)  # type: ignore[arg-type]
        observer.schedule(self._waker, str(self._root), recursive=self._recursive)
        observer.start()
        self._observer = observer

    def stop(self) -> None:
        """End; harmless when there is no watch."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    @property
    def alive(self) -> bool:
        """All its threads live; an observer may outlive its emitter."""
        observer = self._observer
        return observer is not None and observer.is_alive() and all(one.is_alive() for one in observer.emitters)

    @property
    def watches(self) -> int:
        """How many folders are watched."""
        return sum(one.watches for one in self._observer.emitters) if self._observer else 0  # type: ignore[attr-defined]

    def works(self) -> bool:
        """A probe file's event really arrives. Where we may not write, we take it on trust."""
        probe = f"{OWN_PREFIX}probe-{new_id()}"
        arrived = threading.Event()
        self._waker_for(arrived)
        try:
            with open(self._root / probe, "xb"):
                pass
        except OSError:
            return True
        try:
            return arrived.wait(_PROBE)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._root / probe)

    def _waker_for(self, arrived: threading.Event) -> None:
        wake = self._waker._wake

        def once() -> None:
            arrived.set()
            wake()

        self._waker._wake = once


def why_poll(root: Path, choice: str) -> str:
    """Why no kernel events are asked for here; "" when they are."""
    if choice == "poll":
        return "the configuration says so"
    if choice == "auto" and (kind := mounts.network_kind(root)):
        return f"it is on a network file system ({kind})"
    return ""
