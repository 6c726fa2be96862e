"""Samples of real processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from inboxd.resources import Sampler


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_the_daemon_and_its_workers_are_measured(child: subprocess.Popen[bytes]) -> None:
    sample = Sampler().sample([child.pid])
    assert sample["rss"] > 1 << 20
    assert sample["open_files"] >= 3
    assert sample["threads"] >= 1
    assert [worker["pid"] for worker in sample["workers"]] == [child.pid]
    assert sample["workers"][0]["rss"] > 0


def test_a_worker_that_is_gone_is_left_out(child: subprocess.Popen[bytes]) -> None:
    sampler = Sampler()
    sampler.sample([child.pid])
    child.kill()
    child.wait()
    assert sampler.sample([child.pid])["workers"] == []


def test_workers_of_the_past_are_forgotten(child: subprocess.Popen[bytes]) -> None:
    sampler = Sampler()
    sampler.sample(iter([child.pid, os.getpid()]))
    sampler.sample([os.getpid()])
    assert list(sampler._workers) == [os.getpid()]


def test_the_line_for_people() -> None:
    worker = {"pid": 7, "rss": 2 << 20, "cpu": 50.0}
    sample = {
        "rss": 64 << 20,
        "cpu": 1.2,
        "open_files": 30,
        "threads": 9,
        "workers": [worker],
        "queue": 3,
        "disk_free": 1 << 30,
    }
    assert Sampler.text(sample) == (
        "daemon 64MiB, 1 % CPU, 30 descriptors, 9 threads; 1 workers 2MiB, 50 % CPU; 3 files wait; 1GiB free"
    )


def test_the_first_share_is_that_of_the_whole_life() -> None:
    """Taken over some milliseconds it would be noise, and several cores."""
    sampler, cores = Sampler(), len(os.sched_getaffinity(0))
    assert 0.0 < sampler.sample([])["cpu"] <= 100.0 * cores
    busy = time.process_time() + 0.1
    while time.process_time() < busy:
        pass
    assert sampler.sample([])["cpu"] > 10.0
