"""What users may leave in inboxes, in errors/ and as results, met by a daemon that is not almighty."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.daemon import AS_ANY_USER, inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

_HANDLER = """
import os
from inboxd import Reject

def handle(file):
    kind = file.name.split(".")[0]
    if kind == "folder":
        inner = file.results / "inner"
        inner.mkdir()
        (inner / "x").write_text("kept")
        inner.chmod(0o500)
    elif kind == "reject":
        inner = file.results / "inner"
        inner.mkdir()
        (inner / "x").write_text("gone")
        inner.chmod(0o500)
        raise Reject("not ours")
    elif kind == "instead":
        results = file.results
        results.rmdir()
        results.symlink_to("/etc")
        raise Reject("not ours either")
    return None
"""


@pytest.mark.parametrize("durability", ["full", "process"])
def test_a_file_that_may_be_moved_and_not_read(site: Site, durability: str) -> None:
    """Its handler can't open it, which is an error of that file and of nobody else."""
    site.write(durability=durability)
    inbound = site.root() / "inbound"
    inbound.mkdir(parents=True)
    for number in range(3):
        site.drop(f"ok-secret-{number}.dat", b"x")
        (inbound / f"ok-secret-{number}.dat").chmod(0)
    with run_daemon(
        site.config, {"INBOXD_FAILPOINT": "claim.renamed:kill@2"}, ready=False, under=AS_ANY_USER
    ) as daemon:
        assert daemon.wait() < 0
    with run_daemon(site.config, under=AS_ANY_USER):
        wait_finished(site, 3)
        site.drop_all(files(5))
        wait_finished(site, 8)
    assert len(site.listed("processed")) == 5


def test_results_that_nobody_may_write_to(site: Site) -> None:
    (site.base / "odd.py").write_text(_HANDLER)
    site.inbox("main", handler={"python": "odd:handle"})
    for _life in range(2):
        with run_daemon(site.config, under=AS_ANY_USER):
            for name in ("folder.dat", "reject.dat", "instead.dat", "plain.dat"):
                site.drop(name, os.urandom(8))
            wait_until(lambda: site.count("work") == 0 and site.count("inbound") == 0, "everything is delivered")
            assert not inboxd_json(site.config, "status")["degraded"]
    kept = list((site.root() / "outbound").glob("inner*"))
    assert len(kept) == 2
    assert {(folder / "x").read_text() for folder in kept} == {"kept"}
    assert {folder.stat().st_mode & 0o777 for folder in kept} == {0o500}
    assert os.listdir("/etc")


@fault(
    "Uploaders", "a file where a folder must be", how="first a, then a/x",
    shows="delivered beside it",
)  # fmt: skip
@pytest.mark.parametrize("layout", ["", "%Y-%m-%d"])
def test_a_file_where_a_folder_must_be(site: Site, layout: str) -> None:
    """First `a`, then `a/x`: the one lies in the other's way, below processed/ and below errors/."""
    site.inbox("main", recursive=True, layout=layout)
    with run_daemon(site.config) as daemon:
        for number, kind in enumerate(("ok-1", "reject-1"), 1):
            site.drop(kind, b"first")
            wait_finished(site, 5 * number - 4)
            for name in ("ok-x", "reject-x"):
                site.drop(name, f"{kind} {name}".encode(), folder=kind)
                site.drop(name, f"{kind} b {name}".encode(), folder=f"{kind}/b")
            wait_finished(site, 5 * number)
        assert not daemon.events("daemon.degraded")
    assert_sound(site, calm=True, finished=True)


@fault(
    "Uploaders", "a name that our own files have", how="NAME.error.json, with any content",
    shows="neither is taken for the other, neither overwritten",
)  # fmt: skip
@pytest.mark.parametrize("content", [b"[]", b"[" * 100_000, b"{", b"null", b'{"id": []}', bytes(1000)])
def test_an_upload_that_looks_like_a_sidecar(site: Site, content: bytes) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("reject-1.error.json", content)
        errors = site.root() / "errors"
        wait_until((errors / "reject-1.error.json").exists, "the upload's error")
        site.drop("reject-1", b"the one whose sidecar has that name")
        wait_until((errors / "reject-1").exists, "its delivery")
        assert daemon.stop() == 0
    assert (errors / "reject-1.error.json").read_bytes() == content
    other = next(errors.glob("reject-1.????????.error.json"))
    assert json.loads(other.read_text())["name"] == "reject-1"


def test_an_upload_that_looks_like_a_sidecar_is_not_removed_for_one(site: Site) -> None:
    """Neither when the file that it would speak of is run again, nor when that goes by its age."""
    content, errors = b"somebody's upload", site.root() / "errors"
    with run_daemon(site.config) as daemon:
        site.drop("reject-1", b"the one whose sidecar has that name")
        wait_finished(site, 1)
        (one,) = inboxd_json(site.config, "files")["files"]
        (errors / "reject-1.error.json").unlink()
        site.drop("reject-1.error.json", content)
        wait_until(lambda: len(daemon.events("file.error")) == 2, "the upload's error")
        assert inboxd(site.config, "retry", one["id"]).returncode == 0
        wait_until(lambda: len(daemon.events("file.error")) == 3, "the error once more")
        assert (errors / "reject-1.error.json").read_bytes() == content
        assert daemon.stop() == 0
    (errors / "reject-1.error.json").rename(site.base / "aside")
    (errors / "reject-1.error.json").write_bytes(content)  # nobody's by the ledger, so that it does not go by its age
    site.inbox("main", retention={"errors": "1ms"})
    with run_daemon(site.config):
        assert inboxd(site.config, "prune").returncode == 0
    assert not (errors / "reject-1").exists()
    assert (errors / "reject-1.error.json").read_bytes() == content


def test_each_error_has_one_sidecar(site: Site) -> None:
    """Also where the name that it was bound for was taken."""
    with run_daemon(site.config) as daemon:
        for number in range(3):
            site.drop("reject-1.dat", b"%d" % number)
            wait_finished(site, number + 1)
        assert daemon.stop() == 0
    names = {path.name for path in (site.root() / "errors").iterdir()}
    errors = {name for name in names if not name.endswith(".error.json")}
    assert len(errors) == 3
    assert names == errors | {f"{name}.error.json" for name in errors}


def test_results_of_a_file_in_whose_way_another_lies(site: Site) -> None:
    """Its folder can't be made at its destination: it goes elsewhere, and its results where they belong."""
    site.inbox("main", recursive=True)
    with run_daemon(site.config):
        site.drop("ok-1", b"a file that is called as the folder")
        wait_finished(site, 1)
        site.drop("results-1.dat", b"x", folder="ok-1")
        wait_until(lambda: len(site.listed("outbound")) == 2, "its results")
    assert_sound(site)


def test_duplicates_that_are_tried_again(site: Site) -> None:
    """A file that waits is hashed again before its next run; it must be held once."""
    site.inbox("main", duplicates={"policy": "skip"}, retry={"first": "1ms", "longest": "50ms", "max_failures": 10})
    with run_daemon(site.config) as daemon:
        for number in range(300):
            site.drop(f"retry-3-{number}.dat", os.urandom(64))
        wait_finished(site, 300)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_a_checksum_file_does_not_switch_duplicates_off(site: Site) -> None:
    """The digest is known before the claim; the twin must be looked for all the same."""
    site.inbox("main", settle={"checksum": "sha256"}, duplicates={"policy": "error"})
    with run_daemon(site.config):
        for name in ("ok-1.dat", "ok-2.dat"):
            site.drop(name, b"the same")
            site.drop(name + ".sha256", hashlib.sha256(b"the same").hexdigest().encode())
            wait_until(lambda name=name: name in (*site.listed("processed"), *site.listed("errors")), name)
    assert site.listed("processed") == ["ok-1.dat"]
    assert site.sidecar("ok-2.dat")["reason"] == "duplicate"


def test_twins_of_a_killer(site: Site) -> None:
    """A file that a dying worker gave back is looked up again: a twin of it may have come through meanwhile."""
    site.inbox("main", duplicates="skip", retry={"first": "1ms", "longest": "20ms"})
    site.workers(batch_size=10)
    with run_daemon(site.config) as daemon:
        for number in range(120):
            kind = "crash-1" if number % 11 == 5 else "ok"
            site.drop(f"{kind}-{number}.dat", b"content %d" % (number % 40))
        wait_finished(site, 120)
        assert daemon.stop() == 0
    rows = inboxd_json(site.config, "files", "--limit", "200")["files"]
    originals = [row["name"] for row in rows if row["reason"] != "duplicate"]
    assert len(rows) == 120
    assert {int(name.split(".")[0].split("-")[-1]) % 40 for name in originals} == set(range(40))
    assert len(originals) == 40
    assert_sound(site, finished=True)


def test_a_worker_killed_while_it_verifies_a_checksum(site: Site) -> None:
    """What it had not read to the end is read again; it is no mismatch."""
    site.inbox("main", settle={"checksum": "sha256"})
    with run_daemon(site.config) as daemon:
        large = site.root() / "inbound" / "large.dat"
        large.touch()
        os.truncate(large, 1 << 30)
        with large.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        (large.parent / "large.dat.sha256").write_text(digest)
        reader = wait_until(lambda: next(iter(_readers(daemon.workers(), large)), None), "a worker reads it")
        os.kill(reader, signal.SIGKILL)
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["large.dat"]


def _readers(pids: list[int], path: Path) -> Iterator[int]:
    """Who of these processes has the file open."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(opened.path == str(path) for opened in psutil.Process(pid).open_files()):
                yield pid


def test_a_file_that_was_written_to_while_we_died(site: Site) -> None:
    """Its uploader's descriptor came along into work/: it is not what has settled, and waits on in inbound/."""
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "claim.renamed:kill"}, ready=False) as daemon:
        site.drop("ok-1.dat", b"some of it")
        assert daemon.wait() < 0
    (claimed,) = (site.root() / "work").glob("0*")
    with claimed.open("ab") as stream:
        stream.write(b", and the rest")
    with run_daemon(site.config) as daemon:
        wait_finished(site, 1)
        assert daemon.events("file.put-back")
    assert (site.root() / "processed" / "ok-1.dat").read_bytes() == b"some of it, and the rest"


def test_a_work_folder_that_was_copied(site: Site) -> None:
    """Other inodes, the same files: no reason to call their inputs changed."""
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.recorded:kill"}) as daemon:
        site.drop("fail-1-x.dat", b"waits")
        assert daemon.wait() == -signal.SIGKILL
    (held,) = (site.root() / "work").glob("0*")
    copy = held.with_name("copy")
    shutil.copy2(held, copy)
    copy.replace(held)
    with run_daemon(site.config):
        wait_finished(site, 1)
    assert site.listed("processed") == ["fail-1-x.dat"]


def test_a_file_taken_out_of_work_is_an_alarm(site: Site) -> None:
    """Its outcome was recorded, its destination was away, and meanwhile somebody removed it."""
    processed = site.root() / "processed"
    with run_daemon(site.config) as daemon:
        processed.rename(site.root() / "aside")
        site.drop("ok-1.dat", b"x")
        daemon.wait_event("daemon.degraded")
        (held,) = (site.root() / "work").glob("0*")
        held.unlink()
        (site.root() / "aside").rename(processed)
        daemon.wait_event("file.lost", timeout=40)
        (row,) = wait_until(lambda: inboxd_json(site.config, "files", "--state", "lost")["files"], "its row")
        assert row["name"] == "ok-1.dat"
        (why,) = inboxd_json(site.config, "explain", str(site.root() / "inbound" / "ok-1.dat"))["why"]
        assert why == "it is LOST: missing from work/, when it was to end as processed"
        assert inboxd_json(site.config, "status")["inboxes"][0]["processed"] == 0
    assert site.listed("processed") == []


def test_a_file_that_can_not_be_moved_holds_up_nobody(site: Site) -> None:
    """Its folder forbids it; it is tried again later, and says so."""
    site.inbox("main", recursive=True)
    site.drop("ok-stuck.dat", b"x", folder="locked")
    locked = site.root() / "inbound" / "locked"
    locked.chmod(0o500)
    with run_daemon(site.config, under=AS_ANY_USER) as daemon:
        daemon.wait_event("file.abandoned")
        for number in range(5):
            site.drop(f"ok-{number}.dat", b"x")
            wait_finished(site, number + 1, timeout=10)
        why = inboxd_json(site.config, "explain", str(locked / "ok-stuck.dat"))["why"]
        assert "can't be moved" in why[0]
        assert len(daemon.events("file.abandoned")) == 1
    locked.chmod(0o700)


def test_while_work_is_closed_to_us_no_file_is_set_aside(site: Site) -> None:
    """Nothing is wrong with them: once it is open, none waits for its own next try."""
    work = site.root() / "work"
    with run_daemon(site.config, under=AS_ANY_USER) as daemon:
        work.chmod(0o500)
        site.drop("ok-1.dat", b"x")
        wait_until(lambda: len(daemon.events("file.abandoned")) == 3, "three tries, within 3 s")
        why = inboxd_json(site.config, "explain", str(site.root() / "inbound" / "ok-1.dat"))["why"]
        assert "next try" not in str(why)
        work.chmod(0o700)
        wait_finished(site, 1, timeout=10)
        assert len(daemon.events("file.abandoned")) <= 4
