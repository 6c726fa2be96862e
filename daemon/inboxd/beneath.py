"""Reaching folders and entries below a root without ever following a symbolic link (openat(2), O_NOFOLLOW)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from inboxd.syncing import sync

if TYPE_CHECKING:
    from pathlib import Path

#: Errors that say nothing of the file: the disk or the machine has no more to give, or may not be written to.
SHORTAGES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MANY = 10_000
_lasting: set[tuple[int, int]] = set()  # device and inode of folders whose names this process has synced


class Identity(NamedTuple):
    """What tells one folder from another that has taken its path."""

    dev: int
    ino: int
    mount: int


def identity_of(fd: int) -> Identity:
    """Of an open folder."""
    found = os.fstat(fd)
    return Identity(found.st_dev, found.st_ino, mount_id(fd))


def mount_id(fd: int) -> int:
    """The mount that an open folder is on; bind mounts of one file system differ (proc_pid_fdinfo(5), mnt_id)."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id"))


def look(folder_fd: int, name: str) -> os.stat_result | None:
    """lstat(2) of an entry, or None when there is none."""
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_folder(root: Path, relative: str = "", *, make: bool = False) -> int:
    """A descriptor of `relative` below `root`, each component without following a link.

    `make` makes what is missing (mode 0777 less the umask), and all of it durable, whoever made it. Raises OSError:
    ENOTDIR or ELOOP where a link stands, ENOENT where nothing does.
    """
    fd = os.open(root, FOLDER)
    for part in relative.split("/") if relative else ():
        fd = _step(fd, part, make)
    return fd


def _step(parent: int, part: str, make: bool) -> int:
    try:
        made = make and _make(parent, part)
        fd = os.open(part, FOLDER, dir_fd=parent)
        if make:
            _make_last(parent, fd, made=made)
        return fd
    finally:
        os.close(parent)


def _make(parent: int, part: str) -> bool:
    if look(parent, part) is not None:
        return False
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=parent)
    return True


def _make_last(parent: int, fd: int, *, made: bool) -> None:
    """The name of an open folder, in its parent. One that is found may be of a process that died before its fsync(2),
    and an fsync of the folder itself says nothing of its name.
    """
    found = os.fstat(fd)
    which = (found.st_dev, found.st_ino)
    if which in _lasting and not made:
        return
    try:
        sync(parent)
    except OSError:
        os.close(fd)
        raise
    if len(_lasting) >= _MANY:
        _lasting.clear()
    _lasting.add(which)


class opened:  # noqa: N801 - as contextlib's are called
    """`open_folder`, closed at the end. A class, since one file on its way opens four folders."""

    __slots__ = ("_fd", "_make", "_relative", "_root")

    def __init__(self, root: Path, relative: str = "", *, make: bool = False) -> None:
        self._root, self._relative, self._make = root, relative, make
        self._fd = -1

    def __enter__(self) -> int:
        self._fd = open_folder(self._root, self._relative, make=self._make)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@contextlib.contextmanager
def writable(folder_fd: int | None, name: str) -> Iterator[None]:
    """For the moment: only who may write to a folder may move it (rename(2)). Leaves what is no folder as it is."""
    with _own(folder_fd, name) as (fd, mode):
        if mode is None:
            yield
            return
        _set_mode(fd, mode | stat.S_IRWXU)
        try:
            yield
        finally:
            _set_mode(fd, mode)


def remove_tree(folder_fd: int | None, name: str) -> None:
    """Remove an entry, whatever it is, and all that is below it, whatever its mode. Raises OSError."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder_fd)
        return
    import shutil  # costs a worker 1.5 MiB, and most never need it

    try:
        shutil.rmtree(name, dir_fd=folder_fd)
    except PermissionError:
        open_up(folder_fd, name)
        shutil.rmtree(name, dir_fd=folder_fd)


def open_up(folder_fd: int | None, name: str) -> None:
    """Make a folder and all below it ours to read and write."""
    with _own(folder_fd, name) as (fd, mode):
        if mode is None:
            return
        _set_mode(fd, mode | stat.S_IRWXU)
        inside = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for entry in os.listdir(inside):
            open_up(inside, entry)
    finally:
        os.close(inside)


@contextlib.contextmanager
def _own(folder_fd: int | None, name: str) -> Iterator[tuple[int, int | None]]:
    """A handle on an entry, without the right to read it, and its mode; None if it is no folder."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        mode = os.fstat(fd).st_mode
        yield fd, stat.S_IMODE(mode) if stat.S_ISDIR(mode) else None
    finally:
        os.close(fd)


def _set_mode(fd: int, mode: int) -> None:
    os.chmod(f"/proc/self/fd/{fd}", mode)
