"""Stopping: what runs may finish, what waits is given back without blame, nothing is lost."""

from __future__ import annotations

import signal

from support.daemon import inboxd, run_daemon
from support.faults import fault
from support.invariants import Evidence, Facts, Installation
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _rows(site: Site) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in Facts(Installation.read(site.config), Evidence()).rows}


def _starts(site: Site, count: int) -> None:
    wait_until(lambda: len(site.witnessed("start")) >= count, f"{count} starts")


@fault(
    "Process death",
    "a stop in a long batch",
    how="SIGTERM",
    shows="files in progress finish, the rest is given back uncharged",
)
def test_a_stop_waits_for_files_in_progress_and_releases_the_rest(site: Site) -> None:
    site.workers(processes=1)
    site.write(stop_grace="20s")
    site.put((f"sleep-1-{number:02d}.dat".encode(), b"%d" % number) for number in range(10))
    with run_daemon(site.config) as daemon:
        _starts(site, 1)
        assert daemon.stop() == 0
    ends = site.witnessed("end")
    assert 1 <= len(ends) <= 2
    assert len(site.witnessed("start")) == len(ends)
    rows = _rows(site)
    done = {line["name"] for line in ends}
    assert {name for name, row in rows.items() if row["state"] == "DONE"} == done
    assert all(row["attempts"] == 0 == row["failures"] for name, row in rows.items() if name not in done)
    assert_sound(site, calm=True)


@fault(
    "Process death",
    "a stop that a handler outlasts",
    how="SIGTERM, and a handler that sleeps",
    shows="killed after stop_grace; an attempt, and no failure",
)
def test_after_the_grace_workers_are_killed_and_nobody_is_blamed(site: Site) -> None:
    site.write(stop_grace="300ms")
    with run_daemon(site.config) as daemon:
        site.drop("hang-1-x.dat", b"x")
        _starts(site, 1)
        site.drop("hang-1-y.dat", b"y")
        _starts(site, 2)
        assert daemon.stop(timeout=15) == 0
    rows = _rows(site)
    assert [(row["state"], row["attempts"], row["failures"]) for row in rows.values()] == [("CLAIMED", 1, 0)] * 2
    assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 2)
    assert site.listed("processed") == ["hang-1-x.dat", "hang-1-y.dat"]
    assert_sound(site, finished=True)


@fault(
    "Process death", "signals while stopping", how="SIGTERM, SIGINT and SIGHUP, many times", shows="one stop, exit 0"
)
def test_a_storm_of_signals_is_one_stop(site: Site) -> None:
    site.drop_all(files(200))
    with run_daemon(site.config) as daemon:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            daemon.signal(number)
        assert daemon.wait() == 0
        assert "Traceback" not in daemon.output()
    assert_sound(site)


def test_a_stop_right_after_ready_loses_nothing(site: Site) -> None:
    site.put(files(300))
    for _ in range(3):
        with run_daemon(site.config) as daemon:
            assert daemon.stop() == 0
        assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 300)
    assert_sound(site, finished=True)


def test_the_lock_names_nobody_after_a_stop(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert (site.state / "instance.lock").read_text() == f"{daemon.pid}\n"
        assert daemon.stop() == 0
    assert (site.state / "instance.lock").read_text() == ""


def test_the_verb_drain_stops_it(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, "drain").returncode == 0
        assert daemon.wait() == 0
        assert {told["reason"] for told in daemon.events("child.asked")} == {"the daemon stops"}
        assert not daemon.events("child.recycled")
    assert_sound(site, calm=True)


def test_a_long_stop_tells_its_supervisor(site: Site) -> None:
    site.put([(b"sleep-2-x.dat", b"x")])
    with run_daemon(site.config) as daemon:
        _starts(site, 1)
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: daemon.notified("STOPPING=1"), "STOPPING=1", timeout=1.5)
        assert daemon.process.poll() is None
        assert daemon.wait() == 0
    assert_sound(site, calm=True, finished=True)
