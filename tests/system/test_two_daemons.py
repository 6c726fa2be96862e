"""Two daemons at the same folders: the second one is refused, whatever its state folder is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.daemon import Daemon, inboxd, run_daemon
from support.faults import fault
from support.site import Site
from support.sound import assert_sound, wait_finished


@pytest.fixture
def second(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Another installation, whose inbox `main` has the folders of the first one's."""
    other = Site(tmp_path / "second")
    other.inbox("main", root=str(site.root()))
    yield other


@fault(
    "Process death",
    "two daemons want one inbox",
    how="a second one with another state folder",
    shows="the second is refused, exit 75, and touches nothing",
)
def test_a_second_daemon_with_its_own_state(site: Site, second: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("sleep-5-a.dat", b"x")
        daemon.wait_event("child.ready")
        refused = inboxd(second.config, "run")
        assert refused.returncode == 75
        assert f"pid {daemon.pid}" in refused.stderr
        assert str(site.root() / "work") in refused.stderr
        assert "adopted" not in refused.stderr
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)
    with run_daemon(second.config) as daemon:
        assert daemon.stop() == 0


def test_a_reload_that_reaches_for_another_daemons_folders(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "second")
    with run_daemon(site.config) as daemon, run_daemon(other.config) as second:
        other.inbox("more", root=str(site.root()))
        refused = inboxd(other.config, "reload")
        assert refused.returncode == 75
        assert f"pid {daemon.pid}" in refused.stderr
        del other.settings["inboxes"]["more"]
        other.write()
        assert inboxd(other.config, "reload").returncode == 0
        assert second.stop() == 0


def test_a_removed_inbox_is_free_for_another_daemon(site: Site, second: Site) -> None:
    site.inbox("kept")
    with run_daemon(site.config) as daemon:
        for layout in ("a", ""):  # its lanes change, and the lock stays
            site.inbox("main", layout=layout)
            assert inboxd(site.config, "reload").returncode == 0
            daemon.wait_event("daemon.reloaded")
        assert inboxd(second.config, "run").returncode == 75
        del site.settings["inboxes"]["main"]
        site.write()
        assert inboxd(site.config, "reload").returncode == 0
        with run_daemon(second.config) as other:
            assert other.stop() == 0


def test_no_worker_inherits_the_lock(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert all(str(site.root() / "work") not in _open(pid) for pid in daemon.workers())
        assert str(site.root() / "work") in _open(daemon.pid)
        _outlive(daemon)
    with run_daemon(site.config) as daemon:
        assert daemon.stop() == 0


def _open(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    return {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}


def _outlive(daemon: Daemon) -> None:
    """Its end alone frees the folders."""
    daemon.kill()
    psutil.wait_procs(list(daemon.children()), timeout=10)
