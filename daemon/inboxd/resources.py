"""How much memory, CPU and how many descriptors the daemon and its workers use, through psutil."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

import psutil

from inboxd.config.units import show_size


class Sampler:
    """Remembers the processes it has seen, since CPU shares are taken between two samples."""

    def __init__(self) -> None:
        self._daemon = psutil.Process(os.getpid())
        self._daemon.cpu_percent()
        self._workers: dict[int, psutil.Process] = {}

    def sample(self, pids: Iterable[int]) -> dict[str, Any]:
        """RSS in bytes, CPU in percent of one core since the last sample, descriptors, threads; the workers apart."""
        pids = list(pids)
        workers = [figures for pid in pids if (figures := self._worker(pid))]
        self._workers = {pid: self._workers[pid] for pid in pids if pid in self._workers}
        with self._daemon.oneshot():
            return {
                "rss": self._daemon.memory_info().rss,
                "cpu": self._daemon.cpu_percent(),
                "open_files": self._daemon.num_fds(),
                "threads": self._daemon.num_threads(),
                "workers": workers,
            }

    def _worker(self, pid: int) -> dict[str, Any] | None:
        with contextlib.suppress(psutil.Error):
            process = self._workers.get(pid)
            if process is None or not process.is_running():
                process = self._workers[pid] = psutil.Process(pid)
                process.cpu_percent()
            return {"pid": pid, "rss": process.memory_info().rss, "cpu": process.cpu_percent()}
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
