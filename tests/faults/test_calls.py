"""The n-th system call fails, or is the daemon's last; for n = 1, 2, … until a run ends unharmed, as SQLite is tested.

One installation serves many rounds: in each, a load with something for every step is dropped, one call of the daemon is
struck on the way, and all must come to its end: by itself, or after the restart that systemd would do. CI strikes a few
calls spread over the run, INBOXD_ROUNDS=full every one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from support.daemon import Daemon, Fed, inboxd_json, run_daemon
from support.faults import fault
from support.rounds import CALLS, MAKING, Rounds, all_of, spread
from support.shim import EVER, Shim
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

EXIT_SOFTWARE = 70
SAFE = "nothing lost, nothing overwritten, one outcome per file; the restarted daemon finishes all"
_WHILE = 5  # calls that fail before a fault that lasts is lifted

Tally = Callable[..., None]


def strike_each(rounds: Rounds, shim: Shim, numbers: Iterator[int], length: int, tally: Tally) -> None:
    """Round after round: `length` calls from the next n-th on are struck. Until no call is left to be, or no number.

    A daemon serves until it ends: then the next one must finish what it left.
    """
    number = next(numbers, None)
    while number is not None:
        with run_daemon(rounds.site.config, shim.env) as daemon:
            rounds.finish(daemon)
            while number is not None and daemon.process.poll() is None:
                number = next(numbers, None) if _strike(rounds, shim, number, length, daemon) else None
                tally()
    with run_daemon(rounds.site.config) as daemon:
        rounds.finish(daemon)


def _strike(rounds: Rounds, shim: Shim, number: int, length: int, daemon: Daemon) -> bool:
    """One round. False when no call was left to be struck."""

    def ended() -> bool:
        return daemon.process.poll() is not None or rounds.finished()

    before = shim.struck
    shim.strike(shim.counted + number, length)
    rounds.drop()
    wait_until(lambda: shim.struck - before >= min(length, _WHILE) or ended(), "the strike", every=0.002)
    shim.lift()
    wait_until(ended, "an end", timeout=40)
    if daemon.process.poll() is None:
        rounds.finish(daemon)
    else:
        _ended_well(daemon, shim)
        assert_sound(rounds.site)
    return shim.struck > before


def _ended_well(daemon: Daemon, shim: Shim) -> None:
    """By our kill, or by itself, with a reason."""
    if shim.kills:
        assert daemon.wait() == -signal.SIGKILL
    else:
        assert daemon.wait() == EXIT_SOFTWARE, daemon.tail()
        assert daemon.events("daemon.failed")


@fault("System calls", "the daemon dies at its n-th call", how="preloaded shim, SIGKILL at the n-th call", shows=SAFE)
@pytest.mark.parametrize("action", ["kill", "torn"])
def test_the_nth_call_is_the_last(site: Site, tally: Tally, action: str) -> None:
    shim = Shim(site.base.parent, CALLS, action, paths=all_of(site))
    strike_each(Rounds(site), shim, spread(1, 30, 80), 1, tally)


ERRORS = pytest.mark.parametrize(("calls", "error"), [(CALLS, "EIO"), (MAKING, "ENOSPC"), ("open", "EMFILE")])


@fault(
    "System calls", "one call fails", how="preloaded shim, the n-th call fails with EIO, ENOSPC or EMFILE",
    shows=f"it is borne, or the daemon ends with a reason; {SAFE}",
)  # fmt: skip
@ERRORS
def test_the_nth_call_fails(site: Site, tally: Tally, calls: str, error: str) -> None:
    shim = Shim(site.base.parent, calls, error, paths=all_of(site))
    strike_each(Rounds(site), shim, spread(2, 9, 20, 45, 80, 110), 1, tally)


@fault(
    "System calls", "every call fails from one on, for a while",
    how="preloaded shim, calls from the n-th on fail until it is lifted",
    shows=f"degraded, and goes on by itself; or the daemon ends with a reason; {SAFE}",
)  # fmt: skip
@ERRORS
def test_calls_fail_from_the_nth_on(site: Site, tally: Tally, calls: str, error: str) -> None:
    shim = Shim(site.base.parent, calls, error, paths=all_of(site))
    strike_each(Rounds(site), shim, spread(1, 15, 60), EVER, tally)


@fault(
    "System calls", "a sync fails", how="preloaded shim, the n-th fsync, fdatasync or syncfs fails with EIO",
    shows="no process believes a later sync of the same data; nothing lost, one outcome per file",
)  # fmt: skip
def test_a_sync_that_failed_is_not_tried_again(site: Site, tally: Tally) -> None:
    shim = Shim(site.base.parent, "sync,truncate", "EIO", paths=all_of(site), log=True)
    strike_each(Rounds(site), shim, spread(1, 4, 7), 1, tally)
    failed: set[tuple[int, str]] = set()
    for call, following in pairwise(shim.calls()):
        same = (call.pid, call.path)
        if call.call.startswith("ftruncate"):
            failed.discard(same)
        elif call.became != "ok":
            failed.add(same)
        elif same in failed:  # only SQLite's log, whose content goes into the ledger right after
            assert call.path == f"{following.path}-wal", f"synced again, and believed: {call}"
            failed.discard(same)
    assert shim.struck


@fault(
    "System calls", "a sync hangs for longer than systemd's watchdog waits",
    how="preloaded shim, fsync and syncfs wait until it is lifted",
    shows="the watchdog is fed; `inboxd status` and STATUS name the folder; what runs is finished, and all goes on",
)  # fmt: skip
def test_a_sync_hangs(site: Site) -> None:
    site.write(durability="full")
    work = f"{site.root('main')}/work"
    shim = Shim(site.base.parent, "sync", "hang", paths=f"{work}*")
    with run_daemon(site.config, {**Fed.ENVIRONMENT, **shim.env}) as daemon:
        site.drop("sleep-2-x.dat", b"it runs while the disk hangs")
        wait_until(lambda: site.witnessed("start"), "the run")
        shim.strike(1, EVER)
        site.drop("ok-1.dat", b"its claim is to be synced")
        wait_until(lambda: shim.struck, "the sync that hangs")
        fed = Fed(daemon)
        wait_until(lambda: f"the disk of {work}" in daemon.status(), "the word that the disk hangs")
        assert daemon.status().startswith("degraded: ")
        assert work in str(inboxd_json(site.config, "status")["degraded"])
        wait_until(lambda: site.witnessed("end"), "the end of the run")
        fed.assert_fed()
        shim.lift()
        wait_finished(site, 2)
        assert inboxd_json(site.config, "status")["degraded"] == []
    assert_sound(site, calm=True, finished=True)
