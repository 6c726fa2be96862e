"""Damage in the middle of a ledger is told at the start, where a start can look at all, or when it is met; a ledger that is
removed or replaced under a running daemon is missed at once. The daemon ends, and says what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from inboxd.app import repair
from inboxd.custody import opening
from inboxd.errors import LedgerRefused
from support.daemon import inboxd, run_daemon
from support.faults import fault, scale
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished

_PAGE = 4096  # bytes
REMEDY = "inboxd doctor --rebuild-ledger"


def ledger_of(site: Site) -> Path:
    return site.state / "ledger.sqlite"


def stopped_in_order(site: Site) -> None:
    """60 files have come to their ends; the ledger is closed, and has no log."""
    site.inbox("main", retry={"max_failures": 1})
    with run_daemon(site.config) as daemon:
        site.drop_all(files(60))
        site.drop("reject-x.dat", b"an error")
        wait_finished(site, 61)
        assert daemon.stop() == 0


def roots(path: Path) -> dict[str, int]:
    """The first page of each tree, by its name."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        return dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))


def overwrite(path: Path, page: int, what: bytes = b"\xee" * _PAGE) -> None:
    with path.open("r+b") as stream:
        stream.seek((page - 1) * _PAGE)
        stream.write(what)


def empty_leaf(path: Path) -> bytes:
    """A page of an index with no entries: of its tree nothing tells that some are missing."""
    return bytes([10, 0, 0, 0, 0, _PAGE >> 8, 0, 0]) + bytes(_PAGE - 8)


@fault(
    "Ledger",
    "a page of it is overwritten or emptied, while the daemon is stopped",
    how="SQLite, each tree",
    shows="refused at the start, with the command that mends it; so is a repair",
)
def test_damage_is_refused_at_the_start(site: Site, tally: Callable[..., None]) -> None:
    """The log is gone, as after a stop in good order, and the trees' other pages are whole."""
    stopped_in_order(site)
    ledger = ledger_of(site)
    whole, trees = ledger.read_bytes(), roots(ledger)
    wounds = [(name, page, b"\xee" * _PAGE) for name, page in trees.items()]
    wounds.insert(0, ("files_unprocessed", trees["files_unprocessed"], empty_leaf(ledger)))
    for name, page, what in wounds[: scale(2, len(wounds))]:
        overwrite(ledger, page, what)
        for verb in (("run",), ("doctor", "--repair")):
            done = inboxd(site.config, *verb)
            assert done.returncode == 78, f"{name}: {done.stdout}{done.stderr}"
            assert f"{ledger} is damaged" in done.stderr and REMEDY in done.stderr
        done = inboxd(site.config, "doctor")
        assert done.returncode == 1 and REMEDY in done.stdout
        ledger.write_bytes(whole)
        tally()
    with run_daemon(site.config):
        site.drop("ok-last.dat", b"the last")
        wait_finished(site, 62)
    assert_sound(site, finished=True)


def test_a_repair_reads_a_large_ledger_through(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it can't see is not called well."""
    stopped_in_order(site)
    ledger = ledger_of(site)
    overwrite(ledger, roots(ledger)["files_unprocessed"], empty_leaf(ledger))
    monkeypatch.setattr(opening, "_SMALL", 0)
    with pytest.raises(LedgerRefused, match=f"{ledger} is damaged.*{REMEDY}"):
        repair(site.config)


def _remove(ledger: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        ledger.with_name(ledger.name + ending).unlink()


MOVES = [
    ("deleted", True), ("moved", False), ("replaced", True), ("deleted", False), ("moved", True), ("replaced", False),
]  # fmt: skip


@fault(
    "Ledger",
    "deleted, moved away or replaced by a copy under a running daemon",
    how="SQLite, at rest and under load",
    shows="noticed within seconds, before anything is done that a row should tell; refused, with the remedy",
)
@pytest.mark.parametrize(("wound", "busy"), MOVES[: scale(3, len(MOVES))])
def test_missed_under_a_daemon(site: Site, wound: str, busy: bool) -> None:
    ledger, copy, away = ledger_of(site), site.base / "copy", site.base / "away"
    with run_daemon(site.config) as daemon:
        site.drop_all(files(20))
        wait_finished(site, 20)
        with closing(sqlite3.connect(ledger)) as db:
            db.execute("VACUUM INTO ?", [str(copy)])
        site.drop_all(files(20, seed=2, prefix="behind"))
        wait_finished(site, 40)
        if busy:
            site.drop_all(files(100, seed=3, prefix="later"))
        match wound:
            case "deleted":
                _remove(ledger)
            case "moved":
                ledger.rename(away)
            case "replaced":
                copy.rename(ledger)
        assert daemon.wait(10.0) == 78
        (told,) = daemon.events("daemon.failed", error_class="LedgerRefused")
        assert f"{ledger} was removed or replaced" in told["message"]
    if wound == "moved":
        away.rename(ledger)
    if wound == "deleted":
        assert REMEDY in inboxd(site.config, "run").stderr
        assert inboxd(site.config, "doctor", "--rebuild-ledger").returncode == 0
    with run_daemon(site.config):
        wait_finished(site, 140 if busy else 40)
        site.drop("ok-last.dat", b"the last")
        wait_finished(site, 141 if busy else 41)
    if wound == "replaced":
        assert inboxd(site.config, "doctor", "--rebuild-ledger").returncode == 0
    assert_sound(site, finished=True, rebuilt=wound != "moved")


@fault(
    "Ledger",
    "an older copy of it is put back, from before an error",
    how="SQLite, VACUUM INTO",
    shows="told by doctor, explain, show and retry, each with the command that makes it known; then it can be retried",
)
def test_an_error_that_an_older_copy_does_not_know(site: Site) -> None:
    ledger, copy = ledger_of(site), site.base / "copy"
    with run_daemon(site.config) as daemon:
        site.drop("reject-known.dat", b"known")
        wait_finished(site, 1)
        assert inboxd(site.config, "doctor").returncode == 0
        with closing(sqlite3.connect(ledger)) as db:
            db.execute("VACUUM INTO ?", [str(copy)])
        site.drop("reject-x.dat", b"an error")
        wait_finished(site, 2)
        assert daemon.stop() == 0
    copy.rename(ledger)
    (missed,) = (path for path in (site.root() / "errors").rglob("reject-x.dat"))
    id = site.sidecar(str(missed.relative_to(site.root() / "errors")))["id"]
    with run_daemon(site.config):
        for running in ("doctor",), ("explain", str(missed)), ("show", id), ("retry", id):
            done = inboxd(site.config, *running)
            assert REMEDY in done.stdout + done.stderr, f"{running}: {done.stdout}{done.stderr}"
        assert f"I3: no row knows {missed}" in inboxd(site.config, "doctor").stdout
        assert "inboxd explain PATH" in inboxd(site.config, "retry", missed.name).stdout
    assert inboxd(site.config, "doctor", "--rebuild-ledger").returncode == 0
    with run_daemon(site.config):
        assert inboxd(site.config, "doctor").returncode == 0
        assert inboxd(site.config, "retry", id).returncode == 0
        wait_finished(site, 2)
    assert_sound(site, finished=True, rebuilt=True)
