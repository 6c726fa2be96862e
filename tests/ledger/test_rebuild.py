"""A new ledger from what can be read of an old one, and from what lies in the folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from walks import failure_of, one

from inboxd.clock import SystemClock
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.rebuild import Rebuild, Summary
from inboxd.custody.relics import Place
from inboxd.custody.sidecar import content
from inboxd.errors import LedgerRefused, LedgerUnavailable
from inboxd.items import Item, ItemState
from inboxd.model import InboxFile, Outcome, State, new_id
from support.wait import wait_until

HOSTILE = "a\udcff\n\x1b[31m.csv"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folders = {outcome: tmp_path / str(outcome) for outcome in Outcome}
    for folder in (*folders.values(), tmp_path / "work"):
        folder.mkdir()
    return Place("main", folders, "%Y-%m-%d", True, tmp_path / "work")


@pytest.fixture
def old(tmp_path: Path) -> Callable[[], Ledger]:
    """The ledger that is to be rebuilt, as it is now."""
    return lambda: Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", "process", SystemClock(), tmp_path / "ledger.id")


def _rebuild(tmp_path: Path, place: Place) -> Summary:
    return Rebuild(f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path, [place], SystemClock()).run()


def _by_destination(ledger: Ledger) -> dict[str, InboxFile]:
    query = "SELECT id FROM files"
    with closing(sqlite3.connect(ledger._engine.url.database or "")) as db:
        rows = [ledger.get(file_id) for (file_id,) in db.execute(query)]
    ledger.close()
    return {row.destination or "": row for row in rows if row is not None}


def test_from_nothing_but_folders(tmp_path: Path, place: Place, old: Callable[[], Ledger]) -> None:
    processed, errors, quarantine = (place.finals[outcome] for outcome in Outcome)
    (processed / "2026-11-28" / "north").mkdir(parents=True)
    (processed / "2026-11-28" / "north" / HOSTILE).write_bytes(b"hostile")
    (processed / "no-day").mkdir()
    (processed / "no-day" / "b.csv").write_bytes(b"b")
    os.symlink("/nowhere", quarantine / "link")
    file = one_record()
    (errors / "2026-11-28").mkdir()
    (errors / "2026-11-28" / "bad.0badcafe.csv").write_bytes(b"bad")
    tag = file.id[-8:]
    (errors / "2026-11-28" / "bad.0badcafe.csv.error.json").write_text(json.dumps(content(file, [failure_of(file)])))
    (errors / "2026-11-28" / "bad.csv").write_bytes(b"another")
    (errors / "2026-11-28" / "forged.csv.error.json").write_text('{"id": "../../etc", "inbox": 1, "retry": null}')
    told = _rebuild(tmp_path, place)
    assert told.found == {"processed": 2, "error": 3, "quarantine": 1}
    rows = _by_destination(old())
    north = rows[f"2026-11-28/north/{HOSTILE}"]
    assert (north.folder, north.name, north.outcome) == ("north", HOSTILE, Outcome.PROCESSED)
    assert north.sha256 == hashlib.sha256(b"hostile").hexdigest()
    assert (rows["no-day/b.csv"].folder, rows["no-day/b.csv"].name) == ("no-day", "b.csv")
    assert rows["link"].attempts == 0
    bad = rows["2026-11-28/bad.0badcafe.csv"]
    assert (bad.id, bad.name, bad.attempts, bad.reason, tag) == (file.id, file.name, 1, file.reason, bad.id[-8:])
    ledger = old()
    assert [failure.error_class for failure in ledger.failures(file.id)] == [failure_of(file).error_class]
    ledger.refuse_damage()
    ledger.close()


def one_record() -> InboxFile:
    """An error as it was before the ledger was lost."""
    return InboxFile(
        new_id(), "main", "", "bad.csv", 1, 2, 3, 4, State.DONE, attempts=1, failures=1, claimed_at=100.0,
        finished_at=101.0, outcome=Outcome.ERROR, reason="rejected", message="no", destination="bad.csv",
    )  # fmt: skip


def test_what_a_retry_began_anew_is_counted_from_there(tmp_path: Path, place: Place, old: Callable[[], Ledger]) -> None:
    """Its sidecar tells the attempts of all its lives, each life's from 1 on."""
    file = one_record()
    lives = [failure_of(file, attempt, 10.0 * life + attempt) for life in (1, 2) for attempt in (1, 2, 3)]
    error = place.finals[Outcome.ERROR] / "bad.csv"
    error.write_bytes(b"bad")
    error.with_name("bad.csv.error.json").write_text(json.dumps(content(file, [*lives, failure_of(file, 1, 30.0)])))
    _rebuild(tmp_path, place)
    row = _by_destination(old())["bad.csv"]
    assert (row.attempts, row.failures) == (file.attempts, file.failures) == (1, 1)
    ledger = old()
    assert len(ledger.failures(file.id)) == 7
    ledger.close()


def test_items_whose_files_are_nowhere_are_fetched_again(
    tmp_path: Path, place: Place, old: Callable[[], Ledger]
) -> None:
    ledger = old()
    kept = one(ledger, State.CLAIMED)
    items, gone = Items(ledger), new_id()
    found = [
        Item("partner", name, "", "main", file_id, ItemState.DISCOVERED, name, ack="processed", discovered_at=1.0)
        for name, file_id in (("kept", kept.id), ("gone", gone))
    ]
    with ledger.transaction():
        items.discover(found)
        items.change("fetch", [item._replace(attempts=1) for item in found])
        items.hold([item._replace(fetched_at=2.0) for item in found], 2.0)
    ledger.close()
    assert place.work is not None
    (place.work / kept.work_name).write_bytes(b"")
    told = _rebuild(tmp_path, place)
    assert (told.to_fetch, told.missing, told.to_adopt) == (1, 0, 0)
    ledger = old()
    assert [item.item for item in Items(ledger).in_state(ItemState.HELD)] == ["kept"]
    (again,) = Items(ledger).in_state(ItemState.DISCOVERED)
    assert (again.item, again.id != gone, again.fetched_at) == ("gone", True, None)
    ledger.close()


def test_rows_that_make_no_sense_are_left_out(tmp_path: Path, place: Place, old: Callable[[], Ledger]) -> None:
    ledger = old()
    rows = [one(ledger, State.DONE) for _ in range(6)]
    ledger.close()
    wounds = ("state = 'DOME'", "name = 'text'", "outcome = 'lost'", "size = 'big'", "message = CAST(x'ff' AS TEXT)")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        for row, wound in zip(rows, wounds, strict=False):
            db.execute(f"UPDATE files SET {wound} WHERE id = ?", [row.id])
        db.commit()
    told = _rebuild(tmp_path, place)
    assert (told.taken["files"], told.unreadable["files"], told.broken) == (1, 5, [])


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE meta SET value = 'another'", "is another one"),
        ("UPDATE alembic_version SET version_num = '9999'", "9999"),
    ],
)
def test_what_is_not_ours_is_refused(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], statement: str, words: str
) -> None:
    old().close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.execute(statement)
        db.commit()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with pytest.raises(LedgerRefused, match=words):
        _rebuild(tmp_path, place)
    assert (tmp_path / "ledger.sqlite").read_bytes() == before


def test_a_folder_that_is_missing_is_no_empty_one(tmp_path: Path, place: Place, old: Callable[[], Ledger]) -> None:
    old().close()
    place.finals[Outcome.ERROR].rmdir()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with pytest.raises(FileNotFoundError):
        _rebuild(tmp_path, place)
    assert (tmp_path / "ledger.sqlite").read_bytes() == before


def _unclosed(tmp_path: Path, ledger: Ledger) -> None:
    """A ledger as its killed daemon leaves it, with its last commits in its log."""
    path = tmp_path / "ledger.sqlite"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{path}.copy{ending}")
    ledger.close()
    for ending in ("", "-wal"):
        os.rename(f"{path}.copy{ending}", f"{path}{ending}")


def test_what_is_kept_keeps_its_log(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between the old file and its log, the next call brings them together."""
    ledger = old()
    row = one(ledger, State.DONE)
    _unclosed(tmp_path, ledger)
    rename = Path.rename

    def cut_off(path: Path, target: Path) -> Path:
        if path.name.endswith("-wal"):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
        patches.setattr(Path, "rename", cut_off)
        _rebuild(tmp_path, place)
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second + 1, "another second, which the name would tell")
    kept = _rebuild(tmp_path, place).aside
    assert Path(f"{kept}-wal").stat().st_size > 0
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT id FROM files").fetchall() == [(row.id,)]
    ledger = old()
    assert ledger.get(row.id) is not None
    ledger.close()


def test_a_draft_that_is_not_whole_is_not_taken(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite closes it without a word when its log can't be brought back: here since somebody reads it."""
    ledger = old()
    one(ledger, State.DONE)
    ledger.close()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    readers: list[sqlite3.Connection] = []
    count = Rebuild._count

    def count_beside_a_reader(rebuild: Rebuild, made: Ledger) -> None:
        reader = sqlite3.connect(tmp_path / "ledger.sqlite.part", isolation_level=None)
        readers.append(reader)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM files").fetchall()
        count(rebuild, made)

    with monkeypatch.context() as patches, pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite\.part is not whole"):
        patches.setattr(Rebuild, "_count", count_beside_a_reader)
        _rebuild(tmp_path, place)
    readers[0].close()
    assert (tmp_path / "ledger.sqlite").read_bytes() == before
    assert _rebuild(tmp_path, place).taken["files"] == 1


@pytest.mark.parametrize("state", [State.CLAIMED, State.DONE])
def test_a_file_is_known_again_by_its_likeness_on_a_device_with_another_number(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], state: State
) -> None:
    """Numbers of devices may change with each boot. It was held, or an error that has been retried since."""
    ledger = old()
    path = place.finals[Outcome.PROCESSED] / "a"
    path.write_bytes(b"a")
    found = path.stat()
    row = one(ledger, state, dev=found.st_dev + 1, ino=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns)
    ledger.close()
    told = _rebuild(tmp_path, place)
    assert (told.moved_on, told.missing, dict(told.found)) == (1, 0, {})
    ledger = old()
    again = ledger.get(row.id)
    assert again is not None and (again.state, again.destination) == (State.DONE, "a")
    ledger.close()


SECOND = 10**9  # nanoseconds


def _delivered(
    old: Callable[[], Ledger], place: Place, outcome: Outcome = Outcome.PROCESSED, content: bytes = b"first"
) -> tuple[Path, InboxFile]:
    """Where a file lies, and the row that the older ledger has of it."""
    path = place.finals[outcome] / "a.csv"
    path.write_bytes(content)
    ledger, found = old(), path.stat()
    row = one(
        ledger, State.DONE, ino=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns, outcome=outcome,
        destination=path.name, finished_at=time.time(),
    )  # fmt: skip
    ledger.close()
    return path, row


def _tell(path: Path, file: InboxFile, sidecar: str = "a.csv.error.json") -> None:
    path.with_name(sidecar).write_text(json.dumps(content(file, [failure_of(file)])))


def _next(path: Path, moment: int | None = None) -> None:
    """Somebody took what lay there, and another file of its name came."""
    other = path.with_name("other")
    other.write_bytes(b"other")
    if moment is not None:
        os.utime(other, ns=(moment, moment))
    other.replace(path)


def _rows_of(ledger: Ledger, outcome: Outcome) -> dict[str, InboxFile]:
    rows = {row.id: row for row in ledger.ended_at("main", outcome, "a.csv")}
    ledger.close()
    return rows


@pytest.mark.parametrize("outcome", [Outcome.PROCESSED, Outcome.QUARANTINE])
def test_the_next_file_of_a_name_has_a_row_though_an_older_one_knows_its_place(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], outcome: Outcome
) -> None:
    path, row = _delivered(old, place, outcome)
    _next(path)
    assert _rebuild(tmp_path, place).found == {str(outcome): 1}
    rows = _rows_of(old(), outcome)
    assert len(rows) == 2 and rows.pop(row.id).ino == row.ino
    assert [one.ino for one in rows.values()] == [path.stat().st_ino]
    assert _rebuild(tmp_path, place).found == {}


@pytest.mark.parametrize("is_left", [False, True])
def test_the_next_error_of_a_name_has_its_own_id(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], is_left: bool
) -> None:
    """Even though its size and time are those of the one that was taken away, whose sidecar may have been left there."""
    path, row = _delivered(old, place, Outcome.ERROR)
    new = one_record()._replace(name="a.csv", finished_at=time.time() + 5)
    _next(path, row.mtime_ns)
    if is_left:
        _tell(path, row)
    _tell(path, new, f"a.csv.{new.id[-8:]}.error.json" if is_left else "a.csv.error.json")
    assert _rebuild(tmp_path, place).found == {"error": 1}
    assert _rows_of(old(), Outcome.ERROR).keys() == {row.id, new.id}


def test_an_error_that_was_mended_is_known_by_its_sidecar(
    tmp_path: Path, place: Place, old: Callable[[], Ledger]
) -> None:
    path, row = _delivered(old, place, Outcome.ERROR)
    _tell(path, row)
    path.with_name("mended").write_bytes(b"mended")
    path.with_name("mended").replace(path)
    assert _rebuild(tmp_path, place).found == {}
    assert _rows_of(old(), Outcome.ERROR).keys() == {row.id}


def test_what_its_handler_has_written_to_is_known(tmp_path: Path, place: Place, old: Callable[[], Ledger]) -> None:
    """Its row knows how it was claimed."""
    path, row = _delivered(old, place)
    with path.open("ab") as stream:
        stream.write(b", and more")
    before_its_end = int(((row.finished_at or 0.0) - 0.1) * SECOND)
    os.utime(path, ns=(before_its_end, before_its_end))
    assert _rebuild(tmp_path, place).found == {}


@pytest.mark.parametrize("unit", [1, SECOND])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_disk_that_was_restored_has_no_second_rows(
    tmp_path: Path, place: Place, old: Callable[[], Ledger], outcome: Outcome, unit: int
) -> None:
    """Every file has another inode, and perhaps no more than the seconds of its time."""
    path, row = _delivered(old, place, outcome)
    if outcome is Outcome.ERROR:
        _tell(path, row)
    _next(path, row.mtime_ns // unit * unit)
    assert path.stat().st_ino != row.ino
    assert _rebuild(tmp_path, place).found == {}
