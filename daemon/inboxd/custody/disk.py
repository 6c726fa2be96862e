"""The system calls that move files: relative to open folders, following no link, overwriting nothing.

Names come from uploaders and are hostile; a folder is reached component by component with O_NOFOLLOW, so that a
folder swapped for a symbolic link leads nowhere (openat(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path

from inboxd import events
from inboxd.beneath import open_folder, remove_tree
from inboxd.config.quantity import show_size
from inboxd.errors import DiskError, PreconditionError
from inboxd.events import emit
from inboxd.syncing import sync, watched

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_RENAME_NOREPLACE = 1  # linux/fs.h
#: os.fsencode, for what is text for certain: one call instead of four, seven times for each file.
encoded: Callable[[str], bytes] = methodcaller("encode", sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
#: What to do where nothing may be written.
READ_ONLY = (
    "mount it writable; or, under systemd, name it in ReadWritePaths= (examples/more-inboxes.conf) and run "
    "`systemctl daemon-reload` and `systemctl restart inboxd`"
)
#: Those SHORTAGES that whoever looks after the disk ends, and that a later start need not meet.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME_MAX = 255  # bytes, limits.h


def rename_new(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Move an entry, never onto another: renameat2(2) with RENAME_NOREPLACE.

    Raises FileExistsError, FileNotFoundError, or another OSError.
    """
    if _renameat2(source_fd, encoded(source), target_fd, encoded(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def sync_file(folder_fd: int, name: str) -> None:
    """Make one regular file's bytes durable: fsync(2). A failure is never retried on the same data."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except (
        PermissionError,
        BlockingIOError,
    ):  # an uploader may let us move what it does not let us read, or has leased
        sync_all(folder_fd)
        return
    try:
        sync(fd)
    finally:
        os.close(fd)


def sync_folder(root: Path, folder: str, fs_fd: int) -> None:
    """Make the names in a folder durable, by fsync(2); where it can't be opened all of `fs_fd`'s file system is synced.

    Others may write there: they may have removed it, put something else in its place, closed it, or moved it away with
    names in it that could come back.
    """
    try:
        fd = open_folder(root, folder)
    except OSError:
        sync_all(fs_fd)
        return
    try:
        sync(fd)
    finally:
        os.close(fd)


def sync_all(folder_fd: int) -> None:
    """Make everything on the file system of `folder_fd` durable: syncfs(2); reports write errors since Linux 5.8."""
    watched(_syncfs, folder_fd)


def _syncfs(fd: int) -> None:
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write_new(folder_fd: int, name: str, content: bytes) -> None:
    """Write a small file of ours, replacing an older try of the same; durable when it returns."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o666, dir_fd=folder_fd)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
        stream.flush()
        sync(fd)


def write_over(path: Path, content: str) -> None:
    """Write a small file of ours anew, for us alone to read: the old one is there or the new one, whatever happens
    meanwhile, and the new one when this returns.
    """
    draft = path.with_name(path.name + ".part")
    with open(draft, "w", encoding="utf-8", opener=_private) as stream:
        stream.write(content)
        stream.flush()
        sync(stream.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(folder)
    finally:
        os.close(folder)


def read_noted(path: Path) -> str:
    """What `write_over` has written; "" when that was never. Raises OSError: a file that can't be read is there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def drop(work_fd: int, name: str) -> None:
    """Remove an entry of work/ that is nobody's any more. One that resists is told, and left for the next start."""
    try:
        remove_tree(work_fd, name)
    except FileNotFoundError:
        return
    except OSError as error:
        emit(events.WORK_LEFTOVER, file=name, reason=error.strerror)


def with_tag(name: str, tag: str, joint: str = ".") -> str:
    """`report.csv` with tag `1a2b` is `report.1a2b.csv`; the stem is cut so that 255 bytes suffice."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(os.fsencode(extension)) > 32:
        stem, dot, extension = name, "", ""
    return fit(stem, f"{joint}{tag}{dot}{extension}")


def fit(stem: str, ending: str) -> str:
    """`stem` plus `ending`, the stem cut to a budget of bytes, not in the middle of a UTF-8 character."""
    budget = _NAME_MAX - len(os.fsencode(ending))
    raw = os.fsencode(stem)
    if len(raw) <= budget:
        return stem + ending
    cut = budget
    while cut > budget - 4 and raw[cut] & 0xC0 == 0x80:
        cut -= 1
    return os.fsdecode(raw[:cut]) + ending


def free_space(path: Path) -> tuple[int, int]:
    """Bytes and inodes that an ordinary user may still take: statvfs(3). No inode count: a very large number."""
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize, state.f_favail if state.f_files else 1 << 62


def why(error: OSError, folder: Path) -> str:
    """The error in words; what is left where `folder` is, if that may be the cause."""
    words = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        with contextlib.suppress(OSError):
            free, inodes = free_space(folder)
            return f"{words} ({show_size(free)} and {inodes} inodes are free)"
    return words


def full(place: Path, error: OSError) -> DiskError:
    """What to raise when `place` can't be written to since its disk, or our share of it, is full."""
    words = why(error, place if place.is_dir() else place.parent)
    return DiskError(
        f"{place}: {words}", errno=error.errno or 0, path=str(place),
        hint="nothing is lost; make room there, and start inboxd again if nothing else does",
    )  # fmt: skip


def make_folder(path: Path, mode: int | None = None) -> list[Path]:
    """Make a folder and its parents; with `mode`, ours alone to that degree. Returns those that were not there.

    Raises PreconditionError, DiskError.
    """
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        if mode is not None:
            path.chmod(mode)
    except FileExistsError:
        raise PreconditionError(f"{path} is not a folder", hint="move the file that is in the way") from None
    except PermissionError as error:
        raise PreconditionError(
            f"{path} can't be made or changed: {error.strerror}",
            hint=f"make it by hand and give it to uid {os.geteuid()}",
        ) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise PreconditionError(f"{path}: {error.strerror}", hint=READ_ONLY) from error
        if error.errno in FULL:
            raise full(path, error) from error
        raise DiskError(f"{path}: {error.strerror}", errno=error.errno or 0, path=str(path)) from error
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise PreconditionError(f"{path} is a symbolic link", hint="name the real folder in the configuration")
    return new
