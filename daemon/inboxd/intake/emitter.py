"""A small inotify emitter below watchdog's Observer (inotify(7)).

watchdog's own holds what follows a move-out for half a second, and its cost per rename grows with the backlog. This
one reads many events at once, leaves names in `Hints`, and sends a single DirModifiedEvent through the Observer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from typing import Any

from watchdog.events import DirModifiedEvent
from watchdog.observers.api import EventEmitter, EventQueue, ObservedWatch

from inboxd.beneath import open_folder
from inboxd.intake.hints import Hints

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x8, 0x80, 0x100
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_UNMOUNT = 0x400, 0x800, 0x2000
_IN_Q_OVERFLOW, _IN_IGNORED, _IN_ISDIR = 0x4000, 0x8000, 0x40000000
_IN_ONLYDIR, _IN_DONT_FOLLOW = 0x1000000, 0x2000000
_ROOT_LOST = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT

_HEAD = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_READ = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class WatchLimit(OSError):
    """fs.inotify.max_user_watches or max_user_instances is used up."""


class Emitter(EventEmitter):
    """Watches one inbound folder, and those below it when asked to."""

    def __init__(self, queue: EventQueue, watch: ObservedWatch, *, hints: Hints, on_create: bool, **rest: Any) -> None:
        super().__init__(queue, watch, **rest)
        self._hints = hints
        self._on_create = on_create
        self._folders: dict[int, str] = {}
        self._fd = -1
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def on_thread_start(self) -> None:
        """Set the watches, in the caller's thread, so that a failure is the caller's."""
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        self._add("")

    def on_thread_stop(self) -> None:
        """Any thread: end the wait in `queue_events`."""
        os.eventfd_write(self._wake_fd, 1)

    def run(self) -> None:
        """The thread; descriptors are closed by the one who reads them."""
        try:
            super().run()
        finally:
            os.close(self._fd)
            os.close(self._wake_fd)

    def queue_events(self, timeout: float) -> None:
        """One round: wait, read, hint."""
        readable, _, _ = select.select([self._fd, self._wake_fd], [], [])
        if self._fd not in readable:
            return
        heard = False
        for wd, mask, name in _parse(os.read(self._fd, _READ)):
            heard |= self._take(wd, mask, name)
        if heard:
            self.queue_event(DirModifiedEvent(self.watch.path))

    def _take(self, wd: int, mask: int, name: str) -> bool:
        """One event; True when it is worth waking somebody."""
        if mask & _IN_Q_OVERFLOW:
            self._hints.overflow()
            return True
        folder = self._folders.get(wd)
        if folder is None:
            return False
        if mask & _IN_IGNORED:
            del self._folders[wd]
            return False
        if mask & _ROOT_LOST:
            if folder == "":
                self._hints.root_lost()
            return folder == ""
        if mask & _IN_ISDIR:
            return self._new_folder(folder, name)
        if mask & _IN_CREATE and not self._on_create:
            return False
        self._hints.name(folder, name)
        return True

    def _new_folder(self, folder: str, name: str) -> bool:
        if not self.watch.is_recursive:
            self._hints.name(folder, name)
            return True
        below = f"{folder}/{name}" if folder else name
        try:
            self._add(below)
        except WatchLimit:
            self._hints.overflow()  # the next rescan sees more folders than watches, and says so
        self._hints.folder(below)
        return True

    def _add(self, folder: str) -> None:
        """Watch a folder and, recursively, those below; through its descriptor, so that no link is followed."""
        try:
            fd = open_folder(os.fsdecode(self.watch.path), folder)  # type: ignore[arg-type]
        except (FileNotFoundError, NotADirectoryError):
            if folder:
                return
            raise
        try:
            mask = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
            mask |= _IN_CREATE if self._on_create or self.watch.is_recursive else 0
            wd = _checked(
                _libc.inotify_add_watch(self._fd, f"/proc/self/fd/{fd}/.".encode(), mask), "inotify_add_watch"
            )
            self._folders[wd] = folder
            for name in _folders_in(fd) if self.watch.is_recursive else ():
                self._add(f"{folder}/{name}" if folder else name)
        finally:
            os.close(fd)

    @property
    def watches(self) -> int:
        """How many folders are watched."""
        return len(self._folders)


def _folders_in(fd: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _parse(data: bytes) -> Iterator[tuple[int, int, str]]:
    position = 0
    while position < len(data):
        wd, mask, _cookie, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        yield wd, mask, os.fsdecode(data[position : position + length].rstrip(b"\0"))
        position += length


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSPC, errno.EMFILE):
            raise WatchLimit(
                number, f"{call}: the limit of inotify watches or instances is reached (sysctl fs.inotify)"
            )
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
