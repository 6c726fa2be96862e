"""What an uploader does to the folder of a file that has just been claimed keeps nobody from syncing it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.custody import claim, disk
from inboxd.custody.claim import Claims, Taken
from inboxd.model import InboxFile, new_id


@pytest.mark.parametrize("swapped", ["kept", "removed", "a link", "a file"])
def test_the_folder_may_be_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str) -> None:
    for name in ("inbound", "incoming", "work"):
        (tmp_path / name).mkdir()
    folder = tmp_path / "inbound" / "sub"
    if swapped == "kept":
        folder.mkdir()
    elif swapped == "a link":
        folder.symlink_to("/")
    elif swapped == "a file":
        folder.touch()
    whole: list[int] = []
    monkeypatch.setattr(claim.disk, "sync_all", lambda fd: (whole.append(fd), sync_all(fd)))
    ledger: Any = None
    claims = Claims(tmp_path / "inbound", tmp_path / "incoming", tmp_path / "work", ledger)
    file = InboxFile(new_id(), "main", "sub", "a.csv", 0, 0, 0, 0)
    (tmp_path / "work" / file.work_name).touch()
    claims.sync(Taken(claimed=[file]))
    assert bool(whole) is (swapped != "kept")  # it may be anywhere now
    claims.close()
    assert os.listdir(tmp_path / "work")


sync_all = disk.sync_all


def test_what_is_strange_is_synced_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a second name is accepted with its bytes, as others are; and none is to come back to inbound/."""
    for name in ("inbound", "incoming", "work"):
        (tmp_path / name).mkdir()
    whole: list[int] = []
    monkeypatch.setattr(claim.disk, "sync_all", whole.append)
    ledger: Any = None
    claims = Claims(tmp_path / "inbound", tmp_path / "incoming", tmp_path / "work", ledger)
    claims.sync(Taken(strange=[InboxFile(new_id(), "main", "", "a.csv", 0, 0, 0, 0)]))
    claims.close()
    assert whole


def test_bytes_that_could_not_be_synced_are_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next sync of the same file would succeed, and say nothing of what was lost."""
    for name in ("inbound", "incoming", "work"):
        (tmp_path / name).mkdir()
    ledger: Any = None
    claims = Claims(tmp_path / "inbound", tmp_path / "incoming", tmp_path / "work", ledger)
    marked, other = (InboxFile(new_id(), "main", "", "a.csv", 0, 0, 0, 0) for _ in range(2))
    for file in (marked, other):
        (tmp_path / "work" / file.work_name).write_bytes(b"bytes")
    monkeypatch.setattr(claim.disk, "sync_file", _fails)
    with pytest.raises(OSError, match="Input/output"):
        claims.sync(Taken(claimed=[marked]))
    before = {file.id: (tmp_path / "work" / file.work_name).stat().st_ino for file in (marked, other)}
    taken = Taken(claimed=[marked, other])
    claims.renew(taken)
    claims.close()
    found = {file.id: (tmp_path / "work" / file.work_name).stat() for file in taken.claimed}
    assert found[marked.id].st_ino != before[marked.id]
    assert found[other.id].st_ino == before[other.id]
    assert {file.id: file.ino for file in taken.claimed}[marked.id] == found[marked.id].st_ino
    assert (tmp_path / "work" / marked.work_name).read_bytes() == b"bytes"


def test_bytes_that_can_not_be_replaced_are_not_believed(claims: Claims, tmp_path: Path, monkeypatch: Any) -> None:
    """They would be accepted as they are, and the next sync would succeed."""
    file = InboxFile(new_id(), "main", "", "a.csv", 0, 0, 0, 0)
    (tmp_path / "work" / file.work_name).write_bytes(b"bytes")
    (tmp_path / "work" / f"{file.id}-unsynced").touch()
    monkeypatch.setattr(claim.os, "rename", _fails)
    with pytest.raises(OSError, match="Input/output"):
        claims.renew(Taken(claimed=[file]))


def _fails(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    for name in ("inbound", "incoming", "work"):
        (tmp_path / name).mkdir()
    ledger: Any = None
    made = Claims(tmp_path / "inbound", tmp_path / "incoming", tmp_path / "work", ledger)
    yield made
    made.close()


def _sighted(path: Path, folder: str = "", **values: Any) -> InboxFile:
    found = path.stat()
    return InboxFile(
        new_id(), "main", folder, path.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, **values
    )


def test_a_marker_that_is_a_folder_by_now_stops_nobody(claims: Claims, tmp_path: Path) -> None:
    path = tmp_path / "inbound" / "a.csv"
    path.write_bytes(b"a")
    (tmp_path / "inbound" / "a.csv.done").mkdir()
    taken = claims.take([_sighted(path, companions=("a.csv.done",))])
    assert [file.name for file in taken.claimed] == ["a.csv"]


def test_a_changed_file_whose_folder_has_gone_is_ours_as_it_is(
    claims: Claims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inbound" / "sub" / "a.csv"
    path.parent.mkdir()
    path.write_bytes(b"a")
    file = _sighted(path, "sub")
    path.write_bytes(b"more")

    def rename_new(source_fd: int, source: str, target_fd: int, target: str) -> None:
        disk_rename(source_fd, source, target_fd, target)
        if path.parent.exists():
            path.parent.rmdir()  # right after it was taken

    monkeypatch.setattr(claim.disk, "rename_new", rename_new)
    taken = claims.take([file])
    assert [one.size for one in taken.claimed] == [4]
    assert not taken.gone


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_changed_file_that_no_disk_lets_us_put_back_may_not_run(
    claims: Claims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "inbound" / "a.csv"
    path.write_bytes(b"a")
    file = _sighted(path)
    path.write_bytes(b"more")

    def rename_new(source_fd: int, source: str, target_fd: int, target: str) -> None:
        if not path.exists():
            raise OSError(number, os.strerror(number))
        disk_rename(source_fd, source, target_fd, target)

    monkeypatch.setattr(claim.disk, "rename_new", rename_new)
    taken = claims.take([file])
    assert not (taken.claimed or taken.gone)
    assert [os.strerror(number) in (one.reason or "") for one in taken.strange] == [True]


def test_a_folder_that_took_the_place_of_a_link_goes_back(
    claims: Claims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its uploader goes on writing into it, through a descriptor: in quarantine/ nobody would take those files."""
    path, folder = tmp_path / "inbound" / "sub", tmp_path / "inbound" / "hidden"
    folder.mkdir()
    path.symlink_to("hidden")
    link = path.lstat()
    file = InboxFile(new_id(), "main", "", "sub", link.st_dev, link.st_ino, link.st_size, link.st_mtime_ns)
    swapped: list[str] = []

    def rename_new(source_fd: int, source: str, target_fd: int, target: str) -> None:
        if not swapped:  # right before it is taken
            path.unlink()
            folder.rename(path)
        swapped.append(target)
        disk_rename(source_fd, source, target_fd, target)

    monkeypatch.setattr(claim.disk, "rename_new", rename_new)
    taken = claims.take([file])
    assert path.is_dir() and not os.listdir(tmp_path / "work")
    assert [one.reason for one in taken.gone] == ["it changed while it was claimed"]


disk_rename = disk.rename_new
