"""What workers do to a file before a handler sees it: read it to its end, or copy it. No user's code is involved."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from inboxd.beneath import SHORTAGES
from inboxd.model import Ending, Report, copy_name
from inboxd.wire import OrderedFile

_TRIES = 3  # copies of a file that is being written to, until it is given up
_FICLONE = 0x4004_9409  # linux/fs.h; ioctl_ficlone(2)
_AT_ONCE = 64 << 20  # bytes of one system call
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def absence(file: OrderedFile) -> Report | None:
    """What to report of a file that is not there any more; None when it is, or when nobody can say."""
    try:
        os.lstat(file.path)
    except FileNotFoundError:
        return Report(file.id, Ending.MISSING, message=f"{file.path} is not there any more", begun=False)
    except OSError:
        return None
    return None


def hash_file(file: OrderedFile, kind: str) -> Report:
    """The digest of a regular file's content, `kind` as hashlib has it; what goes wrong is in the report."""
    return _reported(file, lambda source: Report(file.id, Ending.HASHED, result={kind: _digest(source, kind)}))


def copy_file(file: OrderedFile, kind: str, *, durable: bool) -> Report:
    """Copy a regular file's bytes and its time of change, and nothing else of it, into a new file beside it.

    `kind`: of the digest of the copy, which is what the handler will be given; "" for none.
    """

    def copy(source: int) -> Report:
        path = f"{os.path.dirname(file.path)}/{copy_name(file.id)}"
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # of a worker that was killed
            target = os.open(path, _CREATE, 0o666)
            try:
                if _copy(source, target):
                    if durable:
                        os.fsync(target)
                    return Report(file.id, Ending.COPIED, result={kind: _digest(target, kind)} if kind else None)
            except OSError:
                os.unlink(path)  # a disk that is full needs the room
                raise
            finally:
                os.close(target)
        raise OSError(f"it was written to after its claim, while it was copied, {_TRIES} times over")

    return _reported(file, copy)


def _reported(file: OrderedFile, act: Callable[[int], Report]) -> Report:
    """What `act` says of the open file, or why it could not."""
    start = time.monotonic()
    try:
        source = _open(file.path)
        try:
            report = act(source)
        finally:
            os.close(source)
    except OSError as error:
        ending = Ending.UNAVAILABLE if error.errno in SHORTAGES else Ending.FAILED
        report = Report(file.id, ending, error_class=type(error).__name__, message=str(error))
        report = absence(file) or report
    return report._replace(seconds=time.monotonic() - start, pid=os.getpid())


def _open(path: str) -> int:
    """It may stand where uploaders write: follow nothing, open nothing but a regular file, and wait for nobody's FIFO.

    Who has leased it is waited for, as long as the kernel lets him (fcntl(2), F_SETLEASE).
    """
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no regular file")
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _copy(source: int, target: int) -> bool:
    """All bytes. False when the file has changed meanwhile, and the copy may be a mixture."""
    before = os.fstat(source)
    try:
        fcntl.ioctl(target, _FICLONE, source)  # the same blocks, copied when one of the two is written to
    except OSError:
        _copy_data(source, target, before)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return _version(os.fstat(source)) == _version(before)


def _copy_data(source: int, target: int, found: os.stat_result) -> None:
    """At most as many bytes as there were at first: it may grow as fast as we copy."""
    room = os.fstatvfs(target)
    if found.st_blocks * 512 > room.f_bavail * room.f_frsize:
        raise OSError(f"it is too large to be copied: {found.st_blocks * 512} bytes, more than are free")
    for start, end in _extents(source, found.st_size):
        at = os.lseek(target, start, os.SEEK_SET)
        while at < end and (count := os.sendfile(target, source, at, min(end - at, _AT_ONCE))):
            at += count
    os.ftruncate(target, found.st_size)


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Where there is data: holes stay holes, or a file of no size on the disk could fill it (lseek(2))."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is only a hole left
                raise
            return
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        yield start, end


def _version(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(fd: int, kind: str) -> str:
    import hashlib  # OpenSSL: most workers never need its memory

    with open(fd, "rb", buffering=0, closefd=False) as content:
        content.seek(0)
        return hashlib.file_digest(content, kind).hexdigest()
