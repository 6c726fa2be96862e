"""The ledger is gone, damaged, empty, newer or an older copy: refused with the command that mends it, never replaced by an
empty one in silence; and after `inboxd doctor --rebuild-ledger` all goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault, scale
from support.load import files
from support.postgres import Postgres
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

REBUILT = "refused, naming `inboxd doctor --rebuild-ledger`; after it all goes on, with what could be read and what lies there"


def ledger_of(site: Site) -> Path:
    return site.state / "ledger.sqlite"


def live(site: Site) -> None:
    """A life with every kind of end, cut off by SIGKILL with files in work/."""
    site.inbox("main", layout="%Y-%m-%d", retry={"max_failures": 2, "first": "10ms", "longest": "20ms"})
    site.workers(processes=1, batch_size=50)
    with run_daemon(site.config) as daemon:
        site.drop_all(files(40))
        site.drop_all((f"{name}.dat".encode(), name.encode()) for name in ("fail-x", "reject-x", "results-x"))
        wait_finished(site, 43)
        assert inboxd(site.config, "retry", "--errors").returncode == 0
        wait_until(lambda: not site.listed("work") and site.finished() == 43, "their second lives")
        site.drop("ok-00001.dat", b"its name is taken")
        site.drop("reject-x.dat", b"again")
        wait_finished(site, 45)
        site.drop("sleep-60-x.dat", b"never ends")
        site.drop_all(files(5, seed=3, prefix="held"))
        wait_until(lambda: site.witnessed("start", "sleep-60-x.dat"), "the long run")
        workers = daemon.workers()
        daemon.kill()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
    handler = site.base / "witness.py"
    handler.write_text(handler.read_text().replace('"sleep": _sleep,', ""))


def refused(site: Site) -> str:
    with run_daemon(site.config, ready=False) as daemon:
        assert daemon.wait() == 78
        return daemon.output()


def rebuild(site: Site) -> dict[str, object]:
    return dict(inboxd_json(site.config, "doctor", "--rebuild-ledger"))


def go_on(site: Site, count: int) -> None:
    """All comes to its end; an error can be retried; what is listed is what lies there."""
    with run_daemon(site.config):
        wait_until(lambda: not site.listed("work"), "the end of what was held")
        wait_finished(site, count)
        errors = inboxd_json(site.config, "files", "--outcome", "error")["files"]
        assert len(errors) == len(site.listed("errors")) == 3
        assert {file["name"] for file in errors} == {"fail-x.dat", "reject-x.dat"}
        assert inboxd(site.config, "doctor").returncode == 0
        told = inboxd_json(site.config, "explain", str(site.root() / "errors" / errors[0]["destination"]))
        assert told["file"]["id"] == errors[0]["id"]
        assert inboxd(site.config, "retry", errors[0]["id"]).returncode == 0
        wait_until(lambda: len(site.listed("errors")) == 3 and not site.listed("work"), "the retry's end")
        totals = inboxd_json(site.config, "status")["inboxes"][0]
        assert (totals["processed"], totals["errors"]) == (len(site.listed("processed")), 3)


Wound = Callable[[Path], None]


def _delete(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _empty(path: Path) -> None:
    _delete(path)
    path.touch()


def _checkpoint(path: Path) -> None:
    """All in one file, as after a stop in good order."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _truncate(path: Path) -> None:
    _checkpoint(path)
    os.truncate(path, path.stat().st_size // 2)


def _behead(path: Path) -> None:
    _checkpoint(path)
    with path.open("r+b") as stream:
        stream.write(bytes(100))


def _overwrite(path: Path) -> None:
    """A page of the files' own tree."""
    _checkpoint(path)
    content, size = path.read_bytes(), 4096
    pages = [at for at in range(0, len(content), size) if b"ok-00020" in content[at : at + size]]
    with path.open("r+b") as stream:
        stream.seek(pages[0])
        stream.write(b"\xee" * size)


WOUNDS = {"overwritten": _overwrite, "deleted": _delete, "empty": _empty, "halved": _truncate, "beheaded": _behead}


@fault("Ledger", "the ledger is deleted, emptied, cut, or overwritten", how="SQLite, after SIGKILL", shows=REBUILT)
@pytest.mark.parametrize("wound", list(WOUNDS)[: scale(2, len(WOUNDS))])
def test_lost_and_rebuilt(site: Site, wound: str) -> None:
    live(site)
    WOUNDS[wound](ledger_of(site))
    before = {path.name: path.read_bytes() for path in site.state.glob("ledger.sqlite")}
    assert "inboxd doctor --rebuild-ledger" in refused(site)
    assert before == {path.name: path.read_bytes() for path in site.state.glob("ledger.sqlite")}
    told = rebuild(site)
    assert wound != "deleted" or told["broken"] == []  # there was no old one, that is all
    kept = [path for path in site.state.iterdir() if path.name.endswith(".damaged")]
    assert [path.read_bytes() for path in kept] == list(before.values())
    assert told["aside"] == (str(kept[0]) if kept else "")
    go_on(site, 51)
    assert_sound(site, finished=True, rebuilt=True)


@fault("Ledger", "overwritten under a running daemon", how="SQLite, all pages but the first", shows=REBUILT)
def test_overwritten_under_a_daemon(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(files(30))
        wait_finished(site, 30)
        ledger = ledger_of(site)
        wait_until(lambda: _is_quiet(ledger), "the last commit")
        _checkpoint(ledger)
        with ledger.open("r+b") as stream:
            stream.seek(4096)
            stream.write(b"\xee" * (ledger.stat().st_size - 4096))
        with closing(sqlite3.connect(ledger)) as db, suppress(sqlite3.Error):
            db.execute("UPDATE meta SET key = key")  # somebody else's commit: what we have in memory is old
        site.drop_all(files(10, seed=2, prefix="late"))
        assert daemon.wait() == 78  # systemd does not start it again: it would be refused each time
        (told,) = daemon.events("daemon.failed", error_class="LedgerRefused")
        assert f"{ledger} is damaged" in told["message"] and "inboxd doctor --rebuild-ledger" in told["message"]
    assert "inboxd doctor --rebuild-ledger" in refused(site)
    rebuild(site)
    with run_daemon(site.config):
        wait_finished(site, 40)
    assert_sound(site, finished=True, rebuilt=True)


def _is_quiet(ledger: Path) -> bool:
    with closing(sqlite3.connect(ledger)) as db:
        return db.execute("SELECT count(*) FROM files WHERE state = 'DONE'").fetchone() == (30,)


@fault("Ledger", "killed while a ledger is rebuilt", how="SIGKILL at each failpoint", shows="said again, it goes on")
def test_killed_in_a_rebuild(site: Site, tally: Callable[..., None]) -> None:
    live(site)
    _truncate(ledger_of(site))
    wounded = ledger_of(site).read_bytes()
    for point in ("rebuild.filled", "rebuild.aside"):
        done = subprocess.run(
            [sys.executable, "-m", "inboxd", "doctor", "--rebuild-ledger", "-c", str(site.config)],
            env={**os.environ, "INBOXD_FAILPOINT": f"{point}:kill"}, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode < 0
        refused(site)
        tally()
    (kept,) = (path for path in site.state.iterdir() if path.name.endswith(".damaged"))
    rebuild(site)
    assert kept.read_bytes() == wounded
    go_on(site, 51)
    assert_sound(site, finished=True, rebuilt=True)


@fault(
    "Ledger",
    "an older copy of it is put back",
    how="SQLite, a copy of a running ledger",
    shows="nothing is lost or run again that lies at its end; a rebuild makes the rest known",
)
def test_an_older_copy(site: Site) -> None:
    """Files that the copy knows as running or waiting have come to their ends since; others it has never heard of."""
    site.workers(processes=1)
    with run_daemon(site.config) as daemon:
        site.drop_all(files(10))
        wait_finished(site, 10)
        site.drop("sleep-1-x.dat", b"in the copy it runs")
        site.drop_all(files(3, seed=2, prefix="behind"))
        wait_until(lambda: site.witnessed("start", "sleep-1-x.dat"), "its run")
        with closing(sqlite3.connect(ledger_of(site))) as db:
            held = "SELECT count(*) FROM files WHERE state IN ('CLAIMED', 'RUNNING')"
            wait_until(lambda: db.execute(held).fetchone() == (4,), "rows of it and of those behind it")
            db.execute("VACUUM INTO ?", [str(site.base / "copy")])
        site.drop_all(files(5, seed=3, prefix="unknown"))
        wait_finished(site, 19)
        assert daemon.stop() == 0
    runs = len(site.witnessed("start"))
    _delete(ledger_of(site))
    os.rename(site.base / "copy", ledger_of(site))
    with run_daemon(site.config) as daemon:
        assert not daemon.events("file.lost")
    assert len(site.witnessed("start")) == runs
    told = rebuild(site)
    assert (told["found"], told["moved_on"], told["missing"]) == ({"processed": 5}, 0, 0)
    with run_daemon(site.config):
        site.drop_all(files(1, seed=4, prefix="last"))
        wait_finished(site, 20)
    assert len(site.witnessed("start")) == runs + 1
    assert_sound(site, finished=True, rebuilt=True)


def test_an_older_copy_knows_the_places_of_what_came_later(site: Site) -> None:
    """Consumers take what lies there; the next day's files of those names are none of the copy's."""
    results, errors = site.root() / "processed" / "ok-pay.dat", site.root() / "errors" / "reject-pay.dat"
    sidecar, copy = errors.with_name("reject-pay.dat.error.json"), site.base / "copy"
    ids = []
    for day in ("first day", "second day"):
        with run_daemon(site.config) as daemon:
            site.drop_all((path.name.encode(), day.encode()) for path in (results, errors))
            wait_until(lambda: results.exists() and errors.exists() and not site.listed("work"), "their ends")
            assert daemon.stop() == 0
        ids.append(json.loads(sidecar.read_text())["id"])
        if not copy.exists():
            shutil.copytree(site.state, copy)
            for path in (results, errors, sidecar):
                path.unlink()
    shutil.rmtree(site.state)
    copy.rename(site.state)
    assert rebuild(site)["found"] == {"processed": 1, "error": 1}
    with run_daemon(site.config):
        assert inboxd(site.config, "retry", ids[0]).returncode == 1
        assert inboxd(site.config, "retry", ids[1]).returncode == 0
        wait_until(lambda: [line["id"] for line in site.witnessed("start", errors.name)] == [*ids, ids[1]], "its run")


@fault("Ledger", "its database was dropped and made anew", how="PostgreSQL", shows=REBUILT)
def test_a_dropped_database(site: Site, postgres: Postgres) -> None:
    database = postgres.create()
    site.write(ledger=postgres.url(database))
    live(site)
    with postgres.connect() as administrator:
        administrator.execute(f"DROP DATABASE {database} WITH (FORCE)")
        administrator.execute(f"CREATE DATABASE {database}")
    assert "inboxd doctor --rebuild-ledger" in refused(site)
    assert rebuild(site)["found"] == {"processed": 42, "error": 3}
    again = inboxd(site.config, "doctor", "--rebuild-ledger")
    assert again.returncode == 78 and "is not overwritten" in again.stderr
    go_on(site, 51)
    assert_sound(site, finished=True, rebuilt=True)


def test_a_rebuild_beside_a_daemon_is_refused(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        done = inboxd(site.config, "doctor", "--rebuild-ledger")
        assert done.returncode == 75
        assert f"another inboxd (pid {daemon.pid}) holds {site.state}" in done.stderr
    shutil.rmtree(site.root() / "processed")
    done = inboxd(site.config, "doctor", "--rebuild-ledger")
    assert (done.returncode, "processed: No such file or directory; the ledger is as it was" in done.stderr) == (
        70,
        True,
    )


def _contents(site: Site) -> Counter[str]:
    """Of the files that were dropped, wherever they are."""
    known = {entry.sha256 for entry in site.manifest}
    paths = [
        site.root() / which / name
        for which in ("inbound", "work", "processed", "errors")
        for name in site.listed(which)
    ]
    found = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return Counter(digest for digest in found if digest in known)


FLIPS = scale(10, 200)
SAFE = "refused, naming the command that mends it, or borne; each file that was dropped is still in one place"


@fault("Ledger", "a byte of it is another one", how="SQLite, at random places", shows=SAFE)
def test_flipped_bytes(site: Site, tally: Callable[..., None]) -> None:
    """Each time what a start does first is done with it: it never ends in a fault of inboxd."""
    live(site)
    assert inboxd(site.config, "doctor", "--repair").returncode == 0
    ledger, work = ledger_of(site), site.root() / "work"
    whole, aside = ledger.read_bytes(), site.base / "aside"
    shutil.copytree(work, aside, copy_function=os.link)
    source = random.Random(14)
    for number in range(FLIPS):
        _delete(ledger)
        place, bit = source.randrange(len(whole)), 1 << source.randrange(8)
        ledger.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        if number % 2:
            ledger.with_name(ledger.name + "-wal").write_bytes(bytes(32))  # as after a kill
        done = inboxd(site.config, "doctor", "--repair")
        said = f"bit {bit:#x} of byte {place}:\n{done.stdout}{done.stderr}"
        readonly = (
            "attempt to write a readonly database" in done.stderr
        )  # so says its header now, and a mount might, too
        assert done.returncode in (0, 1, 70 if readonly else 78), said
        assert done.returncode != 78 or "inboxd doctor --rebuild-ledger" in done.stderr, said
        assert _contents(site) == Counter(entry.sha256 for entry in site.manifest), said
        shutil.rmtree(work)
        shutil.copytree(aside, work, copy_function=os.link)
        work.chmod(0o700)
        tally()
