"""Whoever takes delivered files may remove a folder at any moment: no file is called lost for that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from inboxd.beneath import FOLDER
from inboxd.custody import deliver, disk
from inboxd.custody.deliver import Deliveries, Moved
from inboxd.errors import LedgerUnavailable
from inboxd.model import InboxFile, Outcome, State, new_id

rename_new = disk.rename_new


@pytest.fixture
def deliveries(tmp_path: Path) -> Iterator[Deliveries]:
    for name in ("work", "processed"):
        (tmp_path / name).mkdir()
    nobody: Any = Mock()  # there are no results, and the ledger is not asked
    nobody.place.return_value = None
    fd = os.open(tmp_path / "work", FOLDER)
    yield Deliveries({Outcome.PROCESSED: tmp_path / "processed"}, nobody, fd, nobody)
    os.close(fd)


def _decided(tmp_path: Path) -> InboxFile:
    path = tmp_path / "work" / new_id()
    path.write_bytes(b"x")
    found = path.stat()
    return InboxFile(
        path.name, "main", "", "a", found.st_dev, found.st_ino, 1, found.st_mtime_ns, state=State.DECIDED,
        outcome=Outcome.PROCESSED, destination="day/a",
    )  # fmt: skip


def test_a_folder_that_goes_before_the_rename_is_an_outage(
    deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*where: Any) -> None:
        (tmp_path / "processed" / "day").rmdir()
        rename_new(*where)

    file = _decided(tmp_path)
    monkeypatch.setattr(deliver.disk, "rename_new", rename)
    moved = deliveries.move([file])
    assert moved.outage is not None
    assert not moved.lost
    monkeypatch.setattr(deliver.disk, "rename_new", rename_new)
    assert deliveries.move([file]).delivered == [file]


def test_a_folder_that_goes_before_the_sync_stops_nobody(deliveries: Deliveries, tmp_path: Path) -> None:
    file = _decided(tmp_path)
    moved = deliveries.move([file])
    assert isinstance(moved, Moved)
    (tmp_path / "processed" / "day" / "a").unlink()
    (tmp_path / "processed" / "day").rmdir()
    deliveries.sync(moved)


def test_what_a_dead_daemon_may_have_delivered_is_not_called_lost(deliveries: Deliveries, tmp_path: Path) -> None:
    """Somebody has taken it from there since. What we have decided ourselves, only we may move."""
    file = _decided(tmp_path)
    (tmp_path / "work" / file.id).unlink()
    assert deliveries.move([file]).lost
    deliveries.inherited.add(file.id)
    assert deliveries.move([file]).delivered == [file]


def test_results_that_an_earlier_try_has_moved_are_synced_all_the_same(
    deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in outbound/ already, and nothing in work/ speaks of them."""
    synced: list[int] = []
    monkeypatch.setattr(deliver.disk, "sync_all", synced.append)
    file = _decided(tmp_path)
    moved = deliveries.move([file], with_results={file.id})
    deliveries.sync(moved)
    assert moved.delivered and synced


def test_where_the_ledger_does_not_answer_nothing_is_moved(
    deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is moved must be told, or a consumer who takes it meanwhile makes it a file that is lost."""
    well, error = _decided(tmp_path), _decided(tmp_path)._replace(outcome=Outcome.ERROR)
    monkeypatch.setattr(deliveries._ledger, "failures", Mock(side_effect=LedgerUnavailable("it is away")))
    with pytest.raises(LedgerUnavailable):
        deliveries.move([well, error])
    assert {path.name for path in (tmp_path / "work").iterdir()} == {well.id, error.id}
