"""The daemon and its workers are killed at random instants, under load; nothing is lost, nothing ends twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable

import psutil

from support.daemon import inboxd, run_daemon
from support.faults import fault
from support.invariants import holders
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _lone(site: Site) -> bool:
    """No process holds the generation lock any more."""
    return not list(holders(site.state / "generation.lock"))


@fault(
    "Process death",
    "the daemon is killed, its worker goes on",
    how="SIGKILL of the daemon in the middle of a batch",
    shows="what never began costs no attempt",
)
def test_what_never_began_costs_no_attempt(site: Site) -> None:
    """A worker notices that its daemon is gone, and gives the rest of its batch back: nobody hears of it but its mark."""
    site.workers(processes=1)
    site.put((f"sleep-0_2-{number:02d}.dat".encode(), b"%d" % number) for number in range(12))
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.witnessed("start"), "a start")
        daemon.kill()
        wait_until(lambda: _lone(site), "the end of the orphaned worker")
    begun = {line["name"] for line in site.witnessed("start")}
    assert 1 <= len(begun) < 12
    with run_daemon(site.config):
        wait_finished(site, 12)
    last = {line["name"]: line["attempt"] for line in site.witnessed("start")}
    assert last == {name: 2 if name in begun else 1 for name in last}
    assert_sound(site, finished=True)


@fault(
    "Process death",
    "workers are killed under load",
    how="SIGKILL at random",
    shows="the file in progress is charged, no other",
)
def test_workers_are_killed_under_load(site: Site) -> None:
    """Each kill costs at most the file in progress one failure."""
    site.inbox("main", retry={"max_failures": 10, "max_attempts": 50, "first": "1ms", "longest": "10ms"})
    source = random.Random(7)
    with run_daemon(site.config) as daemon:
        site.drop_all((f"sleep-0_002-{number:04d}.dat".encode(), b"%d" % number) for number in range(1_500))
        for _ in range(15):
            victims = wait_until(daemon.ready_workers, "a worker")
            with contextlib.suppress(ProcessLookupError):
                os.kill(source.choice(victims), signal.SIGKILL)
            time.sleep(source.uniform(0.0, 0.1))  # the fault's instant, not a wait for anything
        wait_finished(site, 1_500, timeout=60)
        assert daemon.stop() == 0
    assert len(site.listed("processed")) == 1_500
    assert_sound(site, finished=True)


def test_an_idle_worker_is_killed(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        site.drop_all(files(50))
        wait_finished(site, 50)
        wait_until(lambda: len(set(daemon.workers()) - set(before)) == len(before), "new workers")
    assert_sound(site, calm=True, finished=True)


def _each(processes: list[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


@fault(
    "Process death",
    "a process of the old daemon survives it",
    how="a handler's child with a session of its own",
    shows="the new daemon waits for its end, or refuses to start",
)
def test_a_new_daemon_never_runs_beside_workers_of_the_old(site: Site) -> None:
    """It waits for them, and refuses to start when they take too long."""
    site.write(stop_grace="200ms")
    site.put([(b"sleep-3-x.dat", b"x")])
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.witnessed("start"), "a start")
        orphans = [psutil.Process(pid) for pid in daemon.workers()]
        daemon.kill()
        _each(orphans, psutil.Process.suspend)
        refused = inboxd(site.config, "run")
        assert refused.returncode == 75
        assert any(str(orphan.pid) in refused.stderr for orphan in orphans)
        assert "waiting up to" in refused.stderr
        assert len(site.witnessed("start")) == 1
        _each(orphans, psutil.Process.resume)
    wait_until(lambda: _lone(site), "the end of orphaned workers")
    assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 1)
    assert_sound(site, finished=True)


def test_a_daemon_that_waits_for_the_workers_of_the_old_is_no_survivor(site: Site) -> None:
    """It answers nobody yet, and `doctor` says which processes to end."""
    site.write(stop_grace="1m")
    site.put([(b"sleep-1-x.dat", b"x")])
    with run_daemon(site.config) as old:
        wait_until(lambda: site.witnessed("start"), "a start")
        orphans = [psutil.Process(pid) for pid in old.workers()]
        old.kill()
        _each(orphans, psutil.Process.suspend)
        with run_daemon(site.config, ready=False) as new:
            new.wait_event("daemon.waiting")
            problems = json.loads(inboxd(site.config, "doctor", "--json").stdout)["problems"]
            _each(orphans, psutil.Process.resume)
            new.wait_ready()
            wait_finished(site, 1)
    survivors = {int(line.split()[2]) for line in problems if line.startswith("I13")}
    assert survivors and survivors <= {orphan.pid for orphan in orphans}, problems
