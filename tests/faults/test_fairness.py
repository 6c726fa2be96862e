"""One inbox is flooded, slow, paused or full of folders; another must not notice much of it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import pytest

from support.daemon import AS_ANY_USER, Daemon, inboxd, inboxd_json, run_daemon
from support.faults import fault, scale
from support.flood import flooding
from support.invariants import Evidence, violations
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

Tally = Callable[..., None]


def _latency(site: Site, number: int, inbox: str = "calm", folder: str = "") -> float:
    """Seconds from the rename into inbound/ to the name in processed/, of one file for the inbox `calm`."""
    site.drop(f"ok-calm-{number}", b"calm %d" % number, inbox=inbox, folder=folder)
    begun = time.monotonic()
    target = site.root(inbox) / "processed" / folder / f"ok-calm-{number}"
    wait_until(target.exists, f"file {number} of the calm inbox", timeout=60, every=0.001)
    return time.monotonic() - begun


def _latencies(site: Site, first: int, count: int, *where: str) -> list[float]:
    """Of one file every 100 ms, or later where the last one took longer."""
    found = []
    for number in range(first, first + count):
        begun = time.monotonic()
        found.append(_latency(site, number, *where))
        time.sleep(max(0.0, begun + 0.1 - time.monotonic()))  # the rate of the uploader, not a wait
    return found


def _assert_bounded(alone: list[float], beside: list[float], record: Callable[[str, object], None]) -> None:
    """The worst of them, compared with what it is in the same run when nobody else is there."""
    bound = 20 * max(alone) + 5.0
    record("alone, median seconds", statistics.median(alone))
    record("beside, median and most seconds", (statistics.median(beside), max(beside)))
    assert max(beside) < bound, f"{max(beside):.3f} s; alone at most {max(alone):.4f} s"


def _assert_sound_so_far(site: Site) -> None:
    found = violations(site.config, Evidence(witness=site.witnessed()))
    assert not found, "\n".join(found[:40])


@fault(
    "Uploaders", "an inbox is flooded, by somebody who does not stop", how="100,000 files and a writer who goes on",
    shows="another inbox's files take at most 20 times as long and five seconds more than when it is alone",
)  # fmt: skip
@pytest.mark.parametrize(("kind", "priority"), [("ok", 1), ("sleep-0_01", 0)])
def test_a_flooded_inbox(
    site: Site, tally: Tally, record_property: Callable[[str, object], None], kind: str, priority: int
) -> None:
    """Its handler is quick, or has all workers busy at all times; the other inbox may have a higher priority."""
    site.inbox("calm", priority=priority)
    count = scale(10, 200)
    with run_daemon(site.config) as daemon:
        alone = _latencies(site, 0, count)
        site.put((b"%s-%d" % (kind.encode(), number), b"%d" % number) for number in range(scale(40_000, 100_000)))
        with flooding(site.root() / "inbound", kind):
            wait_until(lambda: site.count("processed") > 100, "the flood", every=0.1)
            beside = _latencies(site, count, count)
            assert site.count("inbound") > 100, "the flood was over too soon"
        assert daemon.stop() == 0
    _assert_bounded(alone, beside, record_property)
    _assert_sound_so_far(site)
    tally(count)


@fault(
    "Uploaders", "a folder of a shared inbox is closed to inboxd, and full", how="files that can't be moved; more than are known",
    shows="those of others take at most 20 times as long and five seconds more; no more than a few tries of the closed ones",
)  # fmt: skip
def test_files_that_can_not_be_moved(site: Site, tally: Tally, record_property: Callable[[str, object], None]) -> None:
    site.inbox("main", recursive=True)
    site.write(rescan="1s")
    (site.root() / "inbound" / "theirs").mkdir(parents=True)
    count, closed = scale(1_500, 5_000), site.root() / "inbound" / "closed"
    with run_daemon(site.config, under=AS_ANY_USER) as daemon:
        alone = _latencies(site, 0, 10, "main", "theirs")
        draft = site.root() / "draft"
        draft.mkdir()
        for number in range(count):
            (draft / f"ok-{number}").write_bytes(b"%d" % number)
        draft.chmod(0o500)
        draft.rename(closed)
        wait_until(lambda: daemon.events("file.abandoned"), "the first of them")
        beside = _latencies(site, 10, scale(80, 200), "main", "theirs")
        tries = _tries(daemon)
        assert 1_000 <= tries < 5_000, "those that are known, later each time; of the others no more than some"
        assert "can't be moved" in inboxd_json(site.config, "explain", str(closed / f"ok-{count - 1}"))["why"][0]
        closed.chmod(0o700)
        assert daemon.stop() == 0
    with run_daemon(site.config):
        wait_finished(site, count + len(alone) + len(beside), timeout=100)
    _assert_bounded(alone, beside, record_property)
    record_property("tries", tries)
    tally(len(beside))


def _tries(daemon: Daemon) -> int:
    return len(daemon.events("file.abandoned"))


@fault(
    "Workers and handlers", "an inbox is paused, and holds files that are to be tried again", how="inboxd pause",
    shows="the other inboxes go on; it goes on itself when it is resumed",
)  # fmt: skip
def test_a_paused_inbox_takes_no_room(site: Site) -> None:
    """More than the pool takes at a time: they waited for their next attempt, which has come."""
    site.inbox("calm")
    site.inbox("main", retry={"first": "1s", "longest": "1s"})
    with run_daemon(site.config) as daemon:
        site.drop_all((b"fail-1-%d" % number, b"%d" % number) for number in range(120))
        wait_until(lambda: len(daemon.events("file.waiting")) == 120, "their failures", every=0.05)
        assert inboxd(site.config, "pause", "main").returncode == 0
        time.sleep(1.1)  # until the last of them is due
        site.drop("ok-calm", b"calm", inbox="calm")
        wait_finished(site, 1, inbox="calm", timeout=10)
        assert inboxd(site.config, "resume", "main").returncode == 0
        wait_finished(site, 120)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


@fault(
    "Workers and handlers", "an inbox has far more to try again than it may run at once", how="`parallel: 1`",
    shows="workers that it may not use are there for others",
)  # fmt: skip
def test_an_inbox_at_its_limit_takes_no_room(site: Site) -> None:
    site.inbox("calm")
    site.inbox("main", parallel=1, retry={"first": "100ms", "longest": "100ms"})
    site.workers(batch_size=5)
    with run_daemon(site.config) as daemon:
        site.drop_all((b"fail-1-%d" % number, b"%d" % number) for number in range(60))
        wait_until(lambda: len(daemon.events("file.waiting")) == 60, "their failures", every=0.05)
        site.drop_all((b"sleep-0_3-%d" % number, b"sleep %d" % number) for number in range(10))
        assert _latency(site, 0) < 1.0
        wait_finished(site, 70, timeout=60)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


_ALONE = """
import fcntl, os, time

def handle(file):
    if file.attempt == 1 and file.name.startswith("deadly"):
        os._exit(9)
    with open(__file__ + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another has it
        time.sleep(0.3)
"""


@fault(
    "Workers and handlers", "files that have killed their worker are tried again, each in a batch of its own",
    how="`parallel: 1`, four workers", shows="no more of them at once than `parallel` says",
)  # fmt: skip
def test_no_more_at_once_than_parallel_says(site: Site) -> None:
    (site.base / "alone.py").write_text(_ALONE)
    site.inbox("main", parallel=1, handler={"python": "alone:handle"}, retry={"first": "1s", "longest": "1s"})
    site.workers(processes=4, batch_size=10)
    site.put([*((b"deadly-%d" % number, b"%d" % number) for number in range(4)), (b"long", b"x")])
    with run_daemon(site.config) as daemon:
        wait_finished(site, 5, timeout=60)
        assert [event["ending"] for event in daemon.events("file.waiting")] == ["crashed"] * 4
        assert daemon.stop() == 0


@fault(
    "Uploaders", "an inbox is full of folders", how="20,000 empty folders, and one 5,000 folders deep",
    shows="another inbox's files take at most 20 times as long and five seconds more than when it is alone",
)  # fmt: skip
def test_an_inbox_full_of_folders(site: Site, record_property: Callable[[str, object], None]) -> None:
    site.inbox("calm")
    site.inbox("main", recursive=True)
    site.write(rescan="1s")
    with run_daemon(site.config) as daemon:
        alone = _latencies(site, 0, 15)
        inbound = site.root() / "inbound"
        for number in range(scale(3_000, 20_000)):
            (inbound / f"empty-{number}").mkdir()
        _dig(inbound, scale(1_000, 5_000))
        beside = _latencies(site, 15, scale(20, 200))
        site.drop("ok-1.dat", b"found all the same")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    _assert_bounded(alone, beside, record_property)
    _fill_in(inbound)


def _dig(top: os.PathLike[str], depth: int) -> None:
    """Folders below folders, far beyond what a path can name (PATH_MAX)."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def _fill_in(top: os.PathLike[str]) -> None:
    """Remove what `_dig` has made: two levels are made one until none is left; no tool of ours can go so deep."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    while "deeper" in os.listdir(fd):
        os.rename("deeper", "old", src_dir_fd=fd, dst_dir_fd=fd)
        old = os.open("old", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        if "deeper" in os.listdir(old):
            os.rename("deeper", "deeper", src_dir_fd=old, dst_dir_fd=fd)
        os.close(old)
        os.rmdir("old", dir_fd=fd)
    os.close(fd)
