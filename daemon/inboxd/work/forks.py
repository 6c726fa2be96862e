"""Processes that the user's code forks: one that comes back out of it ends there.

It would go on as a second worker: report the file that its parent is at, clear its results, take orders from it.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import NoReturn

_EX_SOFTWARE = 70  # sysexits.h


class ParentOnly:
    """Around the user's code: who was forked in here does not get out. No generator, which costs twice as much."""

    __slots__ = ("_parent",)

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if os.getpid() != self._parent:
            _end(error)


def _end(error: BaseException | None) -> NoReturn:
    """As Python ends, but nothing is closed in good order: connections and locks are those of its parent, too."""
    status = _EX_SOFTWARE
    try:
        status = _told(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _told(error: BaseException | None) -> int:
    """Say on standard error why it ends. Returns its exit status."""
    if error is None:
        sys.stderr.write("a process that the handler has forked came back out of it, and is ended\n")
        return _EX_SOFTWARE
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return _EX_SOFTWARE
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
