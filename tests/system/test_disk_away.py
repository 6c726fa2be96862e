"""A disk that goes and comes back under a running daemon: its inbox waits, says so, and goes on by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

_SMALL = "64m"


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


class Disk:
    """A file system of its own, to be an inbox's root and to be taken away as by `umount -l`."""

    def __init__(self, base: Path, point: Path) -> None:
        self._disk = base / "disk"
        self.point = point
        self._disk.mkdir()
        point.mkdir(parents=True)
        _mount("-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", self._disk)
        self.attach()

    def attach(self) -> None:
        _mount("--bind", self._disk, self.point)

    def attach_another(self) -> None:
        """An empty one, with the folders that an inbox needs."""
        _mount("-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", self.point)
        for which in ("inbound", "work", "incoming", "processed", "errors", "quarantine", "outbound"):
            (self.point / which).mkdir(parents=True, mode=0o700)

    def detach(self) -> None:
        subprocess.run(["umount", "-l", str(self.point)], check=True)

    def close(self) -> None:
        for point in (self.point, self._disk):
            while os.path.ismount(point):
                subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
def disk(site: Site) -> Iterator[Disk]:
    """Holds all folders of inbox `other`, which is beside `main`."""
    assert os.geteuid() == 0, "mounts are made by root: run this test as root"
    site.inbox("other", retry={"first": "1s", "longest": "2s"})
    with contextlib.closing(Disk(site.base, site.root("other"))) as made:
        yield made


def _row(site: Site) -> dict[str, object]:
    return next(row for row in inboxd_json(site.config, "status")["inboxes"] if row["inbox"] == "other")


def _is_away(site: Site) -> bool:
    return str(_row(site)["condition"]).startswith("away")


@fault(
    "Disks",
    "an inbox's disk goes and comes back",
    how="umount -l, mounted again",
    shows="its inbox waits, says so and goes on by itself; the others go on",
)
def test_a_disk_that_comes_back(site: Site, disk: Disk) -> None:
    """With a file that waits on it; the other inbox goes on all the time."""
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        site.drop("ok-1.dat", b"x", inbox="other")
        wait_finished(site, 1, "other")
        site.drop("fail-1-held.dat", b"x", inbox="other")
        daemon.wait_event("file.waiting", inbox="other")
        disk.detach()
        daemon.wait_event("daemon.degraded")
        wait_until(lambda: _is_away(site), "the inbox is away")
        site.drop_all(files(5))
        wait_finished(site, 5)
        disk.attach()
        daemon.wait_event("daemon.resumed", timeout=40)
        daemon.wait_event("inbox.back")
        site.drop("ok-2.dat", b"x", inbox="other")
        wait_until(
            lambda: site.listed("processed", "other") == ["fail-1-held.dat", "ok-1.dat", "ok-2.dat"], "all of them"
        )
        assert not daemon.events("file.lost")
        assert not daemon.events("file.abandoned")
        assert not _is_away(site)
        assert daemon.stop() == 0
    assert_sound(site)


@fault(
    "Disks",
    "an inbox's disk goes and comes back",
    how="umount -l, mounted again",
    shows="its inbox waits, says so and goes on by itself; the others go on",
)
def test_an_absence_that_nobody_has_noticed(site: Site, disk: Disk) -> None:
    """Between two looks; what is dropped at once is taken within seconds, and not put aside for a minute."""
    site.write(rescan="1h")
    with run_daemon(site.config) as daemon:
        site.drop("ok-1.dat", b"x", inbox="other")
        wait_finished(site, 1, "other")
        for number in range(2, 6):
            disk.detach()
            disk.attach()
            site.drop(f"ok-{number}.dat", b"x", inbox="other")
            wait_until(lambda number=number: f"ok-{number}.dat" in site.listed("processed", "other"), "it", timeout=10)
        assert daemon.stop() == 0
    assert_sound(site)


@fault(
    "Disks",
    "an inbox's disk goes during a run",
    how="umount -l, mounted again",
    shows="the file is not blamed, and is there when the disk is",
)
def test_a_run_that_is_cut_off_by_its_disk(site: Site, disk: Disk) -> None:
    """Whatever the handler made of it, the file is not blamed, and is there when the disk is."""
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-sleep-1.dat", b"x", inbox="other")
        daemon.wait_event("file.waiting", inbox="other")
        site.drop("sleep-2-a.dat", b"x", inbox="other")
        wait_until(lambda: site.witnessed("start", "sleep-2-a.dat"), "its start")
        disk.detach()
        daemon.wait_event("daemon.degraded")
        disk.attach()
        wait_until(lambda: "sleep-2-a.dat" in site.listed("processed", "other"), "its end", timeout=40)
        assert not daemon.events("file.error")
        assert daemon.stop() == 0


@fault(
    "Disks",
    "another disk stands in an inbox's place",
    how="a mount over it",
    shows="nothing of it is touched, nothing of ours is called lost",
)
def test_another_disk_is_not_taken_for_it(site: Site, disk: Disk) -> None:
    """Its files are kept for when it is back, and nothing of the other disk is touched meanwhile."""
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-held.dat", b"x", inbox="other")
        daemon.wait_event("file.waiting", inbox="other")
        disk.detach()
        disk.attach_another()
        daemon.wait_event("daemon.degraded")
        site.drop("ok-stranger.dat", b"x", inbox="other")
        wait_until(lambda: "another file system" in str(inboxd_json(site.config, "status")["degraded"]), "words for it")
        assert inboxd_json(site.config, "files")["files"][0]["outcome"] is None
        assert "away" in inboxd(site.config, "explain", str(disk.point / "inbound/ok-stranger.dat")).stdout
        disk.detach()
        disk.attach()
        wait_until(
            lambda: site.listed("processed", "other") == ["fail-1-held.dat"], "the one that was held", timeout=40
        )
        assert not daemon.events("file.lost")
        assert daemon.stop() == 0


def test_folders_made_anew_where_nothing_was_held(site: Site) -> None:
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        site.drop("ok-1.dat")
        wait_finished(site, 1)
        site.root().rename(site.base / "aside")
        daemon.wait_event("daemon.degraded")
        for which in ("inbound", "work", "incoming", "processed", "errors", "quarantine", "outbound"):
            (site.root() / which).mkdir(parents=True, mode=0o700)
        daemon.wait_event("daemon.resumed", timeout=40)
        site.drop("ok-2.dat")
        wait_finished(site, 1)
        assert daemon.stop() == 0


@fault(
    "Disks", "work/ is replaced by another folder", how="renamed away", shows="what it held is kept for when it is back"
)
def test_a_work_folder_replaced_while_it_holds_something(site: Site) -> None:
    site.write(rescan="200ms")
    site.inbox("main", retry={"first": "500ms", "longest": "500ms"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-held.dat")
        daemon.wait_event("file.waiting")
        work, aside = site.root() / "work", site.base / "aside"
        work.rename(aside)
        work.mkdir(mode=0o700)
        wait_until(lambda: "another folder" in str(inboxd_json(site.config, "status")["degraded"]), "words for it")
        work.rmdir()
        aside.rename(work)
        wait_finished(site, 1, timeout=40)
        assert not daemon.events("file.lost")
        assert daemon.stop() == 0
