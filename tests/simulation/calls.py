"""The system calls of the daemon's modules, led to a Tree: what stands for `os`, `fcntl` and `/proc` in them.

Each call tells `watch` its name before it does anything, and again when it has; there the simulation strikes. What is not
simulated is the real module's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import itertools
import os
import stat
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulation.tree import Inode, Tree, fail

_LIFE = (
    100_000  # descriptors of one process; those of a dead one, that something forgotten still closes, are none of ours
)
_lives = itertools.count(_LIFE, _LIFE)
_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(eq=False, slots=True)
class Opened:
    """An open file description."""

    inode: Inode
    flags: int
    at: int = 0
    locked: bool = False


class Watch:
    """Hears of every call; made for nobody who wants to hear nothing."""

    def before(self, name: str) -> None: ...

    def after(self, name: str) -> None: ...


class DirEntry:
    """os.DirEntry."""

    def __init__(self, name: str, inode: Inode, look: Callable[[str], os.stat_result]) -> None:
        self.name, self._inode, self._look = name, inode, look
        self.path = name

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._look(self.name)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._inode.is_folder

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._inode.mode)


class Listing:
    """What os.scandir gives."""

    def __init__(self, entries: list[DirEntry]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[DirEntry]:
        return self._entries

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def close(self) -> None:
        self._entries = iter(())


class Calls:
    """`os`, as the daemon's modules see it."""

    def __init__(self, tree: Tree, watch: Watch, now_ns: Callable[[], int], chance: Callable[[int], bytes]) -> None:
        self.tree, self._watch, self._now_ns, self._chance = tree, watch, now_ns, chance
        self._fds: dict[int, Opened] = {}
        self._first = next(_lives)
        self.room = 1 << 40  # bytes that statvfs calls free
        ours = {**vars(os), "open": self.open, "stat": self.stat, "scandir": self.scandir, "close": self.close}
        ours["_fwalk"] = types.FunctionType(os._fwalk.__code__, ours, "_fwalk")  # type: ignore[attr-defined]
        self.fwalk = types.FunctionType(os.fwalk.__code__, ours, "fwalk", (".", True, None))
        self.fwalk.__kwdefaults__ = {"follow_symlinks": False, "dir_fd": None}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def reset(self) -> None:
        """The process is dead: nothing is open any more."""
        opened, self._fds = self._fds, {}
        self._first = next(_lives)
        for one in opened.values():
            one.inode.opens = 0
            self.tree.release(one.inode)

    @contextlib.contextmanager
    def _called(self, name: str) -> Iterator[None]:
        self._watch.before(name)
        yield
        self._watch.after(name)

    # Places

    def _start(self, dir_fd: int | None) -> Inode | None:
        return None if dir_fd is None else self._open(dir_fd).inode

    def _open(self, fd: int) -> Opened:
        try:
            return self._fds[fd]
        except KeyError:
            raise fail(errno.EBADF) from None

    def _at(self, path: Any, dir_fd: int | None = None, *, follow: bool = True) -> Inode:
        if isinstance(path, int):
            return self._open(path).inode
        text = os.fspath(path)
        if text.startswith("/proc/self/fd/"):
            return self._open(int(text.rpartition("/")[2])).inode
        return self.tree.find(text, self._start(dir_fd), follow=follow)

    def _place(self, path: Any, dir_fd: int | None) -> tuple[Inode, str]:
        folder, name = self.tree.place(os.fspath(path), self._start(dir_fd))
        if name in ("", ".."):
            raise fail(errno.EBUSY, path)
        return folder, name

    # Descriptors

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self._called("create" if flags & os.O_CREAT else "open"):
            return self._enter(self._opened(path, flags, mode, dir_fd), flags)

    def _enter(self, inode: Inode, flags: int) -> int:
        fd = self._first
        while fd in self._fds:
            fd += 1
        self._fds[fd] = Opened(inode, flags)
        inode.opens += 1
        return fd

    def _opened(self, path: Any, flags: int, mode: int, dir_fd: int | None) -> Inode:
        if flags & os.O_CREAT:
            folder, name = self._place(path, dir_fd)
            if name not in folder.entries:
                return self.tree.make(folder, name, stat.S_IFREG | mode & 0o777 & ~0o022, self._now_ns())
            if flags & os.O_EXCL:
                raise fail(errno.EEXIST, path)
        inode = self._at(path, dir_fd, follow=not flags & os.O_NOFOLLOW)
        if stat.S_ISLNK(inode.mode) and not flags & os.O_PATH:
            raise fail(errno.ENOTDIR if flags & os.O_DIRECTORY else errno.ELOOP, path)
        if flags & os.O_DIRECTORY and not inode.is_folder:
            raise fail(errno.ENOTDIR, path)
        if inode.is_folder and flags & (_WRITES | os.O_CREAT):
            raise fail(errno.EISDIR, path)
        if flags & os.O_TRUNC and inode.is_file:
            inode.data, inode.mtime_ns = b"", self._now_ns()
        return inode

    def close(self, fd: int) -> None:
        if fd < self._first:
            return
        opened = self._open(fd)
        del self._fds[fd]
        opened.inode.opens -= 1
        self.tree.release(opened.inode)

    def dup2(self, fd: int, fd2: int, inheritable: bool = True) -> int:
        if fd2 in self._fds:
            self.close(fd2)
        opened = self._open(fd)
        self._fds[fd2] = opened
        opened.inode.opens += 1
        return fd2

    def fdopen(self, fd: int, mode: str = "r", *_: Any, **__: Any) -> Any:
        raw = _Raw(self, fd)
        return io.BufferedWriter(raw) if "w" in mode else io.BufferedReader(raw)

    def read(self, fd: int, count: int) -> bytes:
        opened = self._open(fd)
        if opened.inode.is_folder:
            raise fail(errno.EISDIR)
        with self._called("read"):
            found = opened.inode.data[opened.at : opened.at + count]
            opened.at += len(found)
            return found

    def write(self, fd: int, data: bytes) -> int:
        opened = self._open(fd)
        with self._called("write"):
            inode, at = opened.inode, opened.at
            if opened.flags & os.O_APPEND:
                at = len(inode.data)
            inode.data = inode.data[:at].ljust(at, b"\0") + bytes(data) + inode.data[at + len(data) :]
            inode.mtime_ns = self._now_ns()
            opened.at = at + len(data)
            return len(data)

    def fsync(self, fd: int) -> None:
        opened = self._open(fd)
        with self._called("fsync"):
            self.tree.sync(opened.inode)

    def syncfs(self, fd: int) -> None:
        self._open(fd)
        with self._called("fsync"):
            self.tree.sync_all()

    def flock(self, fd: int, operation: int) -> None:
        """fcntl.flock."""
        opened = self._open(fd)
        others = [one for one in self._fds.values() if one is not opened and one.inode is opened.inode]
        if operation & fcntl.LOCK_EX and any(one.locked for one in others):
            raise fail(errno.EAGAIN)
        opened.locked = not operation & fcntl.LOCK_UN

    # Looking

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        with self._called("stat"):
            return self._at(path, dir_fd, follow=follow_symlinks).status()

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        self._watch.before("close")
        return self._open(fd).inode.status()

    def access(self, path: Any, mode: int, *, dir_fd: int | None = None, effective_ids: bool = False) -> bool:
        try:
            self._at(path, dir_fd)
        except OSError:
            return False
        return True

    def _listed(self, path: Any) -> dict[str, Inode]:
        inode = self._at(path)
        if not inode.is_folder:
            raise fail(errno.ENOTDIR, path)
        return inode.entries

    def listdir(self, path: Any = ".") -> list[str]:
        with self._called("list"):
            return sorted(self._listed(path))

    def scandir(self, path: Any = ".") -> Listing:
        with self._called("list"):
            entries = self._listed(path)
            return Listing([DirEntry(*one, partial(self._stat_entry, entries)) for one in sorted(entries.items())])

    def _stat_entry(self, entries: dict[str, Inode], name: str) -> os.stat_result:
        with self._called("stat"):
            if name not in entries:
                raise fail(errno.ENOENT, name)
            return entries[name].status()

    def statvfs(self, path: Any) -> Any:
        with self._called("stat"):
            self._at(path)
            return types.SimpleNamespace(f_bavail=self.room, f_frsize=1, f_favail=1 << 30, f_files=1 << 30)

    # Changing

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._called("create"):
            folder, name = self._place(path, dir_fd)
            self.tree.make(folder, name, stat.S_IFDIR | mode & 0o777 & ~0o022, self._now_ns())

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._called("unlink"):
            self.tree.unlink(*self._place(path, dir_fd), is_folder=True)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._called("unlink"):
            self.tree.unlink(*self._place(path, dir_fd))

    def symlink(self, target: str, path: Any, *, dir_fd: int | None = None) -> None:
        with self._called("create"):
            folder, name = self._place(path, dir_fd)
            self.tree.make(folder, name, stat.S_IFLNK | 0o777, self._now_ns(), target)

    def link(self, path: Any, other: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self._called("create"):
            self.tree.link(self._at(path, src_dir_fd, follow=False), *self._place(other, dst_dir_fd))

    def rename(self, path: Any, other: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self._called("rename"):
            self.tree.rename(self._place(path, src_dir_fd), self._place(other, dst_dir_fd), replace=True)

    def rename_new(self, source_fd: int, source: str, target_fd: int, target: str) -> None:
        """custody.disk.rename_new."""
        with self._called("rename"):
            self.tree.rename(self._place(source, source_fd), self._place(target, target_fd), replace=False)

    def chmod(self, path: Any, mode: int, *, dir_fd: int | None = None) -> None:
        with self._called("stat"):
            inode = self._at(path, dir_fd)
            inode.mode = stat.S_IFMT(inode.mode) | mode

    # What is no file system

    def urandom(self, count: int) -> bytes:
        return self._chance(count)

    def proc(self, path: str, *_: Any, **__: Any) -> io.StringIO:
        """open() of /proc/self/fdinfo/N: all is on one mount."""
        self._open(int(path.rpartition("/")[2]))
        return io.StringIO("mnt_id: 1\n")


class _Raw(io.RawIOBase):
    """A descriptor as a stream."""

    def __init__(self, calls: Calls, fd: int) -> None:
        self._calls, self._fd = calls, fd

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        found = self._calls.read(self._fd, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def write(self, data: Any) -> int:
        return self._calls.write(self._fd, bytes(data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._calls.close(self._fd)
