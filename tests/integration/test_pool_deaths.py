"""Every way a worker can end, and what is said of each file then."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inboxd.clock import SystemClock
from inboxd.errors import AlreadyRunning, PreconditionError
from inboxd.model import Ending
from inboxd.pool.child import read_marks
from inboxd.pool.generation import GenerationLock
from inboxd.pool.orphans import Orphans
from support.faults import fault
from support.pool_rig import Rig, alive, rig
from support.wait import wait_until


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("segfault", "signal 11"),
        ("exit-0", "exit status 0 in the middle"),
        ("exit-3", "exit status 3 in the middle"),
        ("kill", "signal 9"),
    ],
)
def test_only_the_file_in_progress_is_charged(tmp_path, name, words):
    with rig(tmp_path) as pool:
        reports = pool.run("by_name", "a", "b", name, "c", "d")
        assert [r.ending for r in reports[2:]] == [Ending.CRASHED, Ending.RELEASED, Ending.RELEASED]
        assert words in reports[2].message
        assert [r.begun for r in reports] == [True, True, True, False, False]
        assert {r.ending for r in reports[:2]} <= {Ending.PROCESSED, Ending.RELEASED}
        assert [r.ending for r in pool.run("by_name", "a")] == [Ending.PROCESSED]
        assert "child.backoff" not in pool.names()


@fault(
    "Workers and handlers",
    "a crash in native code",
    how="a null pointer",
    shows="the signal and the traceback are told",
)
def test_a_crash_in_native_code_leaves_a_traceback(tmp_path):
    with rig(tmp_path) as pool:
        (report,) = pool.run("by_name", "segfault")
        assert "Segmentation fault" in report.detail
        assert "in by_name" in report.detail


def test_what_a_handler_raises_is_no_death(tmp_path):
    with rig(tmp_path) as pool:
        pids = pool.pids()
        assert [r.ending for r in pool.run("by_name", "raise")] == [Ending.FAILED]
        assert pool.pids() == pids


@pytest.mark.parametrize("name", ["loop", "sleep", "deaf"])
def test_a_hung_file_times_out_alone(tmp_path, name):
    with rig(tmp_path, timeout=0.3) as pool:
        reports = pool.run("by_name", name, "after")
        assert [(r.ending, r.begun) for r in reports] == [(Ending.TIMED_OUT, True), (Ending.RELEASED, False)]
        assert "longer than 0.3 s" in reports[0].message
        if name != "deaf":
            assert "in by_name" in reports[0].detail
        assert [r.ending for r in pool.run("by_name", "after")] == [Ending.PROCESSED]


def test_the_timeout_is_per_file(tmp_path):
    with rig(tmp_path, timeout=1.0) as pool:
        order = pool.dispatch("by_name", *("quick" for _ in range(300)), "sleep")
        *quick, hung = pool.outcome(order)
        assert {r.ending for r in quick} <= {Ending.PROCESSED, Ending.RELEASED}
        assert hung.ending is Ending.TIMED_OUT


def test_a_death_in_a_batch_handler_is_bisected(tmp_path):
    with rig(tmp_path) as pool:
        reports = pool.run("batch_by_name", "a", "kill", "c")
        assert {(r.ending, r.begun, r.bisect) for r in reports} == {(Ending.RELEASED, False, True)}
        (alone,) = pool.run("batch_by_name", "kill")
        assert (alone.ending, alone.bisect) == (Ending.CRASHED, False)
        assert [r.ending for r in pool.run("batch_by_name", "a", "c")] == [Ending.PROCESSED] * 2


def test_a_death_between_two_messages_of_one_batch(tmp_path):
    """What has been told counts; of the rest it is known that the call was over."""
    with rig(tmp_path) as pool:
        reports = pool.run("batch_torn", *("x" for _ in range(400)))
        told = [r for r in reports if r.ending is Ending.PROCESSED]
        assert 0 < len(told) < 400
        assert reports[: len(told)] == told
        assert {(r.ending, r.begun, r.bisect) for r in reports[len(told) :]} == {(Ending.RELEASED, True, False)}
        assert {r.ending for r in pool.run("batch_by_name", "a", "b")} == {Ending.PROCESSED}


def test_a_hung_batch_handler_is_bisected(tmp_path):
    with rig(tmp_path, timeout=0.2) as pool:
        assert {r.bisect for r in pool.run("batch_by_name", "a", "sleep")} == {True}
        assert [r.ending for r in pool.run("batch_by_name", "sleep")] == [Ending.TIMED_OUT]


@pytest.mark.parametrize("inbox", ["grandchild", "daemonise"])
def test_processes_that_outlive_their_worker_are_killed(tmp_path, inbox):
    with rig(tmp_path) as pool:
        (report,) = pool.run(inbox, "a")
        assert report.ending is Ending.CRASHED
        pid = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the leftover process to be killed and reaped")


def test_leftovers_end_with_the_pool(tmp_path, monkeypatch):
    """Told of, however quickly they die."""
    send = signal.pidfd_send_signal

    def kill(pidfd, number):
        send(pidfd, number)
        if number == signal.SIGKILL:
            select.select([pidfd], [], [], 10)

    monkeypatch.setattr(signal, "pidfd_send_signal", kill)
    with rig(tmp_path) as pool:
        assert [r.ending for r in pool.run("leave", "a")] == [Ending.PROCESSED]
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    assert str(pid) in str(pool.texts("child.orphan"))
    assert not Path(f"/proc/{pid}").exists()


def _count_sweeps(monkeypatch):
    """Those that have come to their end."""
    sweeps, sweep = [], Orphans.sweep
    monkeypatch.setattr(Orphans, "sweep", lambda *given: sweeps.append(sweep(*given)) or sweeps[-1])
    monkeypatch.setattr("inboxd.pool.slot._SWEEP", 0.0)
    return sweeps


def test_a_helper_without_our_token_is_spared_while_its_file_may_be_in_progress(tmp_path, monkeypatch):
    """The end of another worker's order ends no helper of this one's."""
    sweeps = _count_sweeps(monkeypatch)
    with rig(tmp_path, processes=2) as pool:
        order = pool.dispatch("need_bare", "a")
        wait_until((tmp_path / "pid").exists, "the helper")
        before = len(sweeps)
        pool.run("noop", "b")
        wait_until(lambda: len(sweeps) > before, "the look for what that has left")
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        (tmp_path / "go").touch()
        assert [r.ending for r in pool.outcome(order)] == [Ending.PROCESSED]
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the helper to be killed and reaped")


def test_a_leftover_without_our_token_is_no_helper_of_a_later_order(tmp_path, monkeypatch):
    """It is killed while that goes on."""
    monkeypatch.setattr("inboxd.pool.slot._SWEEP", 3600.0)
    with rig(tmp_path, processes=2) as pool:
        assert [r.ending for r in pool.run("leave_bare", "a")] == [Ending.PROCESSED]
        pid = int((tmp_path / "pid").read_text())
        later = SystemClock().uptime() + 0.02  # the kernel tells its start to the hundredth
        wait_until(lambda: SystemClock().uptime() > later, "the next ticks")
        order = pool.dispatch("wait_for_go", "b")
        pool.wait_begun(order)
        monkeypatch.setattr("inboxd.pool.slot._SWEEP", 0.0)
        pool.run("noop", "c")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the leftover to be killed and reaped")
        (tmp_path / "go").touch()
        assert [r.ending for r in pool.outcome(order)] == [Ending.PROCESSED]


def test_processes_of_other_parts_of_the_daemon_are_spared(tmp_path):
    with rig(tmp_path) as pool, subprocess.Popen(["sleep", "3600"]) as ours:
        pool.run("by_name", "kill")
        pool.run("noop", "a")
        assert ours.poll() is None
        ours.kill()


@pytest.mark.parametrize("inbox", ["babble", "forge", "note", "hang_up"])
def test_a_child_that_breaks_the_protocol_is_killed(tmp_path, inbox):
    with rig(tmp_path) as pool:
        broken, after = pool.run(inbox, "a", "b")
        assert (broken.ending, broken.begun) == (Ending.CRASHED, True)
        assert (after.ending, after.begun) == (Ending.RELEASED, False)
        assert "child.killed" in pool.names()
        assert [r.ending for r in pool.run("noop", "a")] == [Ending.PROCESSED]


def test_a_slow_exit_costs_no_report(tmp_path, monkeypatch):
    monkeypatch.setattr("inboxd.pool.slot.EXIT_TIMEOUT", 0.2)
    with rig(tmp_path) as pool:
        assert [r.ending for r in pool.run("by_name", "exit_slowly")] == [Ending.PROCESSED]
        (pid,) = pool.pids()
        os.kill(pid, 0)
        pool.stop()
        assert not alive(pid)
        assert "child.killed" in pool.names()


@pytest.mark.parametrize("name", ["quick", "slow"])
def test_a_worker_that_misses_sigterm_is_asked_again(tmp_path, name):
    with rig(tmp_path) as pool:
        order = pool.dispatch("miss_sigterm", name)
        if name == "slow":
            wait_until((tmp_path / "deaf").exists, "its being deaf")
            pool.pool.drain(5.0)
            wait_until(lambda: "child.asked" in pool.names(), "that it is asked")
            (tmp_path / "go").touch()
        assert [r.ending for r in pool.outcome(order)] == [Ending.PROCESSED]
        pool.stop()
        assert "child.killed" not in pool.names()


def test_sigterm_from_outside_finishes_the_file_and_gives_the_rest_back(tmp_path):
    with rig(tmp_path) as pool:
        order = pool.dispatch("wait_for_go", "a", "b")
        pool.wait_begun(order)
        os.kill(pool.pids()[0], signal.SIGTERM)
        (tmp_path / "go").touch()
        a, b = pool.outcome(order)
        assert a.ending is Ending.PROCESSED
        assert (b.ending, b.begun) == (Ending.RELEASED, False)
        assert [r.ending for r in pool.run("noop", "a")] == [Ending.PROCESSED]


def test_an_idle_worker_that_dies_is_replaced(tmp_path):
    with rig(tmp_path) as pool:
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pool.pids() not in ([], [pid]), "another worker")
        assert "child.died" in pool.names()


@fault(
    "Workers and handlers",
    "no worker can start",
    how="each one exits at once",
    shows="longer and longer pauses, then FATAL; the daemon answers",
)
def test_no_worker_comes_up(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = Rig(tmp_path)
    with pytest.raises(PreconditionError, match="no worker process can be started"):
        made.pool.start()
    made.pool.kill()


def test_a_failing_turn_leaves_nothing_behind(tmp_path):
    made = Rig(tmp_path, processes=2)
    made.pool.start()
    pids = made.pids()

    def turn() -> None:
        raise RuntimeError("turn")

    with pytest.raises(RuntimeError, match="turn"):
        made.pool.run(turn)
    assert not any(map(alive, pids))


def test_a_generation_that_still_runs_is_named(tmp_path):
    path = tmp_path / "generation.lock"
    lock = GenerationLock(path)
    lock.take(0)
    held = os.dup(lock.fd)
    with subprocess.Popen(["sleep", "3600"], pass_fds=[held]) as old:
        lock.release()
        os.close(held)
        with pytest.raises(AlreadyRunning, match=str(old.pid)):
            GenerationLock(path).take(0.1)
        old.kill()
        old.wait()
        again = GenerationLock(path)
        again.take(5)
        again.release()


def test_workers_hold_the_generation_lock_and_leave_with_the_daemon(tmp_path):
    """A daemon that is killed in the middle of a file: its worker finishes that, and goes."""
    script = (
        "import sys, pathlib; sys.path[:0] = [sys.argv[2]]\n"
        "from support.pool_rig import Rig\n"
        "made = Rig(pathlib.Path(sys.argv[1])); made.start()\n"
        "made.wait_begun(made.dispatch('wait_for_go', 'a', 'b')); print(made.pids()[0], flush=True)\n"
        "made._loop.join()\n"
    )
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), tests], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        worker = int(daemon.stdout.readline())
        daemon.kill()
    with pytest.raises(AlreadyRunning, match=str(worker)):
        GenerationLock(tmp_path / "generation.lock").take(0)
    marks = read_marks(tmp_path / "marks")
    assert marks is not None and [mark.at for mark in marks] == [0]
    (tmp_path / "marks" / "boot").write_text("another")
    assert read_marks(tmp_path / "marks") is None
    (tmp_path / "go").touch()
    lock = GenerationLock(tmp_path / "generation.lock")
    lock.take(20)
    lock.release()


@fault(
    "Workers and handlers",
    "a worker dies while it reports",
    how="SIGKILL at random",
    shows="each file is reported once",
)
def test_every_file_is_reported_once_while_workers_are_killed_at_random(tmp_path):
    with rig(tmp_path, processes=3, max_files=60) as pool:
        calm = threading.Event()
        killer = threading.Thread(target=_kill_at_random, args=(pool, calm, random.Random(7)))
        killer.start()
        try:
            orders = []
            for number in range(100):
                wait_until(pool.pool.free, "room")
                names = ("quick" if n % 9 else "exit-1" for n in range(1, 1 + number % 20))
                orders.append(pool.dispatch("by_name", *names))
            for order in orders:
                for file, report in zip(order.files, pool.outcome(order), strict=True):
                    assert report.ending in (Ending.PROCESSED, Ending.RELEASED, Ending.CRASHED)
                    assert report.ending is not Ending.PROCESSED or file.name == "quick"
        finally:
            calm.set()
            killer.join()
        assert pool.pool.reports() == []


def _kill_at_random(pool, calm, dice):
    """Mostly workers that have come up; those that have not wait longer after each death."""
    while not calm.wait(dice.uniform(0.0, 0.15)):
        row = dice.choice(pool.pool.snapshot())
        if row["pid"] and (row["state"] in ("IDLE", "BUSY") or dice.random() < 0.1):
            try:
                os.kill(row["pid"], dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            except ProcessLookupError:
                continue


@fault(
    "Workers and handlers",
    "a process that SIGKILL does not end",
    how="a process that can't be reaped yet",
    shows="its slot is lost until it ends, no other",
)
def test_a_process_that_survives_sigkill_costs_its_slot_until_it_ends(tmp_path, monkeypatch):
    """Uninterruptible sleep can't be had without a broken device, so here the signal is not sent."""
    monkeypatch.setattr("inboxd.pool.slot.ABANDON_AFTER", 0.1)
    with rig(tmp_path, timeout=0.2) as pool:
        (pid,) = pool.pids()
        with monkeypatch.context() as undying:
            undying.setattr("inboxd.pool.child.Child.kill", lambda child: None)
            stuck, after = pool.run("by_name", "deaf", "after")
        assert (stuck.ending, after.begun) == (Ending.TIMED_OUT, False)
        assert "child.stuck" in pool.names()
        wait_until(lambda: pool.pool.free() == 0, "no room in a pool without slots")
        os.kill(pid, signal.SIGKILL)
        assert [r.ending for r in pool.run("noop", "a")] == [Ending.PROCESSED]
