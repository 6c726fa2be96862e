"""Entries made to trip: hostile names, links, pipes, sockets, folders, and files that change under our hands."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import pytest

from support.daemon import inboxd_json, run_daemon
from support.faults import fault
from support.invariants import Evidence, violations
from support.load import HOSTILE_NAMES, dropped, files, hostile
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _strange_is_quick(site: Site) -> None:
    site.write(rescan="200ms")


@fault(
    "Uploaders", "names made to trip", how="control characters, shell, formats, other encodings, our own names",
    shows="processed like any; nothing in the log is forged",
)  # fmt: skip
def test_hostile_names_are_processed_like_any(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(hostile())
        wait_finished(site, len(HOSTILE_NAMES) + 1)
        names = site.listed("processed")
        assert daemon.stop() == 0
        assert sorted(map(os.fsencode, names)) == sorted([*HOSTILE_NAMES, b"empty"])
        forged = [
            record
            for record in daemon.records()
            if record.get("event") == "file.processed" and "file_id" not in str(record)
        ]
        assert not forged
        assert all(ord(char) >= 32 or char == "\n" for char in daemon.output())
    assert not (site.base / "pwned").exists()
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "names made to trip", how="control characters, shell, formats, other encodings, our own names",
    shows="each in errors/ with its sidecar",
)  # fmt: skip
def test_hostile_names_in_errors(site: Site) -> None:
    """Each with its sidecar, whose name must fit too."""
    site.inbox("main", handler={"command": ["false"]}, retry={"max_failures": 1})
    with run_daemon(site.config) as daemon:
        site.drop_all(hostile())
        wait_until(lambda: site.count("errors") >= 2 * (len(HOSTILE_NAMES) + 1), "all errors and their sidecars")
        assert daemon.stop() == 0
    assert_sound(site)


@fault(
    "Uploaders", "names made to trip", how="control characters, shell, formats, other encodings, our own names",
    shows="a command gets them as they are, never through a shell",
)  # fmt: skip
def test_hostile_names_reach_a_command_unharmed(site: Site) -> None:
    """As an argument and in the environment, never through a shell."""
    program = site.base / "program.py"
    program.write_text(
        "import os, sys\n"
        "path, name, out = sys.argv[1:4]\n"
        "assert os.fsencode(name) == os.environb[b'INBOXD_NAME'], name\n"
        "assert os.path.isabs(path) and os.path.getsize(path) >= 0\n"
    )
    site.inbox(
        "main", handler={"command": ["python3", str(program), "{path}", "{name}", "{id}"]}, retry={"max_failures": 1}
    )
    with run_daemon(site.config):
        site.drop_all(hostile())
        wait_finished(site, len(HOSTILE_NAMES) + 1, timeout=60)
    assert site.listed("errors") == []
    assert not (site.base / "pwned").exists()
    assert_sound(site, finished=True)


def test_hostile_names_can_be_shown(site: Site) -> None:
    site.drop_all(hostile())
    with run_daemon(site.config):
        wait_finished(site, len(HOSTILE_NAMES) + 1)
        listed = inboxd_json(site.config, "files", "--limit", "1000")["files"]
        assert {os.fsencode(file["name"]) for file in listed} == {*HOSTILE_NAMES, b"empty"}


def _secret(site: Site) -> Path:
    secret = site.base / "secret"
    secret.write_bytes(b"not yours")
    return secret


def test_when_a_link_goes_to_quarantine(site: Site) -> None:
    """At once where creations are heard of; else at the next pass, and that is what is said of it."""
    site.write(rescan="1h")
    site.inbox("quiet", settle={"quiet": "100ms"})
    with run_daemon(site.config):
        for inbox in ("main", "quiet"):
            (site.root(inbox) / "inbound" / "link.dat").symlink_to("/nowhere/at/all")
        wait_until(lambda: site.listed("quarantine", "quiet") == ["link.dat"], "it is taken")
        why = inboxd_json(site.config, "explain", str(site.root() / "inbound" / "link.dat"))["why"]
        assert re.match(r"it is no regular file; .* once the inbox is looked through, in 3\d\d\d s", why[0]), why


def test_links_are_never_followed(site: Site) -> None:
    _strange_is_quick(site)
    secret = _secret(site)
    with run_daemon(site.config) as daemon:
        inbound = site.root() / "inbound"
        (inbound / "link.dat").symlink_to(secret)
        (inbound / "dangling.dat").symlink_to("/nowhere/at/all")
        (inbound / "folder.dat").symlink_to(site.base)
        wait_until(lambda: len(site.listed("quarantine")) == 3, "three links in quarantine")
        assert (site.root() / "quarantine" / "link.dat").is_symlink()
        assert daemon.stop() == 0
    assert secret.read_bytes() == b"not yours"
    assert site.witnessed() == []
    assert_sound(site)


def test_a_pipe_and_a_socket_block_nobody(site: Site) -> None:
    _strange_is_quick(site)
    with run_daemon(site.config) as daemon, socket.socket(socket.AF_UNIX) as listener:
        inbound = site.root() / "inbound"
        os.mkfifo(inbound / "pipe.dat")
        here = Path.cwd()
        os.chdir(inbound)  # sun_path is short
        try:
            listener.bind("socket.dat")
        finally:
            os.chdir(here)
        site.drop_all(files(20))
        wait_until(lambda: site.listed("quarantine") == ["pipe.dat", "socket.dat"], "pipe and socket in quarantine")
        wait_until(lambda: len(site.listed("processed")) == 20, "the files beside them")
        assert daemon.stop() == 0
    assert_sound(site)


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_named_like_a_file_stays(site: Site, recursive: bool) -> None:
    site.inbox("main", recursive=recursive, match=["*.csv"])
    with run_daemon(site.config) as daemon:
        (site.root() / "inbound" / "folder.csv").mkdir()
        site.drop("file.csv", b"1")
        site.drop("inner.csv", b"2", folder="folder.csv")
        wait_finished(site, 2 if recursive else 1)
        assert (site.root() / "inbound" / "folder.csv").is_dir()
        assert daemon.stop() == 0
    expected = ["file.csv", "folder.csv/inner.csv"] if recursive else ["file.csv"]
    assert site.listed("processed") == expected
    assert_sound(site, calm=True)


@fault(
    "Uploaders", "publishing by link and unlink", how="link(2), unlink(2)",
    shows="taken when it has one name",
)  # fmt: skip
def test_a_hard_link_waits_for_its_other_name_to_go(site: Site) -> None:
    """Publish by link and unlink; a lasting second name ends in quarantine, which takes longer than a test."""
    _strange_is_quick(site)
    with run_daemon(site.config) as daemon:
        inbound = site.root() / "inbound"
        (inbound / "linked.part").write_bytes(b"linked")
        os.link(inbound / "linked.part", inbound / "linked.dat")
        site.drop("other.dat", b"other")
        wait_finished(site, 1)
        assert site.listed("inbound") == ["linked.dat", "linked.part"]
        (inbound / "linked.part").unlink()
        site.manifest.append(dropped("main", b"linked.dat", b"linked"))
        wait_until(lambda: "linked.dat" in site.listed("processed"), "the published file")
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "a link to a folder in a recursive inbox", how="symlink(2)",
    shows="it is not entered; the link goes to quarantine/",
)  # fmt: skip
def test_a_recursive_inbox_does_not_leave_itself(site: Site) -> None:
    site.inbox("main", recursive=True)
    _strange_is_quick(site)
    outside = site.base / "outside"
    outside.mkdir()
    (outside / "private.dat").write_bytes(b"private")
    with run_daemon(site.config) as daemon:
        (site.root() / "inbound" / "door").symlink_to(outside)
        site.drop("in.dat", b"in", folder="a/b/c")
        wait_until(lambda: "a/b/c/in.dat" in site.listed("processed"), "the file in a folder")
        wait_until(lambda: site.listed("quarantine") == ["door"], "the door in quarantine")
        assert daemon.stop() == 0
    assert (outside / "private.dat").read_bytes() == b"private"
    assert_sound(site, calm=True)


def test_empty_files_and_equal_files_are_each_their_own(site: Site) -> None:
    with run_daemon(site.config):
        for number in range(20):
            site.drop(f"empty-{number}", b"")
            site.drop(f"same-{number}", b"the same")
        wait_finished(site, 40)
    assert_sound(site, calm=True, finished=True)


def test_the_same_name_again_and_again(site: Site) -> None:
    with run_daemon(site.config):
        for number in range(30):
            site.drop("report.csv", b"%d" % number)
            wait_until(lambda: site.listed("inbound") == [], "its claim")
        wait_finished(site, 30)
    contents = {(site.root() / "processed" / name).read_bytes() for name in site.listed("processed")}
    assert contents == {b"%d" % number for number in range(30)}
    assert "report.csv" in site.listed("processed")
    assert all(name.endswith(".csv") for name in site.listed("processed"))
    assert_sound(site, calm=True, finished=True)


def test_a_long_name_that_is_taken(site: Site) -> None:
    long = b"n" * 251 + b".csv"
    with run_daemon(site.config):
        for number in range(5):
            site.drop(long, b"%d" % number)
            wait_until(lambda: site.listed("inbound") == [], "its claim")
        wait_finished(site, 5)
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "files replaced and removed while they are claimed", how="two racers, rename over and unlink",
    shows="whatever is taken is taken whole, once, under its own hash",
)  # fmt: skip
def test_uploaders_who_replace_and_remove_while_we_claim(site: Site) -> None:
    """Two racers rename over and unlink the same names; whatever is taken is taken whole, once, under its own hash."""
    site.write(rescan="100ms")
    inbound = site.root() / "inbound"
    with run_daemon(site.config) as daemon:
        stop = threading.Event()
        racers = [threading.Thread(target=_race, args=(inbound, number, stop)) for number in range(2)]
        for racer in racers:
            racer.start()
        wait_until(lambda: site.count("processed") > 400, "some hundred claims in the race", timeout=40, every=0.1)
        stop.set()
        for racer in racers:
            racer.join()
        wait_until(lambda: site.listed("inbound") == [] and site.listed("work") == [], "the end of all work")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.output()
    for name in site.listed("processed"):
        racer, turn = (site.root() / "processed" / name).read_bytes().split()
        assert racer.isdigit()
        assert turn.isdigit()
    found = violations(site.config, Evidence(witness=site.witnessed(), calm=True))  # racers removed some themselves
    assert not found, "\n".join(found[:40])


def _race(inbound: Path, number: int, stop: threading.Event) -> None:
    """Upload, replace, remove, over and over; contents tell the racer and the round."""
    turn = 0
    while not stop.is_set():
        turn += 1
        name = inbound / f"race-{turn % 7}"
        draft = inbound / f".draft-{number}"
        draft.write_bytes(b"%d %d" % (number, turn))
        os.rename(draft, name)
        if turn % 3 == 0:
            name.unlink(missing_ok=True)


def test_an_uploader_who_writes_after_the_claim(site: Site) -> None:
    """The held descriptor still reaches the file; that is noticed, and told."""
    site.workers(processes=1)
    with run_daemon(site.config) as daemon:
        path = site.root() / "inbound" / ".late.dat"
        with path.open("wb") as stream:
            stream.write(b"first")
            stream.flush()
            path.rename(path.with_name("sleep-1-late.dat"))
            wait_until(lambda: site.witnessed("start"), "its run")
            stream.write(b" and second")
        wait_until(lambda: site.listed("processed"), "its end")
        assert daemon.stop() == 0
    (row,) = inboxd_json(site.config, "files")["files"]
    assert "changed" in row["message"]
