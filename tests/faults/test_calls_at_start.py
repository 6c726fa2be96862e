"""The n-th system call of a start fails, or is its last: while recovery repairs what an earlier death has left."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from support.daemon import Daemon, run_daemon
from support.faults import fault
from support.rounds import CALLS, MAKING, Rounds, all_of, spread
from support.shim import EVER, Shim
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

Tally = Callable[..., None]
_MORE = "EXTEND_TIMEOUT_USEC=60000000"


def _break(rounds: Rounds, shim: Shim, number: int) -> None:
    """A daemon finishes what is there, and dies in the middle of a new load: each time at another call."""
    killer = Shim(shim.folder / "killer", CALLS, "kill", paths=all_of(rounds.site))
    with run_daemon(rounds.site.config, killer.env) as daemon:
        rounds.finish(daemon)
        killer.strike(killer.counted + 20 + number * 37 % 140)
        rounds.drop()
        assert daemon.wait() == -signal.SIGKILL


def _start(rounds: Rounds, shim: Shim, number: int) -> tuple[Daemon, bool]:
    """A daemon whose `number`-th call is struck; it is READY, or has ended. False when the start had no such call:
    what is struck after READY, until we see that, is none of it.
    """
    begun = shim.counted
    shim.strike(begun + number)
    with run_daemon(rounds.site.config, shim.env, ready=False) as daemon:
        wait_until(
            lambda: daemon.process.poll() is not None or daemon.notified("READY=1"), "the end of the start", every=0.001
        )
        calls = shim.counted - begun
        shim.lift()
        if daemon.process.poll() is None:
            rounds.finish(daemon)
    return daemon, calls >= number


@fault(
    "System calls", "the daemon dies at the n-th call of a start", how="preloaded shim, SIGKILL during recovery",
    shows="recovery begins again; nothing lost, one outcome per file",
)  # fmt: skip
def test_the_nth_call_of_a_start_is_the_last(site: Site, tally: Tally) -> None:
    rounds, shim = Rounds(site), Shim(site.base.parent, CALLS, "kill", paths=all_of(site))
    for number in spread(30, 75):
        _break(rounds, shim, number)
        daemon, had_it = _start(rounds, shim, number)
        if not had_it or daemon.notified("READY=1"):
            break
        assert daemon.wait() == -signal.SIGKILL
        assert_sound(site)
        tally()
    with run_daemon(site.config) as daemon:
        rounds.finish(daemon)


@fault(
    "System calls", "one call of a start fails", how="preloaded shim, the n-th call fails with EIO, ENOSPC or EMFILE",
    shows="it starts all the same, or is refused in one line that says why; the next start finishes all",
)  # fmt: skip
@pytest.mark.parametrize(("calls", "error"), [(CALLS, "EIO"), (MAKING, "ENOSPC"), ("open", "EMFILE")])
def test_the_nth_call_of_a_start_fails(site: Site, tally: Tally, calls: str, error: str) -> None:
    rounds, shim = Rounds(site), Shim(site.base.parent, calls, error, paths=all_of(site))
    _break(rounds, shim, 0)
    for number in spread(6, 25, 60, 100):
        daemon, had_it = _start(rounds, shim, number)
        if daemon.process.returncode:
            assert daemon.process.returncode in (70, 75, 78)
            assert "Traceback" not in daemon.output(), daemon.tail()
            assert_sound(site)
        if not had_it:
            break
        tally()
    with run_daemon(site.config) as daemon:
        rounds.finish(daemon)


@fault(
    "System calls", "a sync of a start hangs",
    how="preloaded shim, fsync and syncfs wait until it is lifted",
    shows="systemd is asked for more time, again and again; STATUS names the folder; then recovery goes on",
)  # fmt: skip
def test_a_sync_of_a_start_hangs(site: Site) -> None:
    site.write(durability="full")
    site.drop("ok-1.dat", b"delivered, and not synced")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "deliver.renamed:kill@1"}, ready=False) as daemon:
        assert daemon.wait() == -signal.SIGKILL
    work = f"{site.root()}/work"
    shim = Shim(site.base.parent, "sync", "hang", paths=f"{work}*")
    shim.strike(1, EVER)
    with run_daemon(site.config, shim.env, ready=False) as daemon:
        wait_until(lambda: shim.struck, "the sync that hangs")
        asked = daemon.notifications.lines.count(_MORE)
        wait_until(lambda: daemon.notifications.lines.count(_MORE) >= asked + 2, "more time, twice")
        told = f"starting: the disk of {work} has not synced for "
        wait_until(lambda: daemon.status().startswith(told), "the status, which is told behind that")
        assert not daemon.notified("READY=1")
        shim.lift()
        daemon.wait_ready()
        wait_finished(site, 1)
        assert not daemon.events("daemon.start-hangs")
    assert_sound(site, finished=True)
