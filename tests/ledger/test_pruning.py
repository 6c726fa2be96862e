"""Which old errors go: those that we delivered, and those that were mended where they lie, when that is long ago, too."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
from walks import new_file, walk

from inboxd.custody.ledger import Ledger
from inboxd.custody.retention import Old, prune
from inboxd.model import InboxFile, Outcome, State, new_id
from inboxd.retention import remove

_ENDED = 1000.0  # wall clock


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    folder = tmp_path / "errors"
    folder.mkdir()
    return folder


def _error(ledger: Ledger, path: Path, finished_at: float = _ENDED, delivered: bool = False) -> InboxFile:
    """Delivered to this place; when not as it lies there, it was mended since."""
    found = path.stat()
    (file,) = walk(
        ledger, State.DONE, new_file(id=new_id(1.0)), ino=found.st_ino, outcome=Outcome.ERROR, destination=path.name,
        size=found.st_size if delivered else 99, mtime_ns=found.st_mtime_ns, finished_at=finished_at,
    )  # fmt: skip
    path.with_name(f"{path.name}.error.json").write_text(json.dumps({"id": file.id}, indent=2))
    return file


def _prune(ledger: Ledger, folder: Path, before: float) -> tuple[int, dict[str, str]]:
    """Each in a slice of its own."""
    old = Old("main", Outcome.ERROR, folder, before)
    return remove(old, partial(prune, ledger, old, 1))


@pytest.mark.parametrize("written", [-3600.0, 3600.0])
def test_one_that_was_mended_lately_stays_and_holds_up_nobody(ledger: Ledger, errors: Path, written: float) -> None:
    """Whatever moment it bears, as one that was copied there with that of its original."""
    for name in ("a.csv", "b.csv"):
        (errors / name).write_text("a,b\n")
    mended, other = _error(ledger, errors / "a.csv"), _error(ledger, errors / "b.csv", delivered=True)
    os.utime(errors / "a.csv", (0.0, (errors / "a.csv").stat().st_ctime + written))
    found = (errors / "a.csv").stat()
    last = max(found.st_mtime, found.st_ctime)
    assert _prune(ledger, errors, last) == (1, {})
    assert sorted(os.listdir(errors)) == ["a.csv", "a.csv.error.json"]
    assert (ledger.get(mended.id), ledger.get(other.id)) == (mended, None)
    assert _prune(ledger, errors, last + 1.0) == (1, {})
    assert os.listdir(errors) == []
    assert ledger.get(mended.id) is None


def test_the_next_error_that_has_its_inode_does_not_go_with_it(ledger: Ledger, errors: Path) -> None:
    path = errors / "a.csv"
    path.write_text("a,b\n")
    before = path.stat().st_ctime + 1.0
    first = _error(ledger, path)
    second = _error(ledger, path, finished_at=before + 1.0, delivered=True)
    assert _prune(ledger, errors, before) == (1, {})
    assert path.read_text() == "a,b\n"
    assert (ledger.get(first.id), ledger.get(second.id)) == (None, second)
