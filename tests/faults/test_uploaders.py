"""Uploaders who are no friends: they race, they name, they link, they flood. Each has only an inbox to do it in."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import random
import signal
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import Daemon, inboxd, inboxd_json, run_daemon
from support.faults import fault, scale
from support.invariants import Evidence, violations
from support.load import dropped
from support.racer import racing
from support.site import Site, entries_below
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

Tally = Callable[..., None]

SECRET = b"a secret of somebody else: 4f2c91d07be3"
_IN_OPEN = 0x20  # linux/inotify.h
_libc = ctypes.CDLL(None, use_errno=True)


class Canaries:
    """Files that nobody may open: inotify(7) tells of every opening, also of one that reads nothing."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.paths = [folder / name for name in names]
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in self.paths:
            path.write_bytes(SECRET)
            assert _libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_OPEN) > 0

    def assert_untouched(self, site: Site) -> None:
        """Never opened, still there; and nothing of what is in them has come to any place of ours."""
        with pytest.raises(BlockingIOError):
            os.read(self._fd, 4096)
        os.close(self._fd)
        assert sorted(self.folder.iterdir()) == sorted(self.paths)
        assert {path.read_bytes() for path in self.paths} == {SECRET}
        for relative in entries_below(site.base):
            path = site.base / relative
            if stat.S_ISREG(path.lstat().st_mode) and self.folder not in path.parents:
                assert SECRET not in path.read_bytes(), path


def _no_alarm(daemon: Daemon) -> None:
    quiet, told = ("DEBUG", "INFO"), ("file.quarantined", "inbox.overflow")
    loud = [one for one in daemon.records() if one["level"] not in quiet and one["event"] not in told]
    assert not loud, loud[:5]
    assert "Traceback" not in daemon.output()


def _taken(site: Site) -> int:
    return sum(site.count(which) for which in ("processed", "errors", "quarantine"))


def _each_once(site: Site) -> None:
    """Files whose contents are all different: none is anywhere twice."""
    found = Counter(
        (site.root() / which / name).read_bytes()
        for which in ("inbound", "work", "processed", "errors")
        for name in site.listed(which)
        if stat.S_ISREG((site.root() / which / name).lstat().st_mode)
    )
    assert found
    assert max(found.values()) == 1, found.most_common(3)


def _race(site: Site, kind: str, target: Path, rounds: int, also: str = "") -> int:
    """Let a racer run until so many of its files have been taken, and there are some in the folder `also`, if any; everything
    it leaves comes to an end.
    """
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        with racing(kind, site.root() / "inbound", target) as race:
            enough = f"{rounds} files taken in the race"
            wait_until(
                lambda: race.must_run() and _taken(site) >= rounds and (not also or site.listed(also)),
                enough, timeout=3600, every=0.2 + rounds / 20_000,
            )  # fmt: skip
        wait_until(lambda: not site.listed("work"), "the end of all work")
        _no_alarm(daemon)
        assert daemon.stop() == 0
    assert race.offered >= rounds
    return _taken(site)


def assert_sound_race(site: Site) -> None:
    """Nobody has a list of what was dropped: racers removed some of it themselves."""
    found = violations(site.config, Evidence(witness=site.witnessed(), calm=True))
    assert not found, "\n".join(found[:40])


@fault(
    "Uploaders", "a symbolic link is swapped for the file while it is claimed", how="RENAME_EXCHANGE in a loop",
    shows="what it leads to is never opened, copied or named; the link itself goes to quarantine/",
)  # fmt: skip
@pytest.mark.parametrize("claim", ["rename", "copy"])
def test_a_link_swapped_for_the_file(site: Site, tally: Tally, claim: str) -> None:
    site.inbox("main", claim=claim)
    canaries = Canaries(site.base / "secrets", "secret")
    tally(_race(site, "link", canaries.paths[0], scale(250, 100_000), also="quarantine"))
    canaries.assert_untouched(site)
    _each_once(site)
    assert_sound_race(site)


@fault(
    "Uploaders", "a folder below inbound/ is swapped for a link to another", how="RENAME_EXCHANGE in a loop",
    shows="nothing leaves the other folder, nothing comes into it, none of its files is opened",
)  # fmt: skip
def test_a_folder_swapped_for_a_link(site: Site, tally: Tally) -> None:
    site.inbox("main", recursive=True)
    canaries = Canaries(site.base / "secrets", *(f"race-{number}" for number in range(4)))
    tally(_race(site, "door", canaries.folder, scale(250, 100_000)))
    canaries.assert_untouched(site)
    _each_once(site)
    assert_sound_race(site)


@fault(
    "Uploaders", "a file is swapped for another of the same size and time while it is claimed",
    how="RENAME_EXCHANGE in a loop", shows="each is taken whole, once, under its own hash; none is taken for the other",
)  # fmt: skip
def test_a_file_swapped_for_another_like_it(site: Site, tally: Tally) -> None:
    tally(_race(site, "like", site.base, scale(250, 100_000)))
    _each_once(site)
    assert_sound_race(site)


@fault(
    "Uploaders", "a file is removed at any instant after it was seen", how="unlink(2) after 0 to 2 ms, in a loop",
    shows="it is taken whole or not at all, without an alarm",
)  # fmt: skip
def test_a_file_removed_at_any_instant(site: Site, tally: Tally) -> None:
    tally(_race(site, "remove", site.base, scale(200, 50_000)))
    _each_once(site)
    assert_sound_race(site)


@fault(
    "Uploaders", "entries that are no files", how="pipes, sockets, devices, links, dangling or to folders",
    shows="none is opened; they go to quarantine/, and hold up no file beside them",
)  # fmt: skip
@pytest.mark.parametrize("claim", ["rename", "copy"])
def test_entries_that_are_no_files(site: Site, tally: Tally, claim: str) -> None:
    site.inbox("main", claim=claim)
    site.write(rescan="200ms")
    canaries = Canaries(site.base / "secrets", "secret")
    inbound = site.root() / "inbound"
    rounds = scale(5, 200)
    with run_daemon(site.config) as daemon:
        for number in range(rounds):
            os.mkfifo(inbound / f"pipe-{number}")
            os.mknod(inbound / f"socket-{number}", stat.S_IFSOCK | 0o666)
            os.mknod(inbound / f"device-{number}", stat.S_IFCHR | 0o666, os.makedev(5, 2))
            os.mknod(inbound / f"disk-{number}", stat.S_IFBLK | 0o666, os.makedev(7, 99))
            (inbound / f"link-{number}").symlink_to(canaries.paths[0])
            (inbound / f"nowhere-{number}").symlink_to("/nowhere/at/all")
            (inbound / f"folder-{number}").symlink_to(canaries.folder)
            site.drop(f"ok-{number}", b"%d" % number)
            tally(7)
        wait_until(lambda: len(site.listed("quarantine")) == 7 * rounds, "all of them in quarantine", timeout=60)
        wait_until(lambda: len(site.listed("processed")) == rounds, "the files beside them")
        _no_alarm(daemon)
        assert daemon.stop() == 0
    canaries.assert_untouched(site)
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "names of random bytes", how="1 to 255 bytes each, none ignored",
    shows="each is processed and recorded under its own name; no line of the log is forged by one",
)  # fmt: skip
def test_names_of_random_bytes(site: Site, tally: Tally) -> None:
    site.inbox("main", ignore_temporary=False)
    source = random.Random(11)
    names = {_random_name(source) for _ in range(scale(200, 20_000))}
    draft = os.fsencode(site.base / "draft")
    with run_daemon(site.config) as daemon:
        inbound = os.fsencode(site.root() / "inbound")
        for number, name in enumerate(names):
            with open(draft, "wb") as stream:
                stream.write(b"%d" % number)
            os.rename(draft, os.path.join(inbound, name))
            site.manifest.append(dropped("main", name, b"%d" % number))
        wait_finished(site, len(names), timeout=600)
        _no_alarm(daemon)
        assert daemon.stop() == 0
        lines = [line for line in daemon.output().splitlines() if line]
        assert len(lines) == len(daemon.records()), "every line is one record of ours"
    assert sorted(map(os.fsencode, site.listed("processed"))) == sorted(names)
    assert_sound(site, calm=True, finished=True)
    tally(len(names))


def _random_name(source: random.Random) -> bytes:
    while True:
        name = source.randbytes(source.randint(1, 255)).replace(b"/", b"").replace(b"\0", b"")
        if name not in (b"", b".", b".."):
            return name


@fault(
    "Uploaders", "the same name again and again", how="1,000 times, as soon as it is free",
    shows="each lies in processed/ under a name of its own; nothing is overwritten",
)  # fmt: skip
def test_one_name_a_thousand_times(site: Site, tally: Tally) -> None:
    rounds = scale(100, 1_000)
    target = site.root() / "inbound" / "report.csv"
    with run_daemon(site.config) as daemon:
        for number in range(rounds):
            wait_until(lambda: not target.exists(), "the claim of the one before", every=0.001)
            site.drop("report.csv", b"%d" % number)
        wait_finished(site, rounds)
        _no_alarm(daemon)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)
    tally(rounds)


@fault(
    "Uploaders", "a marker that somebody else has made", how="a done-marker of another uid",
    shows="the file waits for the marker of its own uploader",
)  # fmt: skip
@pytest.mark.parametrize("settle", [{"marker": ".done"}, {"checksum": "sha256"}])
def test_a_marker_of_another_owner(site: Site, settle: dict[str, str]) -> None:
    site.inbox("main", settle=settle)
    site.write(rescan="100ms")
    content = b"not complete yet"
    ending, text = (".done", "") if "marker" in settle else (".sha256", hashlib.sha256(content).hexdigest())
    with run_daemon(site.config) as daemon:
        site.drop("ok-mine", content)
        mine = site.root() / "inbound" / "ok-mine"
        os.chown(mine, 1001, 1001)
        spoof = mine.with_name("ok-mine" + ending)
        spoof.write_text(text)
        os.chown(spoof, 1002, 1002)
        other = site.drop("ok-other", b"passed meanwhile")
        companion = mine.with_name("ok-other" + ending)
        companion.write_text(text and other.sha256)
        wait_finished(site, 1)
        why = inboxd_json(site.config, "explain", str(mine))["why"]
        assert "no regular file of the same owner" in why[0], why
        os.chown(spoof, 1001, 1001)
        wait_finished(site, 2)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["ok-mine", "ok-other"]
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "a second name of another tenant's file", how="a hard link",
    shows="it is not taken; after a minute it goes to quarantine/, and the other name is what it was",
)  # fmt: skip
def test_a_hard_link_to_the_file_of_another(site: Site) -> None:
    site.write(rescan="200ms")
    theirs = site.base / "theirs"
    theirs.write_bytes(SECRET)
    with run_daemon(site.config) as daemon:
        os.link(theirs, site.root() / "inbound" / "ok-link")
        for number in range(3):
            site.drop(f"ok-{number}", b"%d" % number)
            wait_finished(site, number + 1)
        assert site.listed("inbound") == ["ok-link"]
        if scale(0, 1):
            wait_until(lambda: site.listed("quarantine") == ["ok-link"], "quarantine", timeout=90)
        assert daemon.stop() == 0
    assert theirs.read_bytes() == SECRET
    assert not [line for line in site.witnessed() if line["name"] == "ok-link"]
    assert_sound(site, calm=True)


@fault(
    "Uploaders", "a file as large as the file system allows", how="ftruncate(2): all of it is a hole",
    shows="it fills no disk, and holds up a worker for workers.timeout once: then it is an error",
)  # fmt: skip
@pytest.mark.parametrize("claim", ["rename", "copy"])
def test_a_giant_of_holes(site: Site, claim: str) -> None:
    site.inbox("main", claim=claim, duplicates="skip")
    site.workers(timeout="1s")
    with run_daemon(site.config) as daemon:
        draft = site.root() / "inbound" / ".giant"
        _make_giant(draft)
        draft.rename(draft.with_name("giant"))
        wait_until(lambda: site.listed("errors") == ["giant"], "its end", timeout=30)
        site.drop("ok-1", b"goes on")
        wait_finished(site, 2)
        assert daemon.stop() == 0
    assert site.sidecar("giant")["reason"] == "unreadable"
    assert site.sidecar("giant")["message"] == "ran longer than 1 s"
    assert (site.root() / "errors" / "giant").stat().st_blocks < 100
    (site.root() / "errors" / "giant").unlink()  # nobody could read it, the checker neither
    assert not site.listed("work")


def _make_giant(path: Path) -> None:
    """As many bytes as can be asked for: 8 EiB less one, or what the file system makes of it."""
    path.touch()
    for bits in range(63, 30, -1):
        try:
            os.truncate(path, (1 << bits) - 1)
        except OSError:
            continue
        return
    raise AssertionError(f"{path} can't be made large")


@fault(
    "Uploaders", "a path longer than paths can be", how="60 folders of 200 bytes each, one in the other (PATH_MAX: 4096)",
    shows="the file goes its way like any; one that lies deeper than 64 folders stays, and explain says so",
)  # fmt: skip
def test_a_path_longer_than_paths_can_be(site: Site) -> None:
    site.inbox("main", recursive=True)
    site.write(rescan="200ms")
    with run_daemon(site.config) as daemon:
        inbound = os.open(site.root() / "inbound", os.O_RDONLY | os.O_DIRECTORY)
        fd = os.dup(inbound)
        for depth in range(1, 71):
            os.mkdir("d" * 200, dir_fd=fd)
            below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            if depth in (60, 70):
                draft = f".ok-{depth}"  # in place it might be claimed between its making and its bytes, and put back
                with open(os.open(draft, os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as stream:
                    stream.write(b"deep down")
                os.rename(draft, f"ok-{depth}", src_dir_fd=fd, dst_dir_fd=fd)
        os.close(fd)
        wait_until(lambda: site.witnessed("end", "ok-60"), "the run of the file that is deep down")
        site.drop("ok-1", b"goes on")
        wait_until(lambda: "ok-1" in os.listdir(site.root() / "processed"), "the next file")
        wait_until(lambda: not site.listed("work"), "the end of all work")
        assert not daemon.events("daemon.degraded")
        (row,) = [one for one in inboxd_json(site.config, "files")["files"] if one["name"] == "ok-60"]
        assert (row["state"], row["outcome"]) == ("DONE", "processed")
        assert daemon.stop() == 0
    assert not site.witnessed("start", "ok-70")
    os.close(inbound)
    for folder in ("inbound", "processed"):
        subprocess.run(["rm", "-rf", str(site.root() / folder)], check=True)


class Held:
    """An uploader who has renamed his file into the inbox, and still has it open and mapped."""

    def __init__(self, site: Site, name: str, *, mapped: bool, leased: bool = False) -> None:
        draft = site.root() / "inbound" / f".{name}"
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT)
        os.write(self._fd, b"first")
        self._map = mmap.mmap(self._fd, 5) if mapped else None
        if leased:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        draft.rename(draft.with_name(name))

    def let_go(self) -> None:
        """Give up the lease."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def write(self) -> None:
        """Other bytes; through the mapping as many as there were."""
        if self._map is not None:
            self._map[:] = b"FIRST"
        else:
            os.pwrite(self._fd, b"FIRST and more", 0)


def _hold_two(site: Site, name: str) -> list[Held]:
    return [Held(site, f"{name}-{kind}", mapped=kind == "mapped") for kind in ("open", "mapped")]


def _hold_two_at_once(site: Site, name: str) -> list[Held]:
    """Both are claimed in the same turn."""
    assert inboxd(site.config, "pause", "main").returncode == 0
    held = _hold_two(site, name)
    assert inboxd(site.config, "resume", "main").returncode == 0
    return held


def _write_at_all_times(site: Site, daemon: Daemon) -> None:
    """Between claim and run, during the run, between run and delivery, and after it."""
    site.drop("sleep-0_5-x", b"holds up the only worker")
    wait_until(lambda: site.witnessed("start"), "the worker is busy")
    before = _hold_two(site, "before")
    wait_until(lambda: len(site.listed("work")) == 3, "their claims")
    [one.write() for one in before]
    wait_finished(site, 3)
    during = _hold_two_at_once(site, "sleep-0_5")
    wait_until(lambda: len(site.listed("work")) == 2 and len(site.witnessed("start")) == 4, "the run of the first")
    [one.write() for one in during]
    wait_finished(site, 5)
    processed = site.root() / "processed"
    processed.rename(site.root() / "aside")
    after = _hold_two_at_once(site, "after")
    daemon.wait_event("daemon.degraded")
    wait_until(
        lambda: len(site.witnessed("end", "after-open")) + len(site.witnessed("end", "after-mapped")) == 2, "ends"
    )
    [one.write() for one in after]
    (site.root() / "aside").rename(processed)
    wait_until(lambda: len(list(processed.iterdir())) == 7, "their delivery", timeout=40)
    [one.write() for one in (*before, *during, *after)]


@fault(
    "Uploaders", "an uploader writes to a file after its claim", how="an open file and a mapping, claim: rename",
    shows="until the delivery each write is noticed and told: a remark in the row, or the event file.changed",
)  # fmt: skip
def test_late_writes_are_noticed(site: Site) -> None:
    site.workers(processes=1)
    with run_daemon(site.config) as daemon:
        _write_at_all_times(site, daemon)
        assert daemon.stop() == 0  # a file is at its place a moment before its row says so
        told = {record["file"] for record in daemon.events("file.changed")}
        rows = {row["name"]: row for row in inboxd_json(site.config, "files")["files"]}
    remarked = {name for name, row in rows.items() if "changed" in (row["message"] or "")}
    assert {row["outcome"] for row in rows.values()} == {"processed"}
    assert told == {"after-open", "after-mapped"}
    assert remarked == {"before-open", "before-mapped", "sleep-0_5-open", "sleep-0_5-mapped"}


@fault(
    "Uploaders", "an uploader writes to a file after its claim", how="an open file and a mapping, claim: copy",
    shows="what is delivered is what was run; no write after the copy is in it",
)  # fmt: skip
def test_late_writes_go_nowhere(site: Site) -> None:
    """The worker is busy when the first two are written to: they are copied after that, with what was written."""
    site.inbox("main", claim="copy")
    site.workers(processes=1)
    with run_daemon(site.config) as daemon:
        _write_at_all_times(site, daemon)
        assert daemon.stop() == 0
        assert not daemon.events("file.changed")
        assert not any(row["message"] for row in inboxd_json(site.config, "files")["files"])
    contents = {path.name: path.read_bytes() for path in (site.root() / "processed").iterdir()}
    assert contents.pop("before-open") == b"FIRST and more"
    assert contents.pop("before-mapped") == b"FIRST"
    assert set(contents.values()) == {b"first", b"holds up the only worker"}
    found = violations(site.config, Evidence(witness=site.witnessed(), calm=True))
    assert not found, "\n".join(found[:40])


@fault(
    "Uploaders", "a file that its uploader has leased", how="F_SETLEASE, and the holder does not let go of it",
    shows="it is claimed, and synced with all else; only its own run waits for the holder",
)  # fmt: skip
@pytest.mark.parametrize("rules", [{}, {"claim": "copy", "duplicates": "skip"}])
def test_a_file_that_is_leased(site: Site, rules: dict[str, str]) -> None:
    """Whoever opens it waits until the holder gives it up, or 45 s (proc(5), lease-break-time)."""
    site.write(durability="full")
    site.inbox("main", **rules)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with run_daemon(site.config) as daemon:
            held = Held(site, "ok-leased", mapped=False, leased=True)
            wait_until(lambda: site.listed("work"), "its claim")
            for number in range(3):
                site.drop(f"ok-{number}", b"%d" % number)
                wait_finished(site, number + 1)
            held.let_go()
            wait_finished(site, 4)
            assert daemon.stop() == 0
    finally:
        signal.signal(signal.SIGIO, before)
    assert len(site.listed("processed")) == 4
    assert_sound_race(site)
