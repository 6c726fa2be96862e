"""Processes that workers leave behind: found, killed, reaped, wherever setsid(2) and double forks took them.

The daemon is their subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so who loses its parent becomes our child.
"""

from __future__ import annotations

import ctypes
import math
import os
import selectors
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from inboxd import events
from inboxd.events import emit
from inboxd.pool.child import TOKEN

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_START_TIME = 19  # among the fields of /proc/PID/stat that follow the name
_TICKS = os.sysconf("SC_CLK_TCK")  # to the second, in which that is told; since boot, as CLOCK_BOOTTIME


class Orphans:
    """Children of the daemon that it did not start. Used by the supervisor's thread only."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._spared = children()  # older than the pool, so no worker left them behind
        self.dying: dict[int, int] = {}  # pid -> pidfd
        become_subreaper()

    def sweep(self, ours: Collection[int], busy: Mapping[str, float], again: Callable[[], None]) -> bool:
        """Kill every orphan but those of the `busy` workers: a file in progress may need them. `busy`: their tokens,
        and the uptime when what each is at began.

        An orphan with an environment of its own has no token: it is spared while one of them may have started it. False
        when there is such an orphan: it is to be looked at again. Processes in the daemon's own group are no worker's:
        another part of the daemon runs them. `ours` are the pids of children proper. `again` is called when one has
        ended: its own children are ours then.
        """
        first = min(busy.values(), default=math.inf)
        told_apart = True
        for pid in children() - self._spared - self.dying.keys() - set(ours):
            token = _token(pid)
            if token in busy or _in_our_group(pid):
                continue
            if not token and _started(pid) >= first:
                told_apart = False
            else:
                self._kill(pid, again)
        return told_apart

    def _kill(self, pid: int, again: Callable[[], None]) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        command = _command(pid)  # before the signal, of which it may be dead at once
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except PermissionError:  # it has changed its user: nothing we could do
            self._spared.add(pid)
            os.close(pidfd)
            return
        if command is not None:
            emit(events.ORPHAN_KILLED, pid=pid, command=command)
        self.dying[pid] = pidfd
        self._selector.register(pidfd, selectors.EVENT_READ, lambda _mask: self._reap(pid, again))

    def _reap(self, pid: int, again: Callable[[], None]) -> None:
        self._forget(pid)
        again()

    def _forget(self, pid: int) -> None:
        pidfd = self.dying.pop(pid)
        self._selector.unregister(pidfd)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)

    def close(self) -> None:
        """Stop waiting for those that do not die."""
        for pid in list(self.dying):
            self._forget(pid)


def become_subreaper() -> None:
    """Orphaned descendants become our children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def children() -> set[int]:
    """The pids of all our children, zombies included (proc_pid_task(5))."""
    pids: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # the thread has ended
            pids.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
    return pids


def _in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return True


def _token(pid: int) -> str:
    """Whose worker's process it is, by the environment it was started with; "" when it has none."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    start = f"{TOKEN}=".encode()
    return next((entry[len(start) :].decode() for entry in data.split(b"\0") if entry.startswith(start)), "")


def _command(pid: int) -> str | None:
    """Its name; None when it is dead already and only waits to be reaped."""
    name, fields = _stat(pid)
    return name if fields else None


def _started(pid: int) -> float:
    """The uptime by which it had started, to a tick of the kernel's; before all time when it is dead."""
    _, fields = _stat(pid)
    return (int(fields[_START_TIME]) + 1) / _TICKS if fields else -math.inf


def _stat(pid: int) -> tuple[str, list[str]]:
    """Its name, and what follows that (proc_pid_stat(5)); nothing follows when it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", []
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    return name, [] if fields[0] in "ZX" else fields
