"""What makes a file ready, and what makes inboxd wait."""

from __future__ import annotations

import codecs
import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.daemon import AS_ANY_USER, inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.load import dropped, files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def _why(site: Site, path: Path) -> str:
    answer = inboxd_json(site.config, "explain", str(path))
    return " ".join(answer["why"])


def test_a_growing_file_waits(site: Site) -> None:
    site.inbox("main", settle={"quiet": "400ms"})
    with run_daemon(site.config) as daemon:
        path = site.root() / "inbound" / "growing.dat"
        with path.open("ab", buffering=0) as stream:
            grown = iter(range(8))

            def grows() -> bool:
                stream.write(b"more")
                return next(grown, None) is None

            wait_until(grows, "eight additions", every=0.15)
            assert path.exists()
        site.manifest.append(dropped("main", b"growing.dat", path.read_bytes()))
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_temporary_names_are_left(site: Site) -> None:
    names = [".hidden", "x.part", "x.tmp", "x.filepart", "~$x.docx", ".nfs0001", "x~"]
    with run_daemon(site.config) as daemon:
        for name in names:
            (site.root() / "inbound" / name).write_bytes(b"x")
        site.drop("real.dat", b"x")
        wait_finished(site, 1)
        assert site.listed("inbound") == sorted(names)
        assert "*.part" in _why(site, site.root() / "inbound" / "x.part")
        (site.root() / "inbound" / "folder").mkdir()
        left = "it is a folder; inbox main is not recursive, so what lies in it is left alone"
        assert _why(site, site.root() / "inbound" / "folder") == left
        assert daemon.stop() == 0


def test_patterns(site: Site) -> None:
    site.inbox("main", match=["*.csv", "*.txt"], ignore=["draft*"])
    with run_daemon(site.config) as daemon:
        for name in ("a.csv", "b.txt", "c.bin", "draft.csv"):
            site.drop(name, name.encode())
        wait_finished(site, 2)
        assert site.listed("inbound") == ["c.bin", "draft.csv"]
        assert "draft*" in _why(site, site.root() / "inbound" / "draft.csv")
        assert daemon.stop() == 0
    assert_sound(site, calm=True)


def test_a_marker(site: Site) -> None:
    site.inbox("main", settle={"marker": ".done"})
    with run_daemon(site.config) as daemon:
        site.drop("a.csv", b"1")
        site.drop("b.csv", b"2")
        (site.root() / "inbound" / "a.csv.done").touch()
        wait_finished(site, 1)
        assert site.listed("processed") == ["a.csv"]
        assert site.listed("inbound") == ["b.csv"]
        assert ".done" in _why(site, site.root() / "inbound" / "b.csv")
        (site.root() / "inbound" / "b.csv.done").touch()
        wait_finished(site, 2)
        assert site.listed("inbound") == []
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def _drop_marked(site: Site, name: str, content: bytes) -> None:
    site.drop(name, content)
    (site.root() / "inbound" / f"{name}.done").touch()


def test_what_goes_to_quarantine_takes_its_marker_along(site: Site) -> None:
    """Left behind, it would speak for the next file of that name while that is still being written."""
    inbound = site.root() / "inbound"
    site.inbox("main", settle={"marker": ".done"})
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        os.symlink("/etc/hostname", inbound / "ok-1.dat")
        (inbound / "ok-1.dat.done").touch()
        wait_until(lambda: site.listed("quarantine") == ["ok-1.dat"], "quarantine")
        assert site.listed("inbound") == []
        site.drop("ok-1.dat", b"half of")
        for number in (2, 3):
            _drop_marked(site, f"ok-{number}.dat", b"whole")
            wait_finished(site, number)
        assert site.listed("inbound") == ["ok-1.dat"]
        assert daemon.stop() == 0
    assert not site.witnessed("start", "ok-1.dat")


def test_a_marked_file_with_two_names_waits_for_one_of_them_to_go(site: Site) -> None:
    inbound = site.root() / "inbound"
    site.inbox("main", settle={"marker": ".done"})
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        other = inbound / ".upload"
        other.write_bytes(b"money")
        os.link(other, inbound / "ok-1.dat")
        (inbound / "ok-1.dat.done").touch()
        for number in (2, 3):
            _drop_marked(site, f"ok-{number}.dat", b"whole")
            wait_finished(site, number - 1)
        assert site.listed("inbound") == [".upload", "ok-1.dat", "ok-1.dat.done"]
        assert "more than one name" in _why(site, inbound / "ok-1.dat")
        other.unlink()
        (inbound / "ok-1.dat.done").touch()  # whoever links tells so; or a minute later it is looked at again
        wait_until(lambda: "ok-1.dat" in site.listed("processed"), "its delivery", timeout=90)
        assert site.listed("inbound") == []
        assert daemon.stop() == 0


def test_the_marker_of_the_next_file_outlives_the_recovery_of_the_one_before(site: Site) -> None:
    site.inbox("main", settle={"marker": ".done"})
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "claim.renamed:kill"}, ready=False) as daemon:
        _drop_marked(site, "ok-1.dat", b"first day")
        assert daemon.wait() == -signal.SIGKILL
    marker = site.root() / "inbound" / "ok-1.dat.done"
    assert marker.exists()
    with run_daemon(site.config):
        wait_finished(site, 1)
        assert not marker.exists()
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "claim.renamed:kill"}, ready=False) as daemon:
        _drop_marked(site, "ok-2.dat", b"first day")
        assert daemon.wait() == -signal.SIGKILL
    _drop_marked(site, "ok-2.dat", b"second day")
    with run_daemon(site.config) as daemon:
        wait_finished(site, 3)
        assert site.listed("inbound") == []
        assert daemon.stop() == 0


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_checksum(site: Site, kind: str) -> None:
    site.inbox("main", settle={"checksum": kind})
    with run_daemon(site.config) as daemon:
        inbound = site.root() / "inbound"
        site.drop("good.csv", b"good")
        site.drop("bad.csv", b"bad")
        (inbound / f"bad.csv.{kind}").write_text(hashlib.new(kind, b"other").hexdigest() + "  bad.csv\n")
        (inbound / f"good.csv.{kind}").write_text(hashlib.new(kind, b"good").hexdigest() + "  good.csv\n")
        wait_finished(site, 1)
        assert site.listed("processed") == ["good.csv"]
        wait_until(lambda: "match" in _why(site, inbound / "bad.csv"), "the explanation", every=0.2)
        assert "bad.csv" in site.listed("inbound")
        (inbound / f"bad.csv.{kind}").write_text(hashlib.new(kind, b"bad").hexdigest() + "\n")
        wait_finished(site, 2)
        assert site.listed("inbound") == []
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


@pytest.mark.parametrize("there", [True, False], ids=["at the start", "moved in at once"])
def test_checksums_by_the_hundred_wait_for_no_rescan(site: Site, tmp_path: Path, there: bool) -> None:
    site.inbox("main", settle={"checksum": "sha256"}, recursive=True)
    site.write(rescan="1h")
    site.workers(processes=2, batch_size=100)
    folder, inbound = tmp_path / "made", site.root() / "inbound"
    folder.mkdir()
    inbound.mkdir(parents=True)
    for number in range(1500):
        (folder / f"ok-{number}").write_bytes(b"x")
        (folder / f"ok-{number}.sha256").write_text(hashlib.sha256(b"x").hexdigest())
    if there:
        folder.rename(inbound / "made")
    with run_daemon(site.config) as daemon:
        if not there:
            folder.rename(inbound / "made")
        wait_finished(site, 1500)
        assert daemon.stop() == 0


def test_checksums_as_tools_make_them(site: Site, tmp_path: Path) -> None:
    """Called with a path, with --tag, and with a byte order mark before what they have written."""
    site.inbox("main", settle={"checksum": "sha256"})
    made = tmp_path / "made/sub"
    made.mkdir(parents=True)
    for name in ("path", "below", "tag", "mark", "other"):
        (made / name).write_bytes(b"ok")
    calls = {
        "path": [str(made / "path")], "below": ["sub/below"], "tag": ["--tag", "sub/tag"], "mark": ["sub/mark"],
        "other": ["sub/path", "sub/tag"],
    }  # fmt: skip
    with run_daemon(site.config) as daemon:
        for name, arguments in calls.items():
            text = subprocess.run(["sha256sum", *arguments], cwd=made.parent, stdout=subprocess.PIPE, check=True).stdout
            site.drop(f"{name}.sha256", codecs.BOM_UTF8 + text if name == "mark" else text)
            site.drop(name, b"ok")
        wait_finished(site, 4)
        assert site.listed("processed") == ["below", "mark", "path", "tag"]
        words = "other.sha256 has no line for other, only for sub/path, sub/tag"
        wait_until(lambda: words in _why(site, site.root() / "inbound/other"), "the explanation", every=0.2)
        assert daemon.stop() == 0


def test_what_a_checksum_speaks_for_may_become_readable(site: Site) -> None:
    inbound, content = site.root() / "inbound", b"money"
    site.inbox("main", settle={"checksum": "sha256"})
    site.write(rescan="200ms")
    with run_daemon(site.config, under=AS_ANY_USER) as daemon:
        site.drop("ok-1.dat", content)
        (inbound / "ok-1.dat").chmod(0)
        (inbound / "ok-1.dat.sha256").write_text(hashlib.sha256(content).hexdigest())
        wait_until(lambda: "can't be read" in _why(site, inbound / "ok-1.dat"), "the explanation")
        (inbound / "ok-1.dat").chmod(0o644)
        wait_finished(site, 1)
        assert daemon.stop() == 0


@pytest.mark.parametrize("order", ["arrival", "name", "none"])
def test_order(site: Site, order: str) -> None:
    site.inbox("main", order=order)
    site.workers(processes=1, batch_size=5)
    site.put(files(60))
    names = sorted(site.listed("inbound"))
    for age, name in enumerate(names):  # the last name is the oldest
        os.utime(site.root() / "inbound" / name, (2e9 - age, 1e9 - age))
    with run_daemon(site.config) as daemon:
        wait_finished(site, 60)
        assert daemon.stop() == 0
    ran = [line["name"] for line in site.witnessed("start")]
    expected = {"arrival": names[::-1], "name": names, "none": ran}[order]
    assert ran == expected
    assert_sound(site, calm=True, finished=True)


@fault("Clocks", "files of other centuries", how="utime(2)", shows="claimed like any other")
def test_dates_far_away_are_files_like_any(site: Site) -> None:
    site.inbox("main", settle={"quiet": "100ms"})
    site.put(files(3))
    for name, when in zip(site.listed("inbound"), (0, 4_000_000_000, 1), strict=True):
        os.utime(site.root() / "inbound" / name, (when, when))
    with run_daemon(site.config):
        wait_finished(site, 3)
    assert_sound(site, calm=True, finished=True)


def test_folders_that_come_with_their_files(site: Site) -> None:
    """Moved in whole, then written to; made deep at once."""
    site.inbox("main", recursive=True)
    with run_daemon(site.config) as daemon:
        outside = site.base / "prepared"
        (outside / "sub").mkdir(parents=True)
        (outside / "sub" / "first.dat").write_bytes(b"first")
        site.manifest.append(dropped("main", b"first.dat", b"first", "day/sub"))
        outside.rename(site.root() / "inbound" / "day")
        wait_finished(site, 1)
        site.drop("second.dat", b"second", folder="day/sub")
        site.drop("third.dat", b"third", folder="x/y/z")
        wait_finished(site, 3)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["day/sub/first.dat", "day/sub/second.dat", "x/y/z/third.dat"]
    assert_sound(site, calm=True, finished=True)


@fault(
    "Disks", "the disk is low", how="min_free_space above what is free", shows="nothing is claimed; resumes by itself"
)
def test_low_disk_pauses_and_resumes(site: Site) -> None:
    site.write(min_free_space="900TiB")
    with run_daemon(site.config) as daemon:
        site.drop_all(files(10))
        daemon.wait_event("disk.low")
        assert site.count("inbound") == 10
        assert "nothing is claimed: only" in _why(site, site.root() / "inbound" / "ok-00000.dat")
        wait_until(lambda: inboxd_json(site.config, "status")["inboxes"][0]["backlog"] == 10, "they are counted")
        found = inboxd(site.config, "doctor")
        assert found.returncode == 1
        assert "inbox main: nothing is claimed: only" in found.stdout
        wait_until(lambda: "degraded; low on disk: main" in daemon.status(), "STATUS says so")
        status = inboxd_json(site.config, "status")
        assert (status["state"], status["inboxes"][0]["eta"]) == ("DEGRADED", None)
        assert "main: nothing is claimed: only" in status["degraded"][0]
        site.write(min_free_space="1MiB")
        assert inboxd(site.config, "reload").returncode == 0
        wait_finished(site, 10)
        daemon.wait_event("disk.back")
        assert inboxd_json(site.config, "status")["state"] == "RUNNING"
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


@fault(
    "Disks",
    "inodes are low",
    how="min_free_inodes above what is free",
    shows="nothing is claimed, and inodes are named",
)
def test_low_inodes_pause(site: Site) -> None:
    site.write(min_free_inodes=1 << 50)
    with run_daemon(site.config) as daemon:
        site.drop_all(files(3))
        low = daemon.wait_event("disk.low")
        assert "inodes" in str(low)
        assert site.count("inbound") == 3
        assert daemon.stop() == 0


@pytest.mark.parametrize(("policy", "where"), [("skip", "processed"), ("error", "errors"), ("process", "processed")])
def test_duplicates(site: Site, policy: str, where: str) -> None:
    site.inbox("main", duplicates=policy)
    with run_daemon(site.config) as daemon:
        site.drop("first.dat", b"the same")
        wait_finished(site, 1)
        site.drop("second.dat", b"the same")
        site.drop("empty-1", b"")
        site.drop("empty-2", b"")
        wait_finished(site, 4)
        assert daemon.stop() == 0
    assert "second.dat" in site.listed(where)
    runs = {line["name"] for line in site.witnessed("start")}
    assert runs == {"first.dat", "empty-1", "empty-2"} | ({"second.dat"} if policy == "process" else set())
    if policy == "error":
        assert site.sidecar("second.dat")["reason"] == "duplicate"
    assert_sound(site, calm=True, finished=True)


def test_duplicates_that_come_together(site: Site) -> None:
    site.inbox("main", duplicates="skip")
    with run_daemon(site.config) as daemon:
        for number in range(40):
            site.drop(f"twin-{number}.dat", b"content %d" % (number % 4))
        wait_finished(site, 40)
        assert daemon.stop() == 0
    assert len(site.witnessed("start")) == 4
    assert_sound(site, calm=True, finished=True)


@fault(
    "Watching",
    "inbound/ goes away and comes back",
    how="renamed away",
    shows="an outage that ends by itself; all is found",
)
def test_an_inbox_that_goes_away_and_comes_back(site: Site) -> None:
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        site.drop_all(files(10))
        wait_finished(site, 10)
        inbound = site.root() / "inbound"
        inbound.rename(inbound.with_name("elsewhere"))
        daemon.wait_event("inbox.away")
        inbound.mkdir()
        daemon.wait_event("inbox.back")
        site.drop_all(files(10, seed=2, prefix="new"))
        wait_finished(site, 20)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


@fault("Watching", "the kernel's queue of events overflows", how="a burst on a stopped daemon", shows="all are found")
def test_more_events_than_the_kernel_keeps(site: Site) -> None:
    """The daemon is stopped while more happens than its queue holds; afterwards all are found."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    site.write(rescan="1h", workers={"processes": 2, "batch_size": 100})
    with run_daemon(site.config) as daemon:
        inbound = site.root() / "inbound"
        daemon.signal(signal.SIGSTOP)
        churned = inbound / ".a.part"
        churned.touch()
        for number in range(limit + 100):
            churned = churned.rename(inbound / f".{number % 2}.part")
        site.drop_all(files(100))
        daemon.signal(signal.SIGCONT)
        wait_finished(site, 100)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)
