"""`claim: copy`: what an uploader still holds of a file is not what the handler and the folders get."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.daemon import inboxd_json, run_daemon
from support.faults import fault
from support.load import dropped, files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


@pytest.fixture
def copying(site: Site) -> Site:
    site.inbox("main", claim="copy")
    return site


def _copies(site: Site) -> list[Path]:
    return list((site.root() / "work").glob("*-copy"))


@pytest.mark.parametrize("durability", ["full", "process"])
def test_a_copy_is_ours(copying: Site, durability: str) -> None:
    """Bytes and time of change come along; owner, mode and attributes do not."""
    copying.write(durability=durability)
    path = copying.root() / "inbound" / "ok-1.dat"
    copying.drop(".ok-1.dat", b"theirs")
    draft = path.with_name(".ok-1.dat")
    os.chown(draft, 65534, 65534)
    draft.chmod(0o6777)
    os.setxattr(draft, "user.theirs", b"1")
    os.utime(draft, ns=(0, 1_000_000_007))
    theirs = draft.stat().st_ino
    with run_daemon(copying.config), draft.open("rb"):  # while it is open, no other file gets its number
        copying.manifest[:] = [dropped("main", b"ok-1.dat", b"theirs")]
        draft.rename(path)
        wait_finished(copying, 1)
        found = (copying.root() / "processed" / "ok-1.dat").stat()
    assert found.st_ino != theirs
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    assert found.st_mode & 0o7777 == 0o666 & ~_umask()
    assert found.st_mtime_ns == 1_000_000_007
    assert os.listxattr(copying.root() / "processed" / "ok-1.dat") == []
    assert_sound(copying, calm=True, finished=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _hold(path: Path, content: bytes) -> int:
    """Upload as a good uploader does, and keep the file open."""
    draft = path.with_name("." + path.name)
    fd = os.open(draft, os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    draft.rename(path)
    return fd


@pytest.mark.parametrize(
    "rules", [{}, {"duplicates": "skip"}, {"handler": {"python": "witness:handle_batch", "batch": True}}]
)
def test_what_is_written_afterwards_goes_nowhere(copying: Site, rules: dict[str, object]) -> None:
    copying.inbox("main", claim="copy", **rules)
    with run_daemon(copying.config) as daemon:
        held = _hold(copying.root() / "inbound" / "sleep-0_5-late.dat", b"first")
        copying.manifest.append(dropped("main", b"sleep-0_5-late.dat", b"first"))
        wait_until(lambda: copying.witnessed("start"), "its run")
        os.pwrite(held, b"FIRST and second", 0)
        wait_finished(copying, 1)
        os.pwrite(held, b"third", 0)
        os.close(held)
        assert daemon.stop() == 0
    (row,) = inboxd_json(copying.config, "files")["files"]
    assert row["message"] is None
    assert_sound(copying, calm=True, finished=True)


def test_duplicates_of_copies(copying: Site) -> None:
    """The digest comes with the copy; empty files are nobody's duplicates."""
    copying.inbox("main", claim="copy", duplicates="error")
    with run_daemon(copying.config):
        for number in range(3):
            copying.drop(f"same-{number}", b"the same")
            copying.drop(f"empty-{number}", b"")
            wait_finished(copying, 2 * number + 2)
    assert copying.listed("processed") == ["empty-0", "empty-1", "empty-2", "same-0"]
    assert copying.listed("errors") == ["same-1", "same-2"]
    assert_sound(copying, calm=True, finished=True)


def test_a_copy_is_made_once(copying: Site) -> None:
    """Not again for each attempt: what has run was copied before."""
    with run_daemon(copying.config) as daemon:
        copying.drop("fail-2-x.dat", b"twice")
        copying.drop_all(files(50))
        wait_until(lambda: copying.witnessed("start", "fail-2-x.dat"), "its first run")
        wait_finished(copying, 51)
        assert daemon.stop() == 0
    assert_sound(copying, finished=True)


def test_holes_stay_holes(copying: Site) -> None:
    """An upload that takes no room can't fill the disk: neither now, nor with what is read of it."""
    copying.inbox("main", claim="copy", handler={"command": ["true"]})
    with run_daemon(copying.config):
        path = copying.root() / "inbound" / ".sparse"
        with path.open("wb") as stream:
            stream.seek(1 << 30)
            stream.write(b"middle")
            stream.truncate(1 << 34)
        path.rename(path.with_name("sparse"))
        wait_finished(copying, 1)
    found = (copying.root() / "processed" / "sparse").stat()
    assert found.st_size == 1 << 34
    assert found.st_blocks * 512 < 1 << 20


def test_a_file_that_does_not_fit_twice(copying: Site) -> None:
    root = copying.root()
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
    try:
        with run_daemon(copying.config) as daemon:
            copying.drop("large.dat", bytes(5 << 20))
            copying.drop("ok-1.dat", bytes(1 << 19))
            wait_finished(copying, 2)
            assert daemon.stop() == 0
        assert_sound(copying, finished=True)
        assert copying.listed("processed") == ["ok-1.dat"]
        assert "too large to be copied" in copying.sidecar("large.dat")["message"]
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


@fault(
    "Uploaders", "an uploader writes to a file while it is copied", how="pwrite(2) without a pause, claim: copy",
    shows="it is copied three times, and is an error then: no mixture is run",
)  # fmt: skip
def test_a_file_that_does_not_stand_still(copying: Site) -> None:
    draft = copying.root() / "inbound" / ".large"
    draft.parent.mkdir(parents=True)
    draft.write_bytes(os.urandom(1 << 20) * 100)
    held = os.open(draft, os.O_RDWR)
    with run_daemon(copying.config) as daemon:
        draft.rename(draft.with_name("large"))
        wait_until(lambda: _copies(copying), "the copy's beginning", every=0.001)
        wait_until(lambda: os.pwrite(held, b"more", 0) and copying.listed("errors"), "its end", every=0.0001)
        assert daemon.stop() == 0
    os.close(held)
    assert "written to after its claim" in copying.sidecar("large")["message"]
    assert not copying.witnessed()
    assert not copying.listed("work")


@fault(
    "Process death", "a worker, then the daemon is killed while it copies a file", how="SIGKILL, `claim: copy`",
    shows="the copy is begun again; what was left of it is removed",
)  # fmt: skip
def test_killed_while_copying(copying: Site) -> None:
    """First a worker, then the daemon: what is left is swept, and the file is copied afresh."""
    content = os.urandom(1 << 20) * 120
    path = copying.root() / "inbound" / ".large"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    copying.manifest.append(dropped("main", b"large.dat", content))
    with run_daemon(copying.config) as daemon:
        path.rename(path.with_name("large.dat"))
        wait_until(lambda: _copies(copying), "the copy's beginning", every=0.001)
        for worker in daemon.ready_workers():
            os.kill(worker, signal.SIGKILL)
        daemon.wait_event("child.died", file="large.dat")
        died = time.time_ns()
        wait_until(lambda: [one for one in _copies(copying) if one.stat().st_mtime_ns > died], "the next", every=0.001)
        daemon.kill()
    with run_daemon(copying.config) as daemon:
        wait_finished(copying, 1)
        assert daemon.stop() == 0
    assert_sound(copying, finished=True)
