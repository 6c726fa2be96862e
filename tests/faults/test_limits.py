"""The machine has no descriptors, processes, memory or watches left: what can't be done waits, and goes on by itself."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable

import pytest

from support.daemon import inboxd_json, run_daemon
from support.faults import fault, scale
from support.limits import cgroup, no_more_descriptors, spins
from support.load import files
from support.rounds import Rounds
from support.shim import EVER, Shim
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

Tally = Callable[..., None]
_SPAN = 2.0  # seconds for which a limit is felt
_MIB = 1 << 20


def _drop_deadly(site: Site, mark: str) -> None:
    """Files that kill the worker that runs them first."""
    for number in range(2):
        site.drop(f"kill-1-{mark}.{number}.dat", f"{mark} {number}".encode())


@fault(
    "Machine limits", "no descriptor is left", how="RLIMIT_NOFILE of the running daemon lowered to what it has open",
    shows="nothing crashes, spins or is lost; what waits is taken by itself when there are descriptors again",
)  # fmt: skip
def test_no_descriptor_is_left(site: Site, tally: Tally) -> None:
    rounds = Rounds(site)
    with run_daemon(site.config) as daemon:
        for number in range(scale(2, 50)):
            before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
            with no_more_descriptors(daemon.pid):
                rounds.drop()
                _drop_deadly(site, f"n{number}")
                assert spins(daemon.pid, _SPAN) < 0.3
                assert daemon.process.poll() is None, daemon.tail()
            rounds.finish(daemon)
            wait_until(lambda before=before: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before, "no leak")
            tally()


@fault(
    "Machine limits", "hardly a descriptor is left", how="RLIMIT_NOFILE lowered to 1, 2 and 3 more than are open",
    shows="the same: what takes more of them than there are waits",
)  # fmt: skip
def test_hardly_a_descriptor_is_left(site: Site, tally: Tally) -> None:
    rounds = Rounds(site)
    with run_daemon(site.config) as daemon:
        for left in (1, 2, 3) * scale(1, 10):
            with no_more_descriptors(daemon.pid, left):
                rounds.drop()
                assert spins(daemon.pid, _SPAN) < 0.3
                assert daemon.process.poll() is None, daemon.tail()
            rounds.finish(daemon)
            tally()


@fault(
    "Machine limits", "no process can be started", how="a pids cgroup around daemon and workers, which die meanwhile",
    shows="the daemon says so and does not spin; workers come back by themselves",
)  # fmt: skip
def test_no_process_can_be_started(site: Site, tally: Tally) -> None:
    rounds = Rounds(site)
    with cgroup("pids") as group, run_daemon(site.config) as daemon:
        for pid in [daemon.pid, *daemon.workers()]:
            group.hold(pid)
        for number in range(scale(1, 20)):
            group.limit(1)
            rounds.drop()
            _drop_deadly(site, f"p{number}")
            wait_until(lambda: not daemon.workers(), "the workers' end")
            assert spins(daemon.pid, _SPAN) < 0.3
            assert daemon.process.poll() is None, daemon.tail()
            assert "can't be started" in daemon.output()
            group.limit(None)
            rounds.finish(daemon)
            tally()
        assert daemon.stop() == 0


@fault(
    "Machine limits", "no thread can be started", how="a pids cgroup around the daemon, which can't grow any more",
    shows="its inbox, made anew, is polled, a reload refused, and files are taken; it is watched again by itself",
)  # fmt: skip
def test_no_thread_can_be_started(site: Site, tally: Tally) -> None:
    site.write(rescan="1s")
    with cgroup("pids") as group, run_daemon(site.config) as daemon:
        group.hold(daemon.pid)
        for number in range(1, 1 + scale(1, 5)):
            group.limit(1)
            (site.root() / "inbound").rename(site.root() / f"inbound-{number}")
            wait_until(lambda number=number: len(daemon.events("inbox.away")) == number, "its going")
            (site.root() / "inbound").mkdir()
            wait_until(lambda number=number: len(daemon.events("inbox.polling")) == number, "its being polled")
            assert "no thread can be started" in daemon.events("inbox.polling")[-1]["reason"]
            daemon.signal(signal.SIGHUP)
            wait_until(lambda number=number: len(daemon.events("daemon.reload-refused")) == number, "a refusal")
            site.drop(f"polled-{number}.dat", b"x")
            wait_finished(site, number)
            group.limit(None)
            wait_until(lambda number=number: len(daemon.events("inbox.watched")) == number + 1, "events", timeout=60)
            daemon.signal(signal.SIGHUP)
            wait_until(lambda number=number: len(daemon.events("daemon.reloaded")) == number, "a reload")
            tally()
        assert daemon.stop() == 0


@fault(
    "Machine limits", "a start finds no room for its threads", how="a pids cgroup with room for ever more of them",
    shows="it is refused in words; the first that has room for all begins",
)  # fmt: skip
def test_a_start_finds_no_room_for_its_threads(site: Site, tally: Tally) -> None:
    site.workers(processes=1)
    with cgroup("pids") as group:
        for most in range(4, 20):
            group.limit(most)
            with run_daemon(site.config, ready=False, under=group.inside()) as daemon:
                wait_until(lambda: daemon.notified("READY=1") or daemon.process.poll() is not None, "its answer")
                if daemon.process.poll() is None:
                    break
                assert re.search("^inboxd: .*no (thread|worker process) can be started", daemon.output(), re.M), (
                    daemon.tail()
                )
                assert "fault of inboxd" not in daemon.output(), daemon.tail()
                tally()
        else:
            raise AssertionError("no start had room enough")
    assert daemon.events("daemon.ready")


@fault(
    "Machine limits", "a handler gets no memory", how="RLIMIT_AS of the workers",
    shows="MemoryError is the file's failure; the others are processed",
)  # fmt: skip
def test_a_handler_gets_no_memory(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        for pid in wait_until(lambda: len(daemon.ready_workers()) == 2 and daemon.ready_workers(), "the workers"):
            resource.prlimit(pid, resource.RLIMIT_AS, (512 * _MIB, 512 * _MIB))
        site.drop("memory-2000-x.dat", b"too much")
        site.drop_all(files(20))
        wait_finished(site, 21)
        assert site.listed("errors") == ["memory-2000-x.dat"]
        assert site.sidecar("memory-2000-x.dat")["error_class"] == "MemoryError"
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


@fault(
    "Machine limits", "the kernel kills a worker for want of memory", how="a memory cgroup around the workers",
    shows="the file is charged and ends in errors/; the others are processed, the daemon lives",
)  # fmt: skip
def test_the_kernel_kills_a_worker_for_want_of_memory(site: Site) -> None:
    with cgroup("memory") as group, run_daemon(site.config) as daemon:
        group.limit(100 * _MIB)
        held: set[int] = set()

        def hold() -> bool:
            for pid in set(daemon.ready_workers()) - held:
                group.hold(pid)
                held.add(pid)
            return site.finished() >= 21

        wait_until(lambda: hold() or len(held) == 2, "the workers")
        site.drop("memory-300-x.dat", b"too much")
        site.drop_all(files(20))
        wait_until(hold, "every file's end", every=0.002)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)
    assert site.listed("errors") in (["memory-300-x.dat"], [])  # a new worker may be outside for a moment
    assert [
        failed for failed in daemon.events("file.waiting", ending="crashed") if failed["file"] == "memory-300-x.dat"
    ]


@fault(
    "Watching", "inotify has no watch or instance left", how="preloaded shim: ENOSPC, EMFILE",
    shows="the inbox is polled, and says so; it is watched again by itself when that is possible",
)  # fmt: skip
@pytest.mark.parametrize("error", ["ENOSPC", "EMFILE"])
def test_inotify_is_used_up(site: Site, error: str) -> None:
    rounds = Rounds(site)
    shim = Shim(site.base.parent, "watch", error)
    shim.strike(1, EVER)
    with run_daemon(site.config, shim.env) as daemon:
        polling = daemon.wait_event("inbox.polling")
        assert "inotify" in polling["reason"]
        rounds.drop()
        assert _condition(site).startswith("polling")
        rounds.finish(daemon)
        shim.lift()
        wait_until(lambda: _condition(site) == "events", "events again", timeout=60, every=0.5)
        rounds.drop()
        rounds.finish(daemon)


def _condition(site: Site) -> str:
    (inbox,) = inboxd_json(site.config, "status")["inboxes"]
    return str(inbox["condition"])


@fault(
    "Watching", "the kernel's queue of events overflows", how="the daemon is stopped (SIGSTOP) during a burst",
    shows="every file is found, none twice",
)  # fmt: skip
def test_the_queue_of_events_overflows(site: Site, tally: Tally) -> None:
    count = scale(9_000, 100_000)  # two events each; 16384 fit by default
    site.write(rescan="1h")
    with run_daemon(site.config) as daemon:
        daemon.signal(signal.SIGSTOP)
        site.drop_all(files(count, size=64))
        daemon.signal(signal.SIGCONT)
        wait_finished(site, count, timeout=300)
        assert daemon.events("inbox.overflow")
        assert daemon.stop() == 0
    assert_sound(site, finished=True, calm=True)
    tally(count)
