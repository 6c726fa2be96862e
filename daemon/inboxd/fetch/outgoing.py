"""A result on its way out: read from work/, hashed as it goes, bounded in time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator

from inboxd.escape import escape
from inboxd.fetch.errors import Away, Gone, Unfit, Unreadable

_BLOCK = 256 * 1024  # bytes read at once
_TELL = 1.0  # seconds between two words about the progress
_OF_US = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # what the process or the machine lacks, and every result with it


def _silent(_size: int) -> None:
    return None


class Outgoing:
    """One file that is sent, `size` bytes. It can be read as often as it has to be: what is read must not change."""

    def __init__(self, path: str, size: int | None, total: float, tell: Callable[[int], None] = _silent) -> None:
        """`size`: bytes, as recorded. `total`: seconds for all of it. `tell`: bytes sent, about once a second.

        Raises Gone and Unfit when the file is not what was recorded; Unreadable; OSError of what we lack.
        """
        self._path = path
        self._tell = tell
        self._told = began = time.monotonic()
        self.deadline = began + total  # monotonic seconds
        self._total = total
        self._sha256 = ""
        self._file = os.fdopen(_open(path), "rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        if size is not None and size != self.size:
            self.close()
            raise Unfit(f"it has {self.size} bytes in work/, {size} were recorded: somebody has changed it there")

    @property
    def left(self) -> float:
        """Seconds until the deadline; raises Away when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Away(f"it took longer than {self._total:g} s (timeout.total)")
        return left

    def sha256(self) -> str:
        """Of all of it, hexadecimal; found by reading it, the first time."""
        if not self._sha256:
            for _ in self._read():
                pass
        return self._sha256

    def blocks(self, most: int = _BLOCK) -> Generator[bytes, None, None]:
        """All of it, in blocks of at most `most` bytes. Raises Away, Unfit, Unreadable."""
        sent = 0
        for block in self._read(most):
            yield block
            sent += len(block)
            now = time.monotonic()
            if now - self._told >= _TELL:
                self._told = now
                self._tell(sent)

    def _read(self, most: int = _BLOCK) -> Generator[bytes, None, None]:
        found, left = hashlib.sha256(), self.size
        self._file.seek(0)
        while left:
            with _reading(self._path):
                block = self._file.read(min(most, left))
            if not block:
                raise Unfit(f"it ended {left} bytes before its size: somebody has changed it in work/")
            found.update(block)
            left -= len(block)
            if not left:
                self._check(found.hexdigest())
            yield block
            _ = self.left
        if not self.size:
            self._check(found.hexdigest())

    def _check(self, digest: str) -> None:
        """Before the last block is given away: what was announced must not be completed by something else."""
        if self._sha256 not in ("", digest):
            raise Unfit("somebody has changed it in work/ while it was sent")
        self._sha256 = digest

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


def _open(path: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # open(2) of a pipe would wait for its writer
    with _reading(path):
        fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Gone("it is no regular file in work/ any more")
    return fd


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """What fails in here is this one file, and not where it is sent."""
    try:
        yield
    except FileNotFoundError:
        raise Gone("it is not in work/ any more") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Gone("it is no regular file in work/ any more") from None
        if error.errno in _OF_US:
            raise
        what = "let the user of inboxd read it" if isinstance(error, PermissionError) else "look after the disk"
        raise Unreadable(f"{escape(path)} can't be read: {error.strerror or error}; {what}") from error
