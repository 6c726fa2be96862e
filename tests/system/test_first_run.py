"""A newcomer's first minutes: start, drop, look, stop."""

from __future__ import annotations

import os
import stat

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

FOLDERS = ("inbound", "work", "processed", "errors", "quarantine", "outbound", "incoming")


def test_from_start_to_stop(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert all((site.root() / folder).is_dir() for folder in FOLDERS)
        assert all(stat.S_IMODE((site.root() / folder).stat().st_mode) == 0o700 for folder in ("work", "incoming"))
        assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
        site.drop("hello.txt", b"hello")
        wait_finished(site, 1)
        assert (site.root() / "processed" / "hello.txt").read_bytes() == b"hello"
        assert daemon.stop() == 0
        assert daemon.notified("STOPPING=1")
    assert_sound(site, calm=True, finished=True)


def test_what_lay_there_before_the_start_is_taken(site: Site) -> None:
    site.put(files(50))
    with run_daemon(site.config):
        wait_finished(site, 50)
    assert_sound(site, calm=True, finished=True)


def test_events_suffice(site: Site) -> None:
    """No rescan comes to help: a file dropped now is taken because the kernel said so."""
    site.write(rescan="1h")
    with run_daemon(site.config):
        for name, content in files(20):
            site.drop(name, content)
            wait_until(
                lambda name=name: os.fsdecode(name) in site.listed("processed"), "a file, by its event", timeout=5
            )
    assert_sound(site, calm=True, finished=True)


def test_a_rescan_suffices(site: Site) -> None:
    """No event comes to help."""
    site.write(rescan="200ms")
    site.inbox("main", watch="poll")
    with run_daemon(site.config):
        site.drop_all(files(50))
        wait_finished(site, 50)
    assert_sound(site, calm=True, finished=True)


def test_one_files_story(site: Site) -> None:
    with run_daemon(site.config):
        site.drop("hello.txt", b"hello")
        wait_finished(site, 1)
        (listed,) = wait_until(
            lambda: [file for file in inboxd_json(site.config, "files")["files"] if file["state"] == "DONE"], "its row"
        )
        shown = inboxd_json(site.config, "show", listed["id"])
    assert (listed["inbox"], listed["name"], listed["outcome"]) == ("main", "hello.txt", "processed")
    assert shown["attempts"] == 1
    assert shown["result"] == {"sha256": site.manifest[0].sha256}
    assert shown["path"] == str(site.root() / "processed" / "hello.txt")


def test_status_counts(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(files(30))
        site.drop("reject-1.dat", b"no")
        wait_finished(site, 31)
        status = wait_until(
            lambda: (found := inboxd_json(site.config, "status"))["inboxes"][0]["errors"] == 1 and found, "the counts"
        )
        (inbox,) = status["inboxes"]
        assert (inbox["inbox"], inbox["processed"], inbox["errors"]) == ("main", 30, 1)
        assert status["state"] == "RUNNING"
        assert status["pid"] == daemon.pid
        assert {worker["pid"] for worker in status["workers"]} == set(daemon.workers())
        plain = inboxd(site.config, "status")
        assert plain.returncode == 0
        assert "main" in plain.stdout
        assert "\x1b" not in plain.stdout
        wait_until(lambda: daemon.status().startswith("running"), "a STATUS text")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_what_was_closed_before_it_is_no_file_of_ours(site: Site, closed: str) -> None:
    """Else the log would be written into it."""
    with run_daemon(site.config, under=("sh", "-c", f'exec "$@" {closed}', "sh")) as daemon:
        opened = {os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in range(3)}
        assert opened <= {os.devnull, str(site.config.with_name("daemon.log"))}
        assert os.readlink(f"/proc/{daemon.pid}/fd/2") == os.devnull
        assert (site.state / "instance.lock").read_text().strip() == str(daemon.pid)
        site.drop("hello.txt", b"hello")
        wait_finished(site, 1)
    assert_sound(site, calm=True, finished=True)


@pytest.mark.parametrize("verb", ["status", "drain", "reload", "doctor"])
def test_without_a_daemon_every_verb_says_so(site: Site, verb: str) -> None:
    answer = inboxd(site.config, verb)
    assert answer.returncode == 69
    assert "Traceback" not in answer.stderr
    assert answer.stderr.strip()
