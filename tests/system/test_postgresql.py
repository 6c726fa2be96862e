"""The ledger on a real PostgreSQL: the same daemon, the same promises, and an outage in the middle."""

from __future__ import annotations

import time

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.load import files, hostile, mixture
from support.postgres import Postgres
from support.site import Site
from support.sound import assert_sound, wait_finished

KINDS = {"ok": 0.9, "fail-1": 0.05, "reject": 0.05}


@pytest.fixture
def on_postgres(site: Site, postgres: Postgres) -> Site:
    """A fresh installation with a fresh database."""
    site.write(ledger=postgres.url(postgres.create()))
    return site


def test_a_thousand_files(on_postgres: Site) -> None:
    site = on_postgres
    with run_daemon(site.config):
        site.drop_all(hostile())
        site.drop_all(mixture(1_000, seed=5, kinds=KINDS))
        wait_finished(site, len(site.manifest), timeout=60)
    assert_sound(site, calm=True, finished=True)


def test_killed_and_restarted(on_postgres: Site) -> None:
    site = on_postgres
    for number in range(4):
        with run_daemon(site.config) as daemon:
            site.drop_all(files(100, seed=number, prefix=f"r{number}"))
            wait_finished(site, 100 * number + 20)
            daemon.kill()
        assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 400)
    assert_sound(site, finished=True)


@fault(
    "Ledger",
    "the daemon is killed after each commit",
    how="SIGKILL at failpoints, PostgreSQL",
    shows="nothing lost, one outcome per file",
)
def test_killed_at_each_commit(on_postgres: Site) -> None:
    site = on_postgres
    for name in ("claim.announced", "claim.recorded", "dispatch.recorded", "decide.recorded", "deliver.recorded"):
        with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill"}, ready=False) as daemon:
            site.drop_all((f"{name}-{number}".encode(), f"{name} {number}".encode()) for number in range(10))
            assert daemon.wait() < 0
        assert_sound(site)
    with run_daemon(site.config):
        wait_finished(site, 50)
    assert_sound(site, finished=True)


@fault(
    "Ledger",
    "away for a while under load",
    how="PostgreSQL stopped and started",
    shows="nothing new is claimed, nothing is lost or run again, it resumes by itself",
)
def test_an_outage_of_the_server(on_postgres: Site, postgres: Postgres) -> None:
    """It dies as in a crash. Degraded, nothing taken, nothing lost; and it goes on by itself."""
    site = on_postgres
    with run_daemon(site.config) as daemon:
        site.drop_all(files(50))
        wait_finished(site, 50)
        postgres.stop()
        try:
            site.drop_all(files(50, seed=2, prefix="late"))
            daemon.wait_event("daemon.degraded")
            assert site.count("inbound") == 50
        finally:
            postgres.start()
        daemon.wait_event("daemon.resumed", timeout=40)
        wait_finished(site, 100, timeout=40)
        assert inboxd_json(site.config, "status")["degraded"] == []
    assert_sound(site, calm=True, finished=True)


@fault(
    "Ledger",
    "away when a retry is due",
    how="PostgreSQL stopped and started",
    shows="it resumes once, when the ledger answers",
)
def test_an_outage_while_a_retry_is_due(on_postgres: Site, postgres: Postgres) -> None:
    """The first that is asked of the ledger then is what waits; and `resumed` is only said when it answers."""
    site = on_postgres
    site.inbox("main", retry={"first": "500ms", "longest": "1s"}, settle={"quiet": "1s"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-2-x.dat", b"again and again")
        daemon.wait_event("file.waiting")
        postgres.stop()
        try:
            daemon.wait_event("daemon.degraded")
            site.drop_all(files(5))
            time.sleep(4)  # several tries: nothing to wait for when nothing may happen
            assert not daemon.events("daemon.resumed")
        finally:
            postgres.start()
        daemon.wait_event("daemon.resumed", timeout=40)
        wait_finished(site, 6, timeout=40)
        assert len(daemon.events("daemon.resumed")) == 1
    assert_sound(site, calm=True, finished=True)


def test_another_database_in_its_place_is_refused(on_postgres: Site, postgres: Postgres) -> None:
    """An empty one would make everything in work/ look unknown."""
    site = on_postgres
    with run_daemon(site.config):
        site.drop_all(files(3))
        wait_finished(site, 3)
    site.write(ledger=postgres.url(postgres.create()))
    with run_daemon(site.config, ready=False) as daemon:
        assert daemon.wait() > 0
        assert "ledger.id" in daemon.output()
        assert "restore it from a backup" in daemon.output()


def test_a_database_that_does_not_hold_every_text_is_refused(site: Site, postgres: Postgres) -> None:
    site.write(ledger=postgres.url(postgres.create("LATIN1")))
    refused = inboxd(site.config, "run")
    assert refused.returncode == 78, refused.stderr
    assert "encoding LATIN1" in refused.stderr
    assert "CREATE DATABASE" in refused.stderr


def test_the_environment_does_not_say_how_text_is_sent(on_postgres: Site) -> None:
    site = on_postgres
    with run_daemon(site.config, {"PGCLIENTENCODING": "LATIN1"}) as daemon:
        site.drop("ok-1-\u20ac.dat", b"x")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["ok-1-\u20ac.dat"]
