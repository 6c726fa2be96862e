"""Threads begin here: where the machine has none left, that is an OSError as of any other want."""

from __future__ import annotations

import errno
import threading


def start(thread: threading.Thread) -> None:
    """Raises OSError where there can't be one more (pthread_create(3))."""
    try:
        thread.start()
    except RuntimeError:  # so says Python
        reason = "no thread can be started: its service or its user has too many (TasksMax=, RLIMIT_NPROC)"
        raise OSError(errno.EAGAIN, reason) from None
