"""What was LOST and is put back, or whose disk is there again, goes on under its id."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

_PAYING = """
from sqlalchemy import text

def handle(file):
    with file.transaction("bank") as connection:
        connection.execute(text("INSERT INTO paid VALUES (:id)"), {"id": file.id})
"""


def _missed(site: Site, aside: Path) -> None:
    """A start finds that the file which is held is not there."""
    (name,) = site.listed("work")
    os.rename(site.root() / "work" / name, aside)
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.lost")
        assert daemon.stop() == 0
    os.rename(aside, site.root() / "work" / name)


@fault(
    "Disks", "a file taken out of work/ and put back", how="between a kill and two starts",
    shows="LOST; then it goes on under its id, and its transaction is not done again",
)  # fmt: skip
def test_its_transaction_is_not_done_again(site: Site) -> None:
    (site.base / "paying.py").write_text(_PAYING)
    bank = site.base / "bank.sqlite"
    with closing(sqlite3.connect(bank)) as connection, connection:
        connection.execute("CREATE TABLE paid (id TEXT)")
    site.write(databases={"bank": {"url": f"sqlite:///{bank}"}})
    site.inbox("main", handler={"python": "paying:handle", "database": "bank"})
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.reported:kill"}) as daemon:
        site.drop("x.csv", b"100 EUR")
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    _missed(site, site.base / "aside")
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.found", file="x.csv")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    (row,) = inboxd_json(site.config, "files")["files"]
    with closing(sqlite3.connect(bank)) as connection, connection:
        assert connection.execute("SELECT id FROM paid").fetchall() == [(row["id"],)]
    assert site.listed("processed") == ["x.csv"]
    assert_sound(site, finished=True)


def _lost_when_decided(site: Site, end: str, drop: Callable[[], None]) -> None:
    """What is dropped has its outcome, and can't be delivered to `end`; a live daemon calls it LOST; it is put back."""
    folder, elsewhere, aside = (site.root() / name for name in (end, "elsewhere", "aside"))
    with run_daemon(site.config) as daemon:
        folder.rename(elsewhere)
        drop()
        daemon.wait_event("daemon.degraded")
        (name,) = site.listed("work")
        os.rename(site.root() / "work" / name, aside)
        elsewhere.rename(folder)
        daemon.wait_event("file.lost")
        assert daemon.stop() == 0
    os.rename(aside, site.root() / "work" / name)


@fault(
    "Disks", "a file taken out of work/ and put back", how="after its outcome was recorded",
    shows="LOST; then it is delivered, and not run again",
)  # fmt: skip
def test_what_was_decided_is_not_run_again(site: Site) -> None:
    _lost_when_decided(site, "processed", lambda: site.drop("ok-a.dat", b"a"))
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.found", file="ok-a.dat")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert len(site.witnessed("start")) == 1
    assert_sound(site, finished=True)


def test_an_error_keeps_its_reason(site: Site) -> None:
    site.inbox("main", retry={"max_failures": 1})
    _lost_when_decided(site, "errors", lambda: site.drop("fail-9-a.dat", b"a"))
    (lost,) = inboxd_json(site.config, "files")["files"]
    assert (lost["state"], lost["reason"]) == ("LOST", "too many failures")
    assert "lost: too many failures" in inboxd(site.config, "show", lost["id"]).stdout
    with run_daemon(site.config) as daemon:
        wait_finished(site, 1)
        assert daemon.stop() == 0
    (row,) = inboxd_json(site.config, "files")["files"]
    told = json.loads((site.root() / "errors" / "fail-9-a.dat.error.json").read_text())
    assert row["reason"] == told["reason"] == "too many failures"
    assert len(site.witnessed("start")) == 1
    assert_sound(site, finished=True)


@fault(
    "Disks", "an error taken out of work/ and put back", how="between a kill before its delivery and two starts",
    shows="it counts as delivered and taken; then it is delivered, and not run again",
)  # fmt: skip
def test_an_error_that_counted_as_taken_is_not_run_again(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        (site.root() / "errors").rename(site.root() / "elsewhere")
        site.drop("reject-a.dat", b"a")
        daemon.wait_event("daemon.degraded")
        daemon.kill()
    (name,) = site.listed("work")
    os.rename(site.root() / "work" / name, site.base / "aside")
    (site.root() / "elsewhere").rename(site.root() / "errors")
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.taken", file="reject-a.dat")
        assert daemon.stop() == 0
    os.rename(site.base / "aside", site.root() / "work" / name)
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.found", file="reject-a.dat")
        wait_until(lambda: not site.listed("work"), "its delivery")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert (site.root() / "errors" / "reject-a.dat").read_bytes() == b"a"
    assert len(site.witnessed("start")) == 1
    assert_sound(site, finished=True)


def test_what_was_quarantined_is_still_nothing_that_a_handler_has_seen(site: Site) -> None:
    site.write(rescan="1s")
    _lost_when_decided(site, "quarantine", lambda: os.symlink("/etc/hostname", site.root() / "inbound" / "a-link"))
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.listed("quarantine"), "its end")
        wait_until(lambda: inboxd_json(site.config, "files", "--state", "done")["files"], "its row")
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


def test_what_was_never_copied_is_copied(site: Site) -> None:
    site.inbox("main", claim="copy")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "claim.recorded:kill"}, ready=False) as daemon:
        site.drop("ok-a.dat", b"a")
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    _missed(site, site.base / "aside")
    (name,) = site.listed("work")
    uploaders = os.stat(site.root() / "work" / name).st_ino
    with run_daemon(site.config) as daemon:
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert os.stat(site.root() / "processed" / "ok-a.dat").st_ino != uploaders
    assert_sound(site, finished=True)
