"""While no descriptor is left, nothing that only looks at processes ends the daemon."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from inboxd.clock import SystemClock
from inboxd.custody.workfolder import hold
from inboxd.pool.child import memory
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


@pytest.mark.parametrize("left", [0, 1])
def test_a_folder_that_can_only_be_opened_is_away(tmp_path: Path, left: int) -> None:
    refused = pytest.raises(OSError, match="Too many open files")
    with no_more_descriptors(os.getpid(), left), open(os.devnull), refused:  # the one that the look has used
        hold(tmp_path)
    work, before = hold(tmp_path), os.listdir("/proc/self/fd")
    with no_more_descriptors(os.getpid(), left), open(os.devnull):
        found = (work.why_away(), work.is_home())
    assert found == ("Too many open files", False)
    assert work.why_away() == "" and work.is_home()
    assert os.listdir("/proc/self/fd") == before
    work.release()
