"""How much memory, CPU and how many descriptors the daemon and its workers use, through psutil."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Any

import psutil

from inboxd.config.units import show_size


class _Used:
    """A process, and the CPU time it had used when it was last asked; at first, when it began."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self._cpu = 0.0  # seconds
        self._at = time.monotonic() - max(0.0, time.time() - self.process.create_time())

    def share(self) -> float:
        """Percent of one core since the last time."""
        times, now = self.process.cpu_times(), time.monotonic()
        cpu = times.user + times.system
        share = 100.0 * (cpu - self._cpu) / max(now - self._at, 0.001)
        self._cpu, self._at = cpu, now
        return share


class Sampler:
    """Remembers the processes it has seen, since CPU shares are taken between two samples."""

    def __init__(self) -> None:
        self._daemon = _Used(os.getpid())
        self._workers: dict[int, _Used] = {}

    def sample(self, pids: Iterable[int]) -> dict[str, Any]:
        """RSS in bytes, CPU in percent of one core since the last sample, descriptors, threads; the workers apart."""
        pids = list(pids)
        workers = [figures for pid in pids if (figures := self._worker(pid))]
        self._workers = {pid: self._workers[pid] for pid in pids if pid in self._workers}
        process = self._daemon.process
        with process.oneshot():
            return {
                "rss": process.memory_info().rss,
                "cpu": self._daemon.share(),
                "open_files": process.num_fds(),
                "threads": process.num_threads(),
                "workers": workers,
            }

    def _worker(self, pid: int) -> dict[str, Any] | None:
        with contextlib.suppress(psutil.Error, OSError):
            known = self._workers.get(pid)
            if known is None or not known.process.is_running():
                known = self._workers[pid] = _Used(pid)
            return {"pid": pid, "rss": known.process.memory_info().rss, "cpu": known.share()}
        self._workers.pop(pid, None)
        return None

    @staticmethod
    def text(sample: dict[str, Any]) -> str:
        """One line for people."""
        each = ", ".join(show_size(worker["rss"]) for worker in sample["workers"])
        cpu = sum(worker["cpu"] for worker in sample["workers"])
        return (
            f"daemon {show_size(sample['rss'])}, {sample['cpu']:.0f} % CPU, {sample['open_files']} descriptors, "
            f"{sample['threads']} threads; {len(sample['workers'])} workers {each or '-'}, {cpu:.0f} % CPU; "
            f"{sample['queue']} files wait; {show_size(sample['disk_free'])} free"
        )
