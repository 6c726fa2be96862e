"""What a tree of processes costs, from outside: proc(5)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICK: int = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a process and all below it. `cpu` in seconds, dead and reaped children included; memory in bytes."""

    cpu: float
    rss: int  # of all, shared pages counted once for each
    parent: int  # resident memory of the process itself
    peak: int  # the most that this has been
    child: int  # of its largest descendant


def cost(pid: int) -> Cost:
    """As of now."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    cpu, sizes = 0.0, []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            cpu += _cpu(process.pid)
            sizes.append(process.memory_info().rss)
    return Cost(cpu, sum(sizes), sizes[0], _peak(pid), max(sizes[1:], default=0))


def resident(pid: int) -> int:
    """Memory of one process, bytes."""
    return psutil.Process(pid).memory_info().rss


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _cpu(pid: int) -> float:
    """User and system time of a process and of the children it has reaped, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICK
