"""The ledger is locked, slow, away, cut off, lost, damaged or an older one: what is held stays safe, no run that has
ended is repeated, and work goes on by itself; or the daemon refuses, and says what to do.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from support.cutter import Cutter
from support.daemon import Daemon, Fed, inboxd, inboxd_json, run_daemon
from support.faults import fault, scale
from support.load import files
from support.postgres import Postgres
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

AWAY = "nothing new is claimed, what runs is finished, the daemon says that it is degraded, and resumes by itself"
ONCE = "the outcome log is replayed: no run that had ended is repeated, results are delivered, failures counted"


@contextlib.contextmanager
def locked(site: Site) -> Iterator[None]:
    """Another process holds the write lock of a SQLite ledger."""
    with contextlib.closing(sqlite3.connect(site.state / "ledger.sqlite", isolation_level=None, timeout=20)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def stopped(postgres: Postgres) -> Iterator[None]:
    """The server is gone, as in a crash."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


@pytest.fixture
def on_postgres(site: Site, postgres: Postgres) -> Site:
    """A fresh installation with a fresh database."""
    site.write(ledger=postgres.url(postgres.create()))
    return site


# The outcome log


def _begin_a_batch(site: Site) -> None:
    """One batch of one worker, which has begun its first file, and comes to the others while the ledger is away."""
    site.workers(processes=1)
    names = ("sleep-1-x", "ok-1", "results-1", "fail-1-x", "reject-1", "retry-1-x", "sleep-0_1-x")
    site.put((f"{name}.dat".encode(), name.encode()) for name in names)


_RUNS = 7


def _await_the_first_run(site: Site) -> None:
    wait_until(lambda: site.witnessed("start"), "the first run")


def _kept(site: Site) -> int:
    path = site.state / "outcomes.log"
    return sum(1 for line in path.read_bytes().split(b"\n") if line) if path.exists() else 0


def _assert_each_run_counted(site: Site) -> None:
    """`fail-1` and `retry-1` end well in their second attempt; nothing else has run twice."""
    with run_daemon(site.config) as daemon:
        wait_finished(site, 7)
        assert daemon.stop() == 0
    assert [len(site.listed(which)) for which in ("processed", "errors", "outbound")] == [6, 1, 2]
    assert len(site.witnessed("start")) == _RUNS + 2
    assert not (site.state / "outcomes.log").exists()
    assert_sound(site, calm=True, finished=True)


@fault("Ledger", "the daemon is killed while the ledger is away", how="SIGKILL, a lock of SQLite's", shows=ONCE)
def test_killed_behind_a_lock(site: Site) -> None:
    _begin_a_batch(site)
    with run_daemon(site.config, ready=False) as daemon:
        _await_the_first_run(site)
        with locked(site):
            wait_until(lambda: _kept(site) == _RUNS, "the reports in the log")
            daemon.kill()
    assert_sound(site, calm=True)
    _assert_each_run_counted(site)


@fault("Ledger", "the daemon is stopped while the ledger is away", how="SIGTERM, a lock of SQLite's", shows=ONCE)
def test_stopped_behind_a_lock(site: Site) -> None:
    """It ends within its grace, whenever the ledger comes back, and says what was not recorded."""
    _begin_a_batch(site)
    with run_daemon(site.config, ready=False) as daemon:
        _await_the_first_run(site)
        with locked(site):
            wait_until(lambda: _kept(site) == _RUNS, "the reports in the log")
            assert daemon.stop() == 0
        assert daemon.events("daemon.unrecorded")
        assert daemon.events("daemon.stopped")
    assert_sound(site, calm=True)
    _assert_each_run_counted(site)


@fault("Ledger", "the daemon is killed while the ledger is away", how="SIGKILL at a failpoint", shows=ONCE)
def test_killed_in_the_middle_of_it(on_postgres: Site, postgres: Postgres) -> None:
    """What is in the log by then is not repeated; the others are."""
    site = on_postgres
    _begin_a_batch(site)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.kept:kill"}, ready=False) as daemon:
        _await_the_first_run(site)
        with stopped(postgres):
            assert daemon.wait() < 0
    kept = set((site.state / "outcomes.log").read_text().split('"')[1::2]) & {one["id"] for one in site.witnessed()}
    assert kept
    assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 7)
    assert_sound(site, finished=True)
    good = [line["id"] for line in site.witnessed("end") if line["ending"] == "ok" and line["id"] in kept]
    assert len(good) == len(set(good))


@fault("Ledger", "the daemon is killed while the ledger is away", how="SIGKILL, PostgreSQL stopped", shows=ONCE)
def test_killed_without_a_server(on_postgres: Site, postgres: Postgres) -> None:
    """As its reports come in; and again while their log is replayed."""
    site = on_postgres
    _begin_a_batch(site)
    with run_daemon(site.config, ready=False) as daemon:
        _await_the_first_run(site)
        with stopped(postgres):
            wait_until(lambda: _kept(site) == _RUNS, "the reports in the log")
            daemon.kill()
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "recover.running:kill"}, ready=False) as daemon:
        assert daemon.wait() < 0
    assert _kept(site) == _RUNS
    assert_sound(site, calm=True)
    _assert_each_run_counted(site)


@fault("Ledger", "the daemon is killed when the ledger is back", how="SIGKILL, PostgreSQL started again", shows=ONCE)
def test_killed_when_the_server_is_back(on_postgres: Site, postgres: Postgres) -> None:
    """What the log tells is recorded, and the log is still there."""
    site = on_postgres
    _begin_a_batch(site)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.recorded:kill"}, ready=False) as daemon:
        _await_the_first_run(site)
        with stopped(postgres):
            wait_until(lambda: _kept(site) == _RUNS, "the reports in the log")
        assert daemon.wait() < 0
    assert _kept(site) == _RUNS
    assert_sound(site, calm=True)
    _assert_each_run_counted(site)


@fault(
    "Ledger",
    "the outcome log can't be written either",
    how="ENOSPC, PostgreSQL stopped",
    shows="told once, and in `inboxd status` as long as it holds; as without it",
)
def test_nothing_can_be_kept(on_postgres: Site, postgres: Postgres) -> None:
    site = on_postgres
    _begin_a_batch(site)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.kept:ENOSPC@1+"}, ready=False) as daemon:
        _await_the_first_run(site)
        with stopped(postgres):
            wait_until(lambda: len(site.witnessed("end")) == _RUNS, "the end of all runs")
            wait_until(lambda: _degraded(daemon, "outcomes.log"), "the word that nothing can be kept")
            assert "outcomes.log" in str(inboxd_json(site.config, "status")["degraded"])
        daemon.wait_event("daemon.resumed")
        wait_finished(site, 7)
        assert inboxd_json(site.config, "status")["degraded"] == []
        assert [one for one in daemon.events("daemon.resumed") if "outcomes.log" in one["reason"]]
        assert len(_degraded(daemon, "outcomes.log")) == 1
        assert daemon.stop() == 0
    _assert_each_run_counted(site)


def _degraded(daemon: Daemon, what: str) -> list[str]:
    return [record["reason"] for record in daemon.events("daemon.degraded") if what in record["reason"]]


# Locked, slow, cut, away


@fault(
    "Ledger",
    "locked for longer than systemd's watchdog waits",
    how="another process, in SQLite",
    shows=f"{AWAY}; the watchdog is fed",
)
def test_locked_for_a_while(site: Site) -> None:
    site.workers(processes=1)
    with run_daemon(site.config, Fed.ENVIRONMENT) as daemon:
        site.drop("sleep-2-x.dat", b"it runs when the lock comes")
        _await_the_first_run(site)
        with locked(site):
            fed, until = Fed(daemon), time.monotonic() + scale(8, 60)
            site.drop_all(files(20))
            wait_until(lambda: _degraded(daemon, "locked"), "the word that it is locked")
            wait_until(lambda: time.monotonic() > until, "the end of the lock", timeout=90, every=0.1)
            assert site.count("inbound") == 20
            assert _kept(site) == 1
            fed.assert_fed()
        daemon.wait_event("daemon.resumed", timeout=40)
        wait_finished(site, 21)
    assert_sound(site, calm=True, finished=True)


@fault(
    "Ledger",
    "slow: each commit hangs",
    how="a lock on PostgreSQL's table of files",
    shows="the watchdog is fed; all goes on",
)
def test_slow(on_postgres: Site, postgres: Postgres) -> None:
    site = on_postgres
    database = site.settings["ledger"].partition("@/")[2].partition("?")[0]
    with run_daemon(site.config, Fed.ENVIRONMENT) as daemon:
        with postgres.connect(database) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE files IN ACCESS EXCLUSIVE MODE")
            fed, until = Fed(daemon), time.monotonic() + scale(4, 40)  # longer than lock_timeout, at last
            site.drop_all(files(20))
            wait_until(lambda: time.monotonic() > until, "the end of the lock", timeout=90, every=0.1)
            assert site.count("inbound") == 20
            fed.assert_fed()
        wait_finished(site, 20, timeout=60)
    assert_sound(site, calm=True, finished=True)


@fault(
    "Ledger",
    "the connection is cut inside COMMIT",
    how="between daemon and PostgreSQL, before or after the server's word",
    shows="each transaction counts once, no run is repeated",
)
def test_cut_in_commits(site: Site, postgres: Postgres, tally: Callable[..., None]) -> None:
    source = random.Random(20)
    with tempfile.TemporaryDirectory(prefix="cut-") as folder:
        wire = Cutter(Path(folder), postgres.folder)
        site.write(
            ledger=postgres.url(postgres.create()).replace(quote(str(postgres.folder), safe=""), quote(folder, safe=""))
        )
        with run_daemon(site.config) as daemon:
            for number in range(scale(5, 200)):
                wire.cut = source.choice(("before", "after"))
                site.drop_all(files(6, seed=number, prefix=f"r{number}"))
                site.drop(f"fail-1-{number}.dat", b"in doubt")
                wait_finished(site, 7 * (number + 1))
                wait_until(lambda: wire.cut == "", "the cut")
                tally()
            assert daemon.events("daemon.degraded")
        assert_sound(site, calm=True, finished=True)
        wire.close()


@fault(
    "Ledger",
    "a backend of PostgreSQL is killed",
    how="SIGKILL, at random moments: the server starts anew",
    shows=f"{AWAY}; no run is repeated",
)
def test_backends_are_killed(on_postgres: Site, postgres: Postgres, tally: Callable[..., None]) -> None:
    site, source = on_postgres, random.Random(21)
    with run_daemon(site.config):
        for number in range(scale(3, 50)):
            site.drop_all(files(40, seed=number, prefix=f"r{number}"))
            time.sleep(source.uniform(0.0, 0.05))  # the fault's instant, not a wait for anything
            for backend in _backends(postgres):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(backend, signal.SIGKILL)
            wait_finished(site, 40 * (number + 1), timeout=60)
            tally()
    assert_sound(site, calm=True, finished=True)


@fault(
    "Ledger", "two daemons want one on PostgreSQL", how="a second one with its own state folder and inboxes",
    shows="the second is refused, exit 75; the first goes on",
)  # fmt: skip
def test_a_second_daemon(on_postgres: Site, tmp_path: Path) -> None:
    site, other = on_postgres, Site(tmp_path / "second")
    other.write(ledger=site.settings["ledger"])
    with run_daemon(site.config) as daemon:
        site.drop("sleep-2-x.dat", b"x")
        _await_the_first_run(site)
        refused = inboxd(other.config, "run")
        assert refused.returncode == 75
        assert "another inboxd (connected from this machine since " in refused.stderr
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)
    with run_daemon(other.config) as daemon:
        assert daemon.stop() == 0


def _backends(postgres: Postgres) -> list[int]:
    """Of the daemon."""
    with contextlib.suppress(psycopg.OperationalError), postgres.connect() as administrator:
        return [
            pid
            for (pid,) in administrator.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'inboxd'")
        ]
    return []


@fault(
    "Ledger",
    "away at the daemon's start",
    how="PostgreSQL stopped; a lock of SQLite's",
    shows="it ends at once with a word, and systemd tries again; nothing is touched",
)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_away_at_the_start(site: Site, postgres: Postgres, kind: str) -> None:
    if kind == "postgresql":
        site.write(ledger=postgres.url(postgres.create()))
    _begin_a_batch(site)
    with run_daemon(site.config, ready=False) as daemon:
        _await_the_first_run(site)
        with stopped(postgres) if kind == "postgresql" else locked(site):
            wait_until(lambda: _kept(site) == _RUNS, "the reports in the log")
            daemon.kill()
            with run_daemon(site.config, ready=False) as another:
                assert another.wait() not in (0, 78)  # RestartPreventExitStatus=78 in inboxd.service
                assert " is away: " in another.output() and "Traceback" not in another.output()
                assert kind == "postgresql" or f"`fuser -v {site.state}/ledger.sqlite`" in another.output()
            assert _kept(site) == _RUNS
    _assert_each_run_counted(site)


@fault("Ledger", "turned into a read-only standby", how="PostgreSQL, default_transaction_read_only", shows=AWAY)
def test_a_standby(on_postgres: Site, postgres: Postgres) -> None:
    site = on_postgres
    database = site.settings["ledger"].partition("@/")[2].partition("?")[0]
    with run_daemon(site.config) as daemon, postgres.connect() as administrator:
        administrator.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        for backend in _backends(postgres):
            administrator.execute("SELECT pg_terminate_backend(%s)", [backend])
        site.drop_all(files(10))
        wait_until(lambda: "read-only" in str(inboxd_json(site.config, "status")["degraded"]), "the word", every=0.3)
        assert site.count("inbound") == 10
        administrator.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = off")
        daemon.wait_event("daemon.resumed", timeout=40)
        wait_finished(site, 10)
    assert_sound(site, calm=True, finished=True)
