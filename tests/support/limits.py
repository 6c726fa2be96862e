"""The machine's limits, drawn tight around a running process, and loosened again."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from support.wait import wait_until

NO_STACK = 1 << 47  # bytes: all that a process can address
_TOP = Path("/sys/fs/cgroup")
_FILES = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}  # version 1, 2
_VAST = {"memory": 1 << 40, "pids": 30_000}


class Cgroup:
    """One of either version (cgroups(7)); made by `cgroup`."""

    def __init__(self, controller: str) -> None:
        split = (_TOP / controller).is_dir()
        if not split:
            (_TOP / "cgroup.subtree_control").write_text(f"+{controller}")
        self._path = (_TOP / controller if split else _TOP) / f"inboxd-test-{os.getpid()}"
        self._limit = self._path / _FILES[controller][0 if split else 1]
        self._vast = _VAST[controller]
        self._path.mkdir()

    def hold(self, pid: int) -> None:
        """This process and the children that it starts from now on."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def inside(self) -> tuple[str, ...]:
        """What starts a command in it."""
        return ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self._path / "cgroup.procs"))

    def limit(self, most: int | None) -> None:
        """Bytes, or processes and threads; None: as good as none."""
        self._limit.write_text(str(self._vast if most is None else most))

    def close(self) -> None:
        """When all that it holds has ended."""
        wait_until(lambda: not (self._path / "cgroup.procs").read_text(), "an empty cgroup")
        self._path.rmdir()


@contextlib.contextmanager
def cgroup(controller: str) -> Iterator[Cgroup]:
    """A fresh one of "memory" or "pids", removed in the end. Root only."""
    group = Cgroup(controller)
    try:
        yield group
    finally:
        group.limit(None)
        group.close()


@contextlib.contextmanager
def no_more_descriptors(pid: int, left: int = 0) -> Iterator[None]:
    """Whatever the process opens beyond `left` fails with EMFILE; what it has open it keeps."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = sorted(set(range(len(used) + left + 1)) - used)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[left], hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """In this process: a stack of the size that they would get does not fit into memory."""
    before = threading.stack_size(NO_STACK)
    try:
        yield
    finally:
        threading.stack_size(before)


def spins(pid: int, seconds: float) -> float:
    """The share of a core that a process uses in this span."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)  # the span that is measured
    return (sum(process.cpu_times()[:2]) - before) / seconds
