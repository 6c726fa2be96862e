"""A small inotify emitter below watchdog's Observer (inotify(7)).

watchdog's own holds what follows a move-out for half a second, and its cost per rename grows with the backlog. This
one reads many events at once, leaves names in `Hints`, and says so in its own thread: through the Observer's, which
starts and ends it, each file would cost one more change of threads, some 80 µs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from watchdog.observers.api import EventEmitter, EventQueue, ObservedWatch

from inboxd.beneath import open_folder
from inboxd.intake.hints import Hints
from inboxd.intake.scan import may_enter

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x8, 0x80, 0x100
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_UNMOUNT = 0x400, 0x800, 0x2000
_IN_Q_OVERFLOW, _IN_IGNORED, _IN_ISDIR = 0x4000, 0x8000, 0x40000000
_IN_ONLYDIR = 0x1000000
_LOST = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_IGNORED

_HEAD = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_READ = 64 * 1024
_GATHER = 2  # milliseconds; the kernel keeps 16,384 events meanwhile (inotify(7), max_queued_events)
_libc = ctypes.CDLL(None, use_errno=True)


class WatchLimit(OSError):
    """fs.inotify.max_user_watches or max_user_instances is used up."""


class Emitter(EventEmitter):
    """Watches one inbound folder, and those below it when asked to."""

    def __init__(
        self,
        queue: EventQueue,
        watch: ObservedWatch,
        *,
        hints: Hints,
        on_create: bool,
        heard: Callable[[], None],
        **rest: Any,
    ) -> None:
        """`heard` is called after each round that left something in `hints`."""
        super().__init__(queue, watch, **rest)
        self._hints = hints
        self._tell = heard
        self._on_create = on_create
        self._folders: dict[int, str] = {}  # by watch descriptor
        self._watched: dict[str, int] = {}  # the same, the other way round
        self._lock = threading.Lock()  # over the descriptors and both tables: the pipeline adds folders, too
        self._fd = self._wake_fd = -1
        self._both, self._wakes = select.poll(), select.poll()  # select(2) knows no descriptor above 1023

    def start(self) -> None:
        """Begin; what is open is closed where that fails."""
        try:
            super().start()
        except (OSError, RuntimeError):  # no watch, or no thread, is left
            self._close()
            raise

    def on_thread_start(self) -> None:
        """Set the watches, in the caller's thread, so that a failure is the caller's."""
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        self._watch_tree("")
        for fd in (self._fd, self._wake_fd):
            self._both.register(fd, select.POLLIN)
        self._wakes.register(self._wake_fd, select.POLLIN)

    def on_thread_stop(self) -> None:
        """Any thread: end the wait in `queue_events`."""
        with self._lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def run(self) -> None:
        """The thread; descriptors are closed by the one who reads them."""
        try:
            super().run()
        finally:
            self._close()

    def _close(self) -> None:
        with self._lock:
            for fd in (self._fd, self._wake_fd):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._wake_fd = -1
            self._folders.clear()
            self._watched.clear()

    def covers(self, folder: str) -> bool:
        """Events from this folder, relative to the watched one, are heard."""
        with self._lock:
            return folder in self._watched

    def cover(self, folder: str) -> None:
        """Any thread: hear of this folder, too. Nothing when it is gone. Raises OSError, WatchLimit among them."""
        with self._lock:
            if self._fd >= 0:
                self._add(folder)

    def queue_events(self, timeout: float) -> None:
        """One round, under watchdog's name: wait, read, hint, tell. Nothing is queued.

        While nobody has taken the hints of the last round there is no hurry: more events are read at once then, and who
        is busy with files is interrupted less often.
        """
        if self._fd not in dict(self._both.poll()):
            return
        if self._hints.pending and self._wakes.poll(_GATHER):
            return
        heard = False
        for wd, mask, name in _parse(os.read(self._fd, _READ)):
            heard |= self._take(wd, mask, name)
        if heard:
            self._tell()

    def _take(self, wd: int, mask: int, name: str) -> bool:
        """One event; True when it is worth waking somebody."""
        if mask & _IN_Q_OVERFLOW:
            self._hints.overflow()
            return True
        folder = self._folders.get(wd)
        if folder is None:
            return False
        if mask & _LOST:
            return self._lost(wd, folder, moved=bool(mask & _IN_MOVE_SELF))
        if mask & _IN_ISDIR:
            return self._new_folder(folder, name)
        if mask & _IN_CREATE and not self._on_create:
            return False
        return self._hints.name(folder, name)

    def _new_folder(self, folder: str, name: str) -> bool:
        below = f"{folder}/{name}" if folder else name
        if not (self.watch.is_recursive and may_enter(below)):
            return False
        self._watch_again(below)
        return True

    def _lost(self, wd: int, folder: str, *, moved: bool) -> bool:
        """A folder was deleted, moved or unmounted; one that was moved within the inbox has a new path."""
        with self._lock:
            for one in self._below(folder) if moved else [wd]:
                self._forget(one)
        if folder == "":
            self._hints.root_lost()
        elif moved:
            self._watch_again(folder)
        return moved or folder == ""

    def _watch_again(self, folder: str) -> None:
        try:
            self._watch_tree(folder)
        except OSError:
            pass  # looking through it meets the same error in the pipeline's thread, which says so
        self._hints.folder(folder)

    def _watch_tree(self, top: str) -> None:
        """Watch a folder and, when asked to, those below that are not watched yet, one after the other."""
        todo = [top]
        while todo:
            folder = todo.pop()
            with self._lock:
                names = self._add(folder)
                below = (f"{folder}/{name}" if folder else name for name in names)
                todo += [one for one in below if one not in self._watched and may_enter(one)]

    def _add(self, folder: str) -> list[str]:
        """Watch one folder, through its descriptor, so that no link is followed; returns the folders in it."""
        try:
            fd = open_folder(Path(os.fsdecode(self.watch.path)), folder)
        except OSError:
            if folder:
                return []  # gone, or not for us to look into
            raise
        try:
            mask = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
            mask |= _IN_CREATE if self._on_create or self.watch.is_recursive else 0
            path = f"/proc/self/fd/{fd}/.".encode()
            wd = _checked(_libc.inotify_add_watch(self._fd, path, mask), "inotify_add_watch")
            self._forget_name(wd)
            self._folders[wd], self._watched[folder] = folder, wd
            return _folders_in(fd) if self.watch.is_recursive else []
        finally:
            os.close(fd)

    def _below(self, folder: str) -> list[int]:
        """The watches of a folder and of those in it."""
        if folder == "":
            return list(self._folders)
        start = folder + "/"
        return [wd for wd, known in self._folders.items() if known == folder or known.startswith(start)]

    def _forget(self, wd: int) -> None:
        self._forget_name(wd)
        self._folders.pop(wd, None)
        _libc.inotify_rm_watch(self._fd, wd)  # EINVAL where the kernel was first

    def _forget_name(self, wd: int) -> None:
        name = self._folders.get(wd)
        if name is not None and self._watched.get(name) == wd:
            del self._watched[name]


def _folders_in(fd: int) -> list[str]:
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # a pass over it meets the same error


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
