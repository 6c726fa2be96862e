"""What handlers may do: results, commands and their exit codes, output, databases."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.invariants import Evidence, violations
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def test_results_appear_in_outbound(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        site.drop("results-b.dat", b"b")
        site.drop("ok.dat", b"c")
        wait_finished(site, 3)
        assert daemon.stop() == 0
    assert site.listed("outbound") == [f"{part}-results-{name}.dat" for part in ("one", "two") for name in ("a", "b")]
    assert_sound(site, calm=True, finished=True)


def test_results_that_are_there_already_are_not_overwritten(site: Site) -> None:
    (site.root() / "outbound").mkdir(parents=True)
    (site.root() / "outbound" / "one-results-a.dat").write_bytes(b"older")
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert (site.root() / "outbound" / "one-results-a.dat").read_bytes() == b"older"
    assert site.count("outbound") == 3
    assert_sound(site, calm=True, finished=True)


def _command(site: Site, script: str, *arguments: str) -> None:
    """A shell script as the handler."""
    program = site.base / "program.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    site.inbox("main", handler={"command": [str(program), *arguments]}, retry={"max_failures": 2, "first": "1ms"})


@fault(
    "Workers and handlers",
    "a command can't be run, or fails",
    how="every kind of exit",
    shows="as documented; a set-up fault is laid to no file",
)
@pytest.mark.parametrize(
    ("code", "where", "reason", "attempts"),
    [
        (0, "processed", None, 1),
        (65, "errors", "rejected", 1),
        (75, "errors", "too many failures", 2),
        (1, "errors", "too many failures", 2),
    ],
)
def test_exit_codes(site: Site, code: int, where: str, reason: str | None, attempts: int) -> None:
    _command(site, f"echo run >> {site.base}/runs; echo to-out; echo to-err >&2; exit {code}")
    with run_daemon(site.config) as daemon:
        site.drop("a file.dat", b"x")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed(where) == ["a file.dat"]
    assert len((site.base / "runs").read_text().splitlines()) == attempts
    if reason:
        story = site.sidecar("a file.dat")
        assert story["reason"] == reason
        assert "to-err" in story["detail"]
        assert story["retry"].endswith(f"inboxd retry {story['id']} -c {site.config}")
    assert_sound(site, finished=True)


def test_a_program_that_goes_while_the_daemon_runs(site: Site) -> None:
    """No file is blamed, and the daemon says that it does not do all of its work."""
    _command(site, "exit 0")
    program = site.base / "program.sh"
    with run_daemon(site.config) as daemon:
        program.rename(site.base / "aside")
        site.drop("x.dat", b"x")
        daemon.wait_event("handler.broken")
        state = inboxd_json(site.config, "status")
        assert state["state"] == "DEGRADED"
        assert state["degraded"][0].startswith("main: its handler can't be run: ")
        (site.base / "aside").rename(program)
        assert inboxd(site.config, "reload").returncode == 0
        wait_finished(site, 1)
        assert inboxd_json(site.config, "status")["state"] == "RUNNING"
        assert daemon.stop() == 0
    assert site.listed("processed") == ["x.dat"]
    assert_sound(site, finished=True)


def test_a_command_gets_its_arguments_and_environment(site: Site) -> None:
    _command(
        site,
        'printf "%s\\n" "$1" "$2" "$3" "$INBOXD_ID" "$INBOXD_INBOX" "$INBOXD_ATTEMPT" > "$4/told"; cat "$1" > "$4/copy"',
        "{path}", "{name}", "{id}", "{results}",
    )  # fmt: skip
    with run_daemon(site.config) as daemon:
        site.drop("a file.dat", b"content")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["a file.dat"]
    path, name, given, file_id, inbox, attempt = (site.root() / "outbound" / "told").read_text().splitlines()
    assert Path(path).is_absolute()
    assert (name, given, inbox, attempt) == ("a file.dat", file_id, "main", "1")
    assert (site.root() / "outbound" / "copy").read_bytes() == b"content"
    assert_sound(site, finished=True)


def test_a_command_that_ends_by_a_signal(site: Site) -> None:
    _command(site, "kill -9 $$")
    with run_daemon(site.config) as daemon:
        site.drop("x.dat", b"x")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed("errors") == ["x.dat"]
    assert_sound(site, finished=True)


@fault(
    "Workers and handlers",
    "a command floods its output",
    how="many MiB without a line's end",
    shows="the tail is kept, memory stays flat",
)
def test_a_command_that_floods_its_output(site: Site) -> None:
    _command(site, "head -c 50000000 /dev/zero; exit 1")
    with run_daemon(site.config) as daemon:
        site.drop("x.dat", b"x")
        wait_finished(site, 1)
        assert len(daemon.output()) < 2_000_000
        assert daemon.stop() == 0
    assert (site.root() / "errors" / "x.dat.error.json").stat().st_size < 1_000_000
    assert_sound(site, finished=True)


def test_a_command_that_leaves_a_child_behind(site: Site) -> None:
    _command(site, "sleep 600 & exit 0")
    with run_daemon(site.config) as daemon:
        site.drop_all(files(5))
        wait_finished(site, 5)
        assert daemon.stop(timeout=15) == 0
    assert_sound(site, finished=True)


def test_a_command_that_hangs(site: Site) -> None:
    site.workers(timeout="300ms")
    _command(site, "trap '' TERM; sleep 600 & sleep 600; exit 0")
    with run_daemon(site.config) as daemon:
        site.drop("x.dat", b"x")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert {attempt["ending"] for attempt in site.sidecar("x.dat")["attempts"]} == {"timed out"}
    assert_sound(site, finished=True)


def test_what_a_program_printed_before_its_time_was_over(site: Site) -> None:
    _command(site, "echo connecting; echo to the database >&2; sleep 60")
    site.workers(processes=1, timeout="1s")
    with run_daemon(site.config):
        site.drop("a.dat", b"x")
        wait_finished(site, 1, timeout=30)
    story = site.sidecar("a.dat")
    assert (story["message"], story["detail"]) == ("ran longer than 1 s", "connecting\nto the database\n")


def test_every_line_of_a_file_has_its_name_with_its_folder(site: Site) -> None:
    site.inbox("main", recursive=True)
    with run_daemon(site.config, level="DEBUG") as daemon:
        site.drop("print-1.dat", b"x", folder="a/b")
        wait_finished(site, 1)
        for event in ("file.claimed", "handler.output", "file.processed"):
            assert daemon.wait_event(event)["file"] == "a/b/print-1.dat"


@fault(
    "Workers and handlers",
    "a handler prints control characters",
    how="escapes, NUL, broken UTF-8, forged lines",
    shows="escaped in the journal and in sidecars",
)
def test_what_a_handler_prints_is_logged_harmlessly(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("print-1.dat", b"x")
        wait_finished(site, 1)
        told = daemon.wait_event("handler.output")
        assert "printed" in str(told)
        assert "\x1b" not in daemon.output()
        assert daemon.stop() == 0


_FORK = """
import os, sys

def handle(file):
    child = os.fork()
    if not child:
        sys.exit(file.name)
    os.waitpid(child, 0)
"""


@fault(
    "Workers and handlers",
    "a process that a handler has forked comes back out of it",
    how="sys.exit()",
    shows="it ends there; its file is run once, and all inboxes go on",
)
def test_a_process_that_a_handler_forks_is_no_second_worker(site: Site) -> None:
    (site.base / "forking.py").write_text(_FORK)
    site.inbox("forks", handler={"python": "forking:handle"})
    with run_daemon(site.config) as daemon:
        site.drop_all(files(20), inbox="forks")
        wait_finished(site, 20, inbox="forks")
        site.drop_all(files(20))
        wait_finished(site, 20)
        assert daemon.stop() == 0
        assert not daemon.events("file.waiting")
    assert (site.count("processed", "forks"), site.count("processed")) == (20, 20)
    assert violations(site.config, Evidence(manifest=site.manifest, finished=True)) == []


TRANSACTION = """\
import os, signal
from inboxd import File

def handle(file: File):
    with file.transaction("warehouse") as connection:
        connection.exec_driver_sql("INSERT INTO seen (file) VALUES (?)", (file.id,))
    if file.attempt == 1 and file.name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@fault(
    "Workers and handlers",
    "a handler's transaction is interrupted",
    how="killed before, at and after its commit",
    shows="its effect happens once",
)
def test_a_transaction_has_its_effect_once(site: Site) -> None:
    """Killed between its commit and its report, the handler runs again, and its body does not."""
    warehouse = site.base / "warehouse.db"
    with sqlite3.connect(warehouse) as db:
        db.execute("CREATE TABLE seen (file TEXT)")
    db.close()
    (site.base / "loading.py").write_text(TRANSACTION)
    site.write(databases={"warehouse": {"url": "sqlite:///warehouse.db", "connect_timeout": "10s"}})
    site.inbox("main", handler={"python": "loading:handle", "database": "warehouse"})
    with run_daemon(site.config) as daemon:
        site.drop_all(
            (f"{how}-{number}.dat".encode(), f"{how}{number}".encode()) for how in ("ok", "kill") for number in range(5)
        )
        wait_finished(site, 10)
        assert daemon.stop() == 0
    assert len(site.listed("processed")) == 10
    with sqlite3.connect(warehouse) as db:
        rows = db.execute("SELECT count(*), count(DISTINCT file) FROM seen").fetchone()
    db.close()
    assert rows == (10, 10)
    assert daemon.events("database.opened")
    assert violations(site.config, Evidence(manifest=site.manifest, finished=True)) == []


def test_a_database_that_is_away_holds_up_nobody_else(site: Site) -> None:
    """Its inbox says so, and waits with one worker at most; the workers are for the others."""
    (site.base / "loading.py").write_text(TRANSACTION)
    warehouse = site.base / "later" / "warehouse.db"
    site.write(databases={"warehouse": {"url": f"sqlite:///{warehouse}"}})
    site.inbox("main", handler={"python": "loading:handle", "database": "warehouse"})
    site.inbox("other")
    with run_daemon(site.config) as daemon:
        site.drop_all((f"ok-{number}.dat".encode(), b"%d" % number) for number in range(8))
        daemon.wait_event("database.away")
        site.drop_all(((f"other-{number}.dat".encode(), b"x") for number in range(50)), inbox="other")
        wait_finished(site, 50, "other", timeout=60)
        assert "database warehouse is away" in str(
            wait_until(lambda: inboxd_json(site.config, "status")["degraded"], "its trouble")
        )
        assert inboxd_json(site.config, "status")["state"] == "DEGRADED"
        assert 1 <= len(daemon.events("database.away")) <= len(daemon.workers())
        warehouse.parent.mkdir()
        with contextlib.closing(sqlite3.connect(warehouse)) as db, db:
            db.execute("CREATE TABLE seen (file TEXT)")
        wait_finished(site, 8, timeout=90)
        wait_until(lambda: inboxd_json(site.config, "status")["state"] == "RUNNING", "the end of it")
        assert daemon.stop() == 0
    assert len(site.listed("processed")) == 8
    assert violations(site.config, Evidence(manifest=site.manifest, finished=True)) == []


def test_what_nothing_waits_for_any_more_is_no_trouble(site: Site) -> None:
    """The only file for which its database was needed has been removed."""
    (site.base / "loading.py").write_text(TRANSACTION)
    site.write(databases={"warehouse": {"url": f"sqlite:///{site.base}/later/x.db", "connect_timeout": "100ms"}})
    site.inbox("main", handler={"python": "loading:handle", "database": "warehouse"})
    with run_daemon(site.config) as daemon:
        site.drop("ok-x.dat", b"x")
        wait_until(lambda: inboxd_json(site.config, "status")["degraded"], "its trouble")
        (held,) = (site.root() / "work").glob("*.dat")
        held.unlink()
        warehouse = site.base / "later" / "x.db"
        warehouse.parent.mkdir()
        with contextlib.closing(sqlite3.connect(warehouse)) as db, db:
            db.execute("CREATE TABLE seen (file TEXT)")
        daemon.wait_event("file.lost", timeout=60)
        wait_until(lambda: inboxd_json(site.config, "status")["state"] == "RUNNING", "the end of it")
        assert daemon.stop() == 0


_LATE = """
import os, time, witness
try:
    os.mkdir(__file__ + ".first")
except FileExistsError:
    time.sleep(0.5)  # the second worker is ready later
handle = witness.handle
"""


def test_files_that_were_there_before_are_shared_out(site: Site) -> None:
    """The first worker that is ready does not get them all."""
    (site.base / "late.py").write_text(_LATE)
    site.inbox("main", handler={"python": "late:handle"})
    site.put((f"sleep-2-{number}.dat".encode(), b"x") for number in range(2))
    with run_daemon(site.config):
        wait_until(lambda: len({line["name"] for line in site.witnessed("start")}) == 2, "both runs")
        assert not site.witnessed("end")
        wait_finished(site, 2)
    assert_sound(site, calm=True, finished=True)


def test_a_daemon_that_was_started_where_the_ends_of_children_are_ignored(site: Site) -> None:
    """As by a shell with trap '' CHLD: no child could be waited for then, and each program would seem to have failed."""
    site.inbox("main", handler={"command": ["/bin/sh", "-c", 'echo x >> "$0"; exit 0', str(site.base / "runs")]})
    with run_daemon(site.config, under=("/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh")):
        site.drop("a.dat", b"x")
        wait_finished(site, 1)
    assert site.listed("processed") == ["a.dat"]
    assert (site.base / "runs").read_text() == "x\n"
