"""Seams: which of what a worker has printed is of which file.

The daemon reads the pipe when it comes to it, and by then the worker may be some files further. So a worker that goes
on while something is unread leaves a seam in the pipe. What has no seam behind it is of the file that was marked before
it was read: had the worker gone on since, there would be one.
"""

from __future__ import annotations

import fcntl
import os
import re
import termios
from collections.abc import Iterator

from inboxd.wire import Mark

_NOTHING = bytes(4)  # an int of 0
_SEAM = re.compile(rb"\0([\w-]{1,32}) (\d{1,8}) ([\w-]{1,32}) (\d{1,8})\n")


class Seams:
    """The worker's side: knows which file it was at, and its own way into the pipe."""

    def __init__(self) -> None:
        self._pipe = os.dup(1)  # a handler may put something else in the place of 1
        self._unread = bytearray(_NOTHING)
        self._at = Mark("-", 0, 0.0)

    def sew(self, begins: Mark) -> None:
        """To be called before each mark is written."""
        try:
            fcntl.ioctl(self._pipe, termios.FIONREAD, self._unread)
            if self._unread != _NOTHING:
                os.write(self._pipe, seam(self._at, begins))
        except OSError:
            pass  # it is no pipe, or a handler has made it one that does not wait: the labels may be wrong then
        self._at = begins


def seam(ended: Mark, begins: Mark) -> bytes:
    """Shorter than PIPE_BUF, so nothing that others write gets into it."""
    return f"\0{ended.batch} {ended.at} {begins.batch} {begins.at}\n".encode("ascii", "replace")


def pieces(data: bytes, mark: Mark | None) -> Iterator[tuple[Mark | None, bytes]]:
    """Cut at the seams: each piece with the file it is of. `mark` was read before `data`."""
    text, *found = _SEAM.split(data)
    yield _mark(found[0:2]) if found else mark, text
    for at in range(0, len(found), 5):
        yield _mark(found[at + 2 : at + 4]), found[at + 4]


def _mark(words: list[bytes]) -> Mark:
    return Mark(words[0].decode(), int(words[1]), 0.0)
