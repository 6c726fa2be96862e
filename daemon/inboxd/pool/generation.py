"""One generation of workers at a time: a flock(2) that lasts as long as any of them."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from inboxd import events
from inboxd.errors import AlreadyRunning
from inboxd.events import emit

_STEP = 0.05  # seconds between two looks; flock(2) has no timeout of its own


class GenerationLock:
    """state/generation.lock. Workers and their commands inherit `fd`, one shared open file description.

    Taken exclusively it proves that nobody of an earlier daemon is left; then it becomes a shared lock, which
    the kernel drops when the last process that inherited it is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1

    def take(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for an earlier generation to end. Raises AlreadyRunning."""
        if self.fd >= 0:
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        told = False
        while not _try_exclusive(fd):
            if time.monotonic() >= deadline:
                pids = holders(fd)
                os.close(fd)
                raise _still_running(self._path, pids)
            if not told:
                emit(events.WORKERS_AWAITED, pids=_who(holders(fd)), timeout=timeout)
                told = True
            time.sleep(_STEP)
        fcntl.flock(fd, fcntl.LOCK_SH)
        self.fd = fd

    def release(self) -> None:
        """Let go; processes that inherited the lock keep it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _try_exclusive(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holders(fd: int) -> list[int]:
    """Other processes that have the same file open, as far as /proc lets us see.

    /proc/locks is no help: it names the process that took the lock, which is dead.
    """
    wanted = os.fstat(fd)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and _has_open(entry, wanted):
            found.append(int(entry))
    return sorted(found)


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                return True
    except OSError:  # gone meanwhile, or another user's
        return False
    return False


def _who(pids: list[int]) -> str:
    return ", ".join(map(str, pids)) or "unknown; see `fuser` on that file"


def _still_running(path: Path, pids: list[int]) -> AlreadyRunning:
    return AlreadyRunning(
        f"workers of an earlier inboxd still run and hold {path} (pid {_who(pids)})",
        hint="they end by themselves after the file in progress; or end them with `kill -KILL`",
    )
