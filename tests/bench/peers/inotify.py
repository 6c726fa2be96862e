"""The least that can be between a program and inotify(7): names of files renamed into or closed in one folder."""

from __future__ import annotations

import ctypes
import os
import struct

_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x8, 0x80
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


def watch(folder: str) -> int:
    """A descriptor that has events of `folder` to read."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0 or _libc.inotify_add_watch(fd, os.fsencode(folder), _IN_CLOSE_WRITE | _IN_MOVED_TO) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), folder)
    return fd


def names(fd: int) -> list[bytes]:
    """Names in the events that wait; blocks until there is one."""
    data = os.read(fd, 1 << 16)
    found, at = [], 0
    while at < len(data):
        length = _HEADER.unpack_from(data, at)[3]
        at += _HEADER.size
        found.append(data[at : at + length].rstrip(b"\0"))
        at += length
    return found
