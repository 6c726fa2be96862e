"""The wall clock jumps, by days and by years, while files are at every step: nothing waits for it, nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clocks import DAY, YEAR, WallClock
from support.daemon import run_daemon
from support.faults import fault, scale
from support.partner import Partner
from support.site import Site
from support.sound import assert_sound
from support.sourced import assert_sound_with, connect, offer, rows
from support.wait import wait_until

Tally = Callable[..., None]
JUMPS = [-10 * YEAR, DAY, -DAY, 10 * YEAR, -50 * YEAR, 100 * YEAR]
_SOON = 15.0  # seconds in which every round ends, whatever the clock says


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "clock")


def _drop(site: Site, mark: str) -> None:
    """Files that run, that fail once and wait, and that must stand still first."""
    for name in ("sleep-0_4", "fail-1", "fail-2"):
        for number in range(3):
            site.drop(f"{name}-{mark}.{number}.dat", f"{name} {mark} {number}".encode())
    site.drop(f"ok-{mark}.dat", mark.encode(), inbox="still")


def _under_way(site: Site) -> bool:
    """Something runs, and something waits for its next attempt."""
    return {"RUNNING", "WAITING"} <= {row["state"] for row in rows(site, "SELECT state FROM files WHERE open = 1")}


def _wait_all_ended(site: Site, partner: Partner) -> None:
    def ended() -> bool:
        here = site.finished("main") + site.finished("still") == len(site.manifest) + len(partner.offers)
        return here and not rows(site, "SELECT id FROM files WHERE open = 1")

    wait_until(ended, "every file's end", _SOON)


@fault(
    "Clocks", "the wall clock jumps", how="preloaded clock of the whole tree, by 1 day to 100 years, both ways",
    shows="no time limit strikes, no retry waits for the old time, nothing is lost; folders bear the new date",
)  # fmt: skip
def test_the_clock_jumps_while_files_are_under_way(site: Site, clock: WallClock, tally: Tally) -> None:
    site.write(workers={"processes": 2, "batch_size": 5, "timeout": "30s"}, rescan="1s")
    site.inbox("still", settle={"quiet": "300ms"})
    retry = {"first": "1s", "longest": "2s", "max_failures": 4}
    with Partner() as partner:
        connect(site, partner, inbox={"layout": "%Y-%m-%d", "retry": retry})
        with run_daemon(site.config, clock.env):
            for number, jump in enumerate(JUMPS * scale(1, 20)):
                _drop(site, f"r{number}")
                offer(partner, 2, prefix=f"item-{number}")
                wait_until(lambda: _under_way(site), "files at every step", every=0.005)
                before = _day(clock)
                clock.jump(jump)
                _wait_all_ended(site, partner)
                days = {name.partition("/")[0] for name in site.listed("processed") if f"-r{number}." in name}
                assert days <= {before, _day(clock)}
                tally()
        assert not site.listed("errors")
        assert_sound_with(site, partner, finished=True, calm=True, set_back=True)


def _day(clock: WallClock) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(clock.time()))


@fault(
    "Clocks", "the wall clock is set back while the daemon is down", how="preloaded clock, by 10 years",
    shows="what waits for its next attempt is tried at once",
)  # fmt: skip
def test_the_clock_is_set_back_between_two_lives(site: Site, clock: WallClock) -> None:
    site.inbox("main", retry={"first": "1h", "longest": "1h"})
    clock.jump(10 * YEAR)
    site.drop("fail-1-x.dat", b"fail once")
    with run_daemon(site.config, clock.env):
        wait_until(lambda: _waiting(site), "a file that waits")
    clock.jump(-10 * YEAR)
    with run_daemon(site.config, clock.env) as daemon:
        wait_until(lambda: site.listed("processed"), "its second attempt")
        assert daemon.stop() == 0
    assert_sound(site, finished=True, set_back=True)


@fault(
    "Clocks", "everything stands still for a while", how="SIGSTOP of the whole tree, longer than any time limit",
    shows="no time limit counts the standstill",
)  # fmt: skip
def test_the_machine_stands_still(site: Site, tally: Tally) -> None:
    site.workers(timeout="6s")
    with run_daemon(site.config) as daemon:
        for number in range(scale(1, 10)):
            site.drop_all((f"steps-20-{number}.{twin}.dat".encode(), b"%d %d" % (number, twin)) for twin in range(2))
            wait_until(lambda number=number: len(site.witnessed("start")) == 2 * number + 2, "two runs")
            family = [daemon.pid, *daemon.workers()]
            for pid in family:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(8)  # the standstill
            for pid in family:
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: site.finished() == len(site.manifest), "their ends")
            assert not daemon.events("file.waiting"), "a time limit struck"
            tally()
        assert daemon.stop() == 0
    assert_sound(site, finished=True, calm=True)


def _waiting(site: Site) -> bool:
    return bool(rows(site, "SELECT id FROM files WHERE state = 'WAITING'"))
