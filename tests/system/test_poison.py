"""A file that kills, hangs or spoils: it alone is charged, and it ends in errors/."""

from __future__ import annotations

from collections import Counter

import pytest

from support.daemon import inboxd_json, run_daemon
from support.faults import fault
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _with_companions(site: Site, name: bytes, count: int = 29) -> None:
    """One batch for one worker, the poison in the middle."""
    site.workers(processes=1, batch_size=50)
    innocent = list(files(count))
    site.put([*innocent[: count // 2], (name, b"poison"), *innocent[count // 2 :]])


def _only_it_failed(site: Site, name: str, reason: str, attempts: int) -> None:
    assert site.listed("errors") == [name]
    story = site.sidecar(name)
    assert story["reason"] == reason
    assert len(story["attempts"]) == attempts
    innocent = [line for line in site.witnessed("start") if line["name"] != name]
    starts = Counter(line["id"] for line in innocent)
    assert len(starts) == len(site.listed("processed"))
    assert max(starts.values()) <= 2, "a neighbour is cut off once, and no more"


@fault(
    "Workers and handlers",
    "a file kills each worker that takes it",
    how="SIGKILL, a null pointer, exit and others by itself, in a batch",
    shows="it goes to errors/ after max_failures; the others succeed uncharged",
)
@pytest.mark.parametrize("how", ["crash", "kill", "leave"])
def test_a_killer_is_charged_alone(site: Site, how: str) -> None:
    _with_companions(site, f"{how}-me.dat".encode())
    with run_daemon(site.config):
        wait_finished(site, 30)
    _only_it_failed(site, f"{how}-me.dat", "too many failures", 3)
    endings = {attempt["ending"] for attempt in site.sidecar(f"{how}-me.dat")["attempts"]}
    assert endings == {"crashed"}
    assert_sound(site, finished=True)


def test_how_it_died_is_told(site: Site) -> None:
    _with_companions(site, b"crash-me.dat", 2)
    with run_daemon(site.config):
        wait_finished(site, 3)
    assert "11" in site.sidecar("crash-me.dat")["message"] or "SIGSEGV" in site.sidecar("crash-me.dat")["message"]


@pytest.mark.parametrize(
    ("how", "reason", "attempts"),
    [
        ("fail", "too many failures", 3),
        ("exit", "too many failures", 3),
        ("retry", "too many failures", 3),
        ("reject", "rejected", 1),
    ],
)
def test_a_failure_stays_with_its_file(site: Site, how: str, reason: str, attempts: int) -> None:
    _with_companions(site, f"{how}-me.dat".encode())
    with run_daemon(site.config):
        wait_finished(site, 30)
    _only_it_failed(site, f"{how}-me.dat", reason, attempts)
    assert_sound(site, calm=True, finished=True)


@fault(
    "Workers and handlers",
    "a handler hangs",
    how="a sleep, and a loop that holds the interpreter",
    shows="killed at its deadline, charged alone",
)
def test_a_hanging_file_is_killed_at_its_deadline(site: Site) -> None:
    _with_companions(site, b"hang-me.dat")
    site.workers(timeout="300ms")
    with run_daemon(site.config):
        wait_finished(site, 30)
    _only_it_failed(site, "hang-me.dat", "too many failures", 3)
    assert {attempt["ending"] for attempt in site.sidecar("hang-me.dat")["attempts"]} == {"timed out"}
    assert_sound(site, finished=True)


def test_what_fails_twice_succeeds_the_third_time(site: Site) -> None:
    site.put([(f"{how}-2-x.dat".encode(), how.encode()) for how in ("fail", "crash", "retry", "kill")])
    with run_daemon(site.config):
        wait_finished(site, 4)
    assert len(site.listed("processed")) == 4
    starts = Counter(line["name"] for line in site.witnessed("start"))
    assert all(3 <= count <= 4 for count in starts.values()), starts
    assert_sound(site, finished=True)


@fault(
    "Workers and handlers",
    "a handler removes, replaces or links its input",
    how="by its name",
    shows="no success: errors/, and told",
)
@pytest.mark.parametrize("how", ["delete", "link"])
def test_a_handler_that_spoils_its_input_is_no_success(site: Site, how: str) -> None:
    _with_companions(site, f"{how}-me.dat".encode(), 5)
    with run_daemon(site.config) as daemon:
        wait_finished(site, 5)
        daemon.wait_event("file.error")
        assert daemon.stop() == 0
    assert len(site.listed("processed")) == 5
    assert site.sidecar(f"{how}-me.dat")["reason"] == "input changed"
    assert_sound(site, finished=True)


def test_a_handler_that_writes_to_its_input_is_told_of(site: Site) -> None:
    _with_companions(site, b"change-me.dat", 5)
    with run_daemon(site.config):
        wait_finished(site, 6)
    assert len(site.listed("processed")) == 6
    (row,) = [row for row in inboxd_json(site.config, "files")["files"] if row["name"] == "change-me.dat"]
    assert "changed" in row["message"]


@fault(
    "Workers and handlers", "a result that can't be told", how="no JSON, or too large", shows="a failure of that file"
)
@pytest.mark.parametrize("how", ["big", "unspeakable"])
def test_a_result_that_cannot_be_told_is_a_failure(site: Site, how: str) -> None:
    _with_companions(site, f"{how}-me.dat".encode(), 5)
    with run_daemon(site.config):
        wait_finished(site, 6)
    assert site.listed("errors") == [f"{how}-me.dat"]
    assert len(site.listed("processed")) == 5
    assert_sound(site, finished=True)


@fault(
    "Workers and handlers",
    "a handler leaves processes behind",
    how="a child that keeps the streams open",
    shows="the run ends; they are killed",
)
def test_a_grandchild_does_not_hold_the_worker(site: Site) -> None:
    _with_companions(site, b"grandchild-600-x.dat", 5)
    with run_daemon(site.config) as daemon:
        wait_finished(site, 6)
        assert daemon.stop(timeout=15) == 0
    assert_sound(site, finished=True)


@fault(
    "Workers and handlers",
    "a handler leaks memory",
    how="more than max_memory",
    shows="recycled between two files; nothing is repeated",
)
def test_a_worker_that_grew_is_recycled(site: Site) -> None:
    site.workers(processes=1, max_memory="96MiB")
    with run_daemon(site.config) as daemon:
        (before,) = daemon.workers()
        site.drop("memory-200-x.dat", b"x")
        wait_finished(site, 1)
        daemon.wait_event("child.recycled")
        site.drop_all(files(20))
        wait_finished(site, 21)
        assert before not in daemon.workers()
    assert_sound(site, calm=True, finished=True)


def test_a_worker_is_recycled_after_so_many_files(site: Site) -> None:
    site.workers(processes=1, max_files=25, batch_size=10)
    with run_daemon(site.config):
        site.drop_all(files(100))
        wait_finished(site, 100)
    assert len({line["pid"] for line in site.witnessed("start")}) >= 3
    assert_sound(site, calm=True, finished=True)


@fault(
    "Workers and handlers",
    "a batch handler dies of one file",
    how="SIGKILL by itself",
    shows="found by halving; the others succeed",
)
def test_a_death_in_a_batch_handler_is_bisected(site: Site) -> None:
    site.inbox("main", handler={"python": "witness:handle_batch", "batch": True}, retry={"first": "1ms"})
    _with_companions(site, b"kill-me.dat", 19)
    with run_daemon(site.config):
        wait_finished(site, 20, timeout=60)
    assert site.listed("errors") == ["kill-me.dat"]
    assert len(site.listed("processed")) == 19


@fault(
    "Workers and handlers",
    "a batch that fails has more to tell than a message may hold",
    how="a long traceback, for each of 400 files",
    shows="told in several; found by halving, the others succeed",
)
def test_a_long_traceback_for_each_of_a_batch(site: Site) -> None:
    (site.base / "wordy.py").write_text(
        "def handle(files):\n"
        "    bad = [file.name for file in files if file.name == 'bad.dat']\n"
        "    assert not bad, '\\N{GRINNING FACE}' * 20_000\n"
    )
    site.inbox(
        "main",
        handler={"python": "wordy:handle", "batch": True},
        retry={"first": "1ms", "max_failures": 2, "max_attempts": 3},
    )
    site.workers(processes=1, batch_size=400)
    site.put([*files(399), (b"bad.dat", b"x")])
    with run_daemon(site.config) as daemon:
        wait_finished(site, 400, timeout=60)
        assert not daemon.events("child.killed")
    assert (site.listed("errors"), site.count("processed")) == (["bad.dat"], 399)


@fault(
    "Workers and handlers",
    "a program fails for one file of its batch",
    how="exit 1 and 65",
    shows="found by halving; the others succeed",
)
@pytest.mark.parametrize(("code", "reason"), [(1, "too many failures"), (65, "rejected")])
def test_a_program_that_fails_for_one_of_its_batch(site: Site, code: int, reason: str) -> None:
    program = site.base / "program.sh"
    program.write_text(f'#!/bin/sh\ngrep -l poison -- "$@" && exit {code}\nexit 0\n')
    program.chmod(0o755)
    handler = {"command": [str(program), "{files}"], "batch": True}
    site.inbox("main", handler=handler, retry={"max_failures": 2, "first": "1ms"})
    site.put([(b"bad.dat", b"poison"), *((f"good-{number:02}.dat".encode(), b"fine") for number in range(19))])
    with run_daemon(site.config) as daemon:
        wait_finished(site, 20, timeout=60)
        assert f"exit status {code}" in daemon.wait_event("batch.halved", inbox="main")["error"]
    assert site.listed("errors") == ["bad.dat"]
    assert site.sidecar("bad.dat")["reason"] == reason
    assert len(site.listed("processed")) == 19


@fault(
    "Workers and handlers",
    "a file's runs always end with the daemon's death",
    how="SIGKILL of the daemon, again and again",
    shows="it ends in errors/ after max_attempts",
)
@pytest.mark.parametrize("handler", ["handle", "handle_batch"])
def test_a_file_whose_runs_end_with_the_daemon_comes_to_an_end(site: Site, handler: str) -> None:
    """Its attempts run out at recovery, as they do at a stop; each cut is told."""
    site.inbox(
        "main",
        handler={"python": f"witness:{handler}", "batch": handler != "handle"},
        retry={"max_failures": 2, "max_attempts": 2},
    )
    site.workers(processes=1)
    site.put([(b"first.dat", b"1"), (b"hang-on.dat", b"2")])
    for number in (1, 2):
        with run_daemon(site.config) as daemon:
            wait_until(lambda: len(site.witnessed("start", "hang-on.dat")) == number, f"run {number}")  # noqa: B023
            if number == 2:
                released = daemon.wait_event("file.released", file="hang-on.dat")
                assert (released["attempt"], released["inbox"]) == (1, "main")
                assert "the daemon died" in released["error"]
            daemon.kill()
    with run_daemon(site.config) as daemon:
        wait_until(lambda: "hang-on.dat" in site.listed("errors"), "its end")
        assert daemon.wait_event("file.error", file="hang-on.dat")["reason"] == "too many attempts"
    assert [line["attempt"] for line in site.witnessed("start", "hang-on.dat")] == [1, 2]
    story = site.sidecar("hang-on.dat")
    assert (story["reason"], [one["attempt"] for one in story["attempts"]]) == ("too many attempts", [1, 2])
    assert_sound(site)
