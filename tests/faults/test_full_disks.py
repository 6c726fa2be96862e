"""Disks that are full, over quota, without inodes: told and borne, and over without a restart. And read-only ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, inboxd, inboxd_json, run_daemon
from support.disks import Disk, Room, Tmpfs, limit
from support.faults import fault, scale
from support.invariants import Evidence, violations
from support.load import Item, files
from support.partner import Partner
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.sourced import assert_sound_with, connect, offer, wait_states
from support.wait import wait_until

pytestmark = pytest.mark.timeout(scale(120, 3600))
_TIGHT = {"durability": "full", "min_free_space": "0B", "min_free_inodes": 0}  # so that the disk itself says no
BORNE = "degraded, with the cause; nothing is lost; it goes on by itself when there is room"


def _inbox_on(point: Path, base: Path) -> Site:
    site = Site(base / "site", home=point, **_TIGHT)
    site.inbox(
        "main", layout="%H%M%S", retry={"first": "10ms", "longest": "1s", "max_failures": 50, "max_attempts": 100}
    )
    site.write(state="state")
    return site


def _state_on(point: Path, base: Path) -> Site:
    return Site(base / "site", state=os.path.relpath(point / "state", base / "site"), **_TIGHT)


class Told:
    """What a daemon tells from now on."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = len(daemon.records())

    def wait(self, event: str, words: str = "") -> None:
        """It has told of such an event, with these words."""
        wait_until(lambda: self.has(event, words), f"{event}: {words}", 60, 0.05)

    def has(self, event: str, words: str = "") -> bool:
        """It has told of such an event already."""
        records = self._daemon.records()[self._before :]
        return any(record["event"] == event and words in record["message"] for record in records)


def _reasons(site: Site) -> str:
    return str(inboxd_json(site.config, "status")["degraded"])


@fault("Disks", "the state folder is full", how="a tmpfs of 2 MiB", shows=BORNE)
def test_the_state_folder_is_full(tmp_path: Path, tally) -> None:
    """While a file is run: its outcome can't be recorded, and it is not run again for that."""
    with Tmpfs(tmp_path / "disk", "size=2m") as disk:
        site, room = _state_on(disk.point, tmp_path), Room(disk.point)
        with run_daemon(site.config) as daemon:
            for number in range(scale(1, 20)):
                told = Told(daemon)
                site.drop(f"sleep-0_5-{number}.dat", b"x")
                wait_until(lambda number=number: site.witnessed("start", f"sleep-0_5-{number}.dat"), "its start")
                room.fill()
                site.drop_all(files(30, seed=number, prefix=f"ok-{number}"))
                told.wait("daemon.degraded", "0B and")
                assert "No space left on device" in _reasons(site)
                room.free()
                told.wait("daemon.resumed", "ledger")
                wait_finished(site, 31 * (number + 1), timeout=60)
                tally()
            assert not inboxd_json(site.config, "status")["degraded"]
        assert_sound(site, finished=True, calm=True)


@fault("Disks", "the disk of an inbox is full", how="a tmpfs of 4 MiB with 400 inodes", shows=BORNE)
@fault("Disks", "the disk of an inbox has no inodes left", how="a tmpfs of 4 MiB with 400 inodes", shows=BORNE)
def test_the_inbox_is_full(tmp_path: Path, tally) -> None:
    """Handlers run on what is held. What is decided stays in work/, where a folder or a sidecar can't be made."""
    with Tmpfs(tmp_path / "disk", "size=4m", "nr_inodes=400") as disk:
        site, room = _inbox_on(disk.point, tmp_path), Room(disk.point)
        with run_daemon(site.config):
            for number in range(scale(2, 10)):
                names = [f"sleep-1_1-{number}.dat", f"results-{number}.dat"]
                site.drop_all((name.encode(), name.encode()) for name in names)
                wait_until(lambda names=names: site.witnessed("start", names[0]), "its start")
                if number % 2:
                    wait_until(lambda: site.finished() == len(site.manifest) - 1, "the end of the other")
                    room.fill_inodes()  # the folder of the second in which it ends
                else:
                    room.fill()
                    site.drop(f"reject-{number}.dat")  # its sidecar
                wait_until(
                    lambda what=" and 0 inodes" if number % 2 else "(0B and": what in _reasons(site), "words", 30, 0.3
                )
                room.free()
                wait_finished(site, len(site.manifest), timeout=60)
                tally()
            assert not inboxd_json(site.config, "status")["degraded"]
        assert all("reject-" in name for name in site.listed("errors"))
        assert not violations(site.config, Evidence(manifest=site.manifest, finished=True))


@fault("Disks", "an inbox is over its quota", how="a btrfs with quota groups: EDQUOT", shows=BORNE)
def test_an_inbox_over_quota(tmp_path: Path, tally) -> None:
    with Disk(tmp_path, tmp_path / "disk", "btrfs") as disk:
        limit(disk.point / "inboxes", "4M")
        site, room = _inbox_on(disk.point, tmp_path), Room(disk.point / "inboxes")
        with run_daemon(site.config) as daemon:
            for number in range(scale(1, 20)):
                told = Told(daemon)
                site.drop_all([(f"sleep-0_5-{number}.dat".encode(), b"x"), (f"reject-{number}.dat".encode(), b"y")])
                wait_until(lambda number=number: site.witnessed("start", f"sleep-0_5-{number}.dat"), "its start")
                room.fill()
                told.wait("daemon.degraded", "Disk quota exceeded")
                assert "Disk quota exceeded" in _reasons(site)
                room.free()
                told.wait("daemon.resumed")
                wait_finished(site, len(site.manifest), timeout=60)
                tally()
        assert_sound(site, finished=True)


@fault(
    "Disks", "the ledger is over its quota", how="a btrfs with quota groups: EDQUOT",
    shows="degraded; or ended by SIGBUS, since SQLite maps a file there, and started again; nothing is lost",
)  # fmt: skip
def test_the_ledger_over_quota(tmp_path: Path, tally) -> None:
    with Disk(tmp_path, tmp_path / "disk", "btrfs") as disk:
        limit(disk.point / "state", "4M")
        site, room = _state_on(disk.point, tmp_path), Room(disk.point / "state")
        for number in range(scale(1, 20)):
            with run_daemon(site.config) as daemon:
                told = Told(daemon)
                room.fill()
                items = files(10_000, seed=number, prefix=f"ok-{number}")
                _drop_until(site, items, lambda daemon=daemon, told=told: _is_over(daemon) or told.has(*_OVER))
                room.free()
                if _is_over(daemon):
                    assert daemon.wait() == -signal.SIGBUS
                else:
                    told.wait("daemon.resumed")
            tally()
        with run_daemon(site.config):
            wait_finished(site, len(site.manifest), timeout=60)
        assert_sound(site, finished=True)


_OVER = ("daemon.degraded", "Disk quota exceeded")


def _is_over(daemon: Daemon) -> bool:
    return daemon.process.poll() is not None


def _drop_until(site: Site, items: Iterator[Item], happened: Callable[[], bool]) -> None:
    """One file after the other."""
    wait_until(lambda: site.drop(*next(items)) and happened(), "what a file brings about", 40, 0.05)


@fault(
    "Disks",
    "the disk falls below min_free_space",
    how="a tmpfs of 4 MiB",
    shows="nothing is claimed; resumes by itself",
)
@fault(
    "Disks",
    "the disk falls below min_free_inodes",
    how="a tmpfs with 400 inodes",
    shows="nothing is claimed; resumes by itself",
)
def test_below_the_low_water_mark(tmp_path: Path, tally) -> None:
    with Tmpfs(tmp_path / "disk", "size=4m", "nr_inodes=400") as disk:
        site, room = _inbox_on(disk.point, tmp_path), Room(disk.point)
        site.write(min_free_space="1MiB", min_free_inodes=100)
        with run_daemon(site.config) as daemon:
            for number in range(2):
                told, items = Told(daemon), files(100, seed=number, prefix=f"ok-{number}")
                room.fill_inodes(all_but=50) if number else room.fill(all_but=1 << 19)
                what = "inodes free" if number else "KiB free"
                # It looks once a second, when there is something to take.
                _drop_until(site, items, lambda told=told, what=what: told.has("disk.low", what))
                site.drop(*next(items))
                assert site.listed("inbound")
                room.free()
                told.wait("disk.back")
                wait_finished(site, len(site.manifest))
                tally()
        assert_sound(site, finished=True, calm=True)


@fault(
    "Disks", "the disk falls below min_free_space, and nothing waits", how="a tmpfs of 4 MiB",
    shows="it is told all the same, and `inboxd doctor` finds it",
)  # fmt: skip
def test_below_the_low_water_mark_before_a_file_comes(tmp_path: Path) -> None:
    with Tmpfs(tmp_path / "disk", "size=4m") as disk:
        site, room = _inbox_on(disk.point, tmp_path), Room(disk.point)
        site.write(min_free_space="1MiB", rescan="1h")
        with run_daemon(site.config) as daemon:
            told = Told(daemon)
            assert inboxd(site.config, "doctor").returncode == 0
            room.fill(all_but=1 << 19)
            told.wait("disk.low", "KiB free")
            assert inboxd(site.config, "doctor").returncode == 1
            room.free()
            told.wait("disk.back")
            assert inboxd(site.config, "doctor").returncode == 0
        assert_sound(site, finished=True, calm=True)


@fault("Disks", "the disk is full when an item comes from its source", how="a tmpfs of 4 MiB", shows=BORNE)
def test_incoming_is_full(tmp_path: Path) -> None:
    """The item is fetched when there is room, and only then acknowledged. It is not charged with it."""
    with Tmpfs(tmp_path / "disk", "size=4m") as disk, Partner() as partner:
        site, room = _inbox_on(disk.point, tmp_path), Room(disk.point)
        connect(site, partner)
        with run_daemon(site.config) as daemon:
            told = Told(daemon)
            room.fill(all_but=1 << 16)
            (one,) = offer(partner, 1, size=1 << 20)
            told.wait("source.away", "No space left on device")
            assert not partner.acked()
            room.free()
            wait_states(site, ACKED=1)
            wait_finished(site, 1)
        assert site.listed("processed") and partner.acked() == [one.id]
        assert_sound_with(site, partner, finished=True)


@fault(
    "Disks",
    "the disk is full at the start",
    how="a tmpfs without bytes, without inodes",
    shows="refused in words; tried again by systemd",
)
def test_a_start_on_a_full_disk(tmp_path: Path, tally) -> None:
    """Exit 78 would be for good."""
    for number, (place, inodes) in enumerate(((_state_on, False), (_state_on, True), (_inbox_on, True))):
        base = tmp_path / str(number)
        with Tmpfs(base / "disk", "size=2m", "nr_inodes=100") as disk:
            site, room = place(disk.point, base), Room(disk.point)
            room.fill_inodes() if inodes else room.fill()
            refused = inboxd(site.config, "run")
            assert refused.returncode == 70, refused.stderr
            assert "No space left on device (" in refused.stderr and "make room there" in refused.stderr
            assert "Traceback" not in refused.stderr
            room.free()
            with run_daemon(site.config):
                site.drop("ok-1.dat", b"x")
                wait_finished(site, 1)
            assert_sound(site, finished=True)
        tally()


@fault(
    "Disks",
    "the daemon dies while the disk of an inbox is full, and starts",
    how="a tmpfs without inodes, SIGKILL",
    shows="what has ended waits in work/, with its results; the other inboxes go on",
)
def test_a_start_while_an_inbox_is_full(tmp_path: Path, tally) -> None:
    site = Site(tmp_path / "site", **_TIGHT)
    with Tmpfs(site.root(), "size=4m", "nr_inodes=400") as disk:
        site.inbox("main", layout="%H%M%S")
        site.inbox("other")
        room = Room(disk.point)
        with run_daemon(site.config) as daemon:
            site.drop("lasting-1_1-a.dat", b"x")
            wait_until(lambda: list((site.root() / "work").glob("results/*/two-*")), "its results")
            site.drop("sleep-0_5-a.dat", b"x")
            wait_until(lambda: site.witnessed("start", "sleep-0_5-a.dat"), "its start")
            room.fill_inodes()
            decided = ("files", "--state", "decided")
            wait_until(lambda: len(inboxd_json(site.config, *decided)["files"]) == 2, "their ends", 30, 0.3)
            daemon.kill()
            daemon.end_family()
        for number in range(scale(2, 20)):
            with run_daemon(site.config) as daemon:
                site.drop(f"ok-{number}.dat", b"y", inbox="other")
                wait_until(lambda: site.count("processed", "other") > number, "the other inbox", 30)  # noqa: B023
                assert "main: no delivery" in _reasons(site)
                daemon.stop() if number % 2 else daemon.kill()
            tally()
        assert not violations(site.config, Evidence(manifest=site.manifest))
        with run_daemon(site.config):
            room.free()
            wait_finished(site, 2)
        assert site.listed("outbound") == ["one-lasting-1_1-a.dat", "two-lasting-1_1-a.dat"]
        assert len({line["id"] for line in site.witnessed("start")}) == len(site.manifest)
        assert_sound(site, finished=True, calm=True)


@fault("Disks", "the disk of an inbox is read-only for a while", how="a tmpfs, remounted", shows=BORNE)
def test_the_inbox_is_read_only(tmp_path: Path, tally) -> None:
    """While files wait in inbound/, and while one is run."""
    with Tmpfs(tmp_path / "disk", "size=4m") as disk:
        site = _inbox_on(disk.point, tmp_path)
        with run_daemon(site.config) as daemon:
            for number in range(scale(2, 20)):
                told = Told(daemon)
                if number % 2:
                    site.drop_all(files(10, seed=number, prefix=f"ok-{number}"))
                site.drop(f"sleep-0_5-{number}.dat", b"x")
                wait_until(lambda number=number: site.witnessed("start", f"sleep-0_5-{number}.dat"), "its start")
                disk.read_only(on=True)
                told.wait("daemon.degraded", "Read-only file system")
                disk.read_only(on=False)
                told.wait("daemon.resumed")
                wait_finished(site, len(site.manifest), timeout=60)
                tally()
        assert_sound(site, finished=True, calm=True)


@fault(
    "Disks", "the kernel makes the disk of state and inboxes read-only", how="an ext4 with errors=remount-ro, and an error",
    shows="degraded, with the cause; all goes on after the disk is mended and inboxd restarted",
)  # fmt: skip
def test_a_disk_that_turns_read_only(tmp_path: Path) -> None:
    with Disk(tmp_path, tmp_path / "disk") as disk:
        site = Site(tmp_path / "site", home=disk.point, **_TIGHT)
        with run_daemon(site.config) as daemon:
            told = Told(daemon)
            site.drop("sleep-0_5-a.dat", b"x", synced=True)
            wait_until(lambda: site.witnessed("start"), "its start")
            disk.turn_read_only()
            told.wait("daemon.degraded", "Read-only file system")
            assert "Read-only file system" in _reasons(site)
            daemon.kill()
            daemon.end_family()
        disk.restart()
        with run_daemon(site.config):
            site.drop("ok-1.dat", b"y")
            wait_finished(site, 2)
        assert_sound(site, finished=True)
