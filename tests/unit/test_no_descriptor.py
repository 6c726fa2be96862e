"""While no descriptor is left, nothing that only looks at processes ends the daemon."""

from __future__ import annotations

import os
import time
from typing import Any

from inboxd.clock import SystemClock
from inboxd.pool.slot import memory
from inboxd.pool.supervisor import Supervisor
from inboxd.resources import Sampler
from support.limits import no_more_descriptors


def test_memory_and_cpu_of_a_worker() -> None:
    sampler = Sampler()
    with no_more_descriptors(os.getpid()), open(os.devnull):  # the one that the look for them has used
        found = (memory(os.getpid()), sampler._worker(os.getppid()))
    assert found == (0, None)


def test_orphans_are_looked_for_again() -> None:
    launch: Any = None
    supervisor = Supervisor(launch, SystemClock())
    supervisor._sweep_within(0.0)
    with no_more_descriptors(os.getpid()), open(os.devnull):  # the one that the look for them has used
        supervisor._sweep()
    assert time.monotonic() < supervisor._sweep_at < time.monotonic() + 5
    supervisor.close()
