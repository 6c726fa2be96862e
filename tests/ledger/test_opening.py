"""What is opened, what is refused, and that nothing is ever replaced by an empty ledger."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, inspect
from walks import one, say

from inboxd.clock import SystemClock
from inboxd.custody import opening
from inboxd.custody.engine import make_engine
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.custody.schema import REVISION, metadata
from inboxd.errors import LedgerRefused, LedgerUnavailable
from inboxd.model import Outcome, State
from support.faults import fault
from support.postgres import Postgres


def _open(url: str, durability: str = "full", known: Path | None = None) -> Ledger:
    return Ledger.open(url, durability, SystemClock(), known)


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _migrate(url: str, revision: str) -> None:
    """As an older inboxd left it."""
    config = Config()
    config.set_main_option("script_location", "inboxd.custody:migrations")
    engine = make_engine(url, "full")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


# Migrations


def test_migrations_lead_to_what_a_new_ledger_is(url: str) -> None:
    engine = create_engine(url)
    _migrate(url, "head")
    migrated = _shape(engine)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    assert _shape(engine) == {}
    _open(url).close()
    assert _shape(engine) == migrated
    assert {*migrated} == {*metadata.tables, "alembic_version"}
    engine.dispose()


def _shape(engine: Engine) -> dict[str, list[str]]:
    """Columns, keys and indexes, with the conditions of partial ones."""
    found = inspect(engine)
    return {
        table: [
            *map(repr, found.get_columns(table)),
            repr(found.get_pk_constraint(table)),
            *sorted(map(_written, found.get_indexes(table))),
        ]
        for table in found.get_table_names()
    }


def _written(index: Any) -> str:
    options = {key: str(value) for key, value in index["dialect_options"].items()}
    return repr({**index, "dialect_options": options})


def test_a_ledger_of_the_first_schema_is_brought_up(url: str) -> None:
    _migrate(url, "0001")
    ledger = _open(url)
    identity = ledger.identity()
    one(ledger, State.WAITING)
    ledger.close()
    again = _open(url)
    assert again.identity() == identity
    assert again.counts() == {"main": {State.WAITING: 1}}
    again.close()


def test_what_a_reader_does_not_find_in_a_ledger_of_the_third_schema(url: str) -> None:
    """As `inboxd show` meets it, between an upgrade and the first start after it."""
    _migrate(url, "0003")
    history = History(url)
    assert history.find() == []
    with pytest.raises(LedgerRefused, match=f"has schema 0003, this inboxd knows {REVISION}") as caught:
        history.sends_of("0" * 32)
    assert caught.value.hint == "a start of inboxd brings it up, and so does `inboxd doctor --repair`"
    _open(url).close()
    assert history.sends_of("0" * 32) == []


def test_a_new_and_a_current_ledger_are_opened_without_alembic(sqlite_url: str) -> None:
    for _ in range(2):
        program = (
            "import sys; from inboxd.custody.ledger import Ledger; from inboxd.clock import SystemClock; "
            f"Ledger.open({sqlite_url!r}, 'full', SystemClock()).close(); "
            "heavy = ('alembic', 'sqlalchemy.orm', 'sqlalchemy.dialects.postgresql', 'psycopg'); "
            "print([name for name in heavy if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip() == "[]"


def _set_revision(url: str, revision: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()


@fault("Ledger", "its schema is newer than the code", how="SQLite and PostgreSQL", shows="refused, with both versions")
def test_a_newer_schema_is_refused_with_both_versions(url: str) -> None:
    _open(url).close()
    _set_revision(url, "9999")
    with pytest.raises(LedgerRefused, match=f"9999, this inboxd knows {REVISION}"):
        _open(url)


def test_an_unknown_older_schema_is_refused(url: str) -> None:
    _open(url).close()
    _set_revision(url, "0000")
    with pytest.raises(LedgerRefused, match="0000"):
        _open(url)


def test_a_failed_migration_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _migrate(url, "0001")
    monkeypatch.setattr(command, "upgrade", lambda config, _revision: _half_way(config.attributes["connection"]))
    with pytest.raises(ZeroDivisionError):
        _open(url)
    monkeypatch.undo()
    _open(url).close()


def test_a_ledger_that_could_not_be_made_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "make_tables", _half_way)
    with pytest.raises(ZeroDivisionError):
        _open(url)
    monkeypatch.undo()
    _open(url).close()


def _half_way(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE items (id TEXT)")  # which neither would find in its way
    raise ZeroDivisionError


def test_tables_that_are_not_ours_are_refused(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE files (title TEXT)")
    engine.dispose()
    with pytest.raises(LedgerRefused, match="not ours"):
        _open(url)


# Damage and loss


@fault("Ledger", "something else lies in its place", how="SQLite, random bytes", shows="refused, and left as it is")
@pytest.mark.parametrize("content", [b"\x7fELF" * 4096, b"no ledger", random.Random(8).randbytes(8192)])
def test_garbage_is_refused_and_left_alone(sqlite_url: str, content: bytes) -> None:
    path = _path(sqlite_url)
    path.write_bytes(content)
    with pytest.raises(LedgerRefused, match=f"{path} is damaged.*restore it from a backup"):
        _open(sqlite_url)
    assert path.read_bytes() == content


def _filled(url: str, count: int = 300) -> Path:
    ledger = _open(url)
    for _ in range(count // 100):
        one(ledger, State.DONE)
        say(ledger, "retry", [one(ledger, State.DONE, message="x" * 9000)])
    ledger.close()
    return _path(url)


@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_truncated_ledger_is_refused(sqlite_url: str, left: float) -> None:
    path = _filled(sqlite_url)
    os.truncate(path, int(path.stat().st_size * left))
    with pytest.raises(LedgerRefused, match="damaged"):
        _open(sqlite_url)


@pytest.mark.parametrize("left", ["empty", "missing"])
def test_a_ledger_that_is_gone_is_never_made_anew_in_silence(sqlite_url: str, left: str) -> None:
    path = _filled(sqlite_url)
    path.unlink()
    if left == "empty":
        path.touch()
    known = path.with_name(path.name + ".id")
    with pytest.raises(LedgerRefused, match=r"missing or empty.*restore it.*inboxd doctor --rebuild-ledger"):
        _open(sqlite_url)
    assert not path.exists() or path.stat().st_size == 0
    known.unlink()
    ledger = _open(sqlite_url)
    assert known.read_text().strip() == ledger.identity()
    ledger.close()


@fault("Ledger", "another ledger is in its place", how="SQLite and PostgreSQL", shows="refused")
def test_another_ledger_in_its_place_is_refused(url: str, tmp_path: Path) -> None:
    known = tmp_path / "ledger.id"
    _open(url, known=known).close()
    known.write_text("0" * 32)
    with pytest.raises(LedgerRefused, match="is another one"):
        _open(url, known=known)


def test_an_identity_that_can_not_be_read(url: str, tmp_path: Path) -> None:
    """It is one, of a ledger that may have gone: nothing empty is made in its place."""
    known = tmp_path / "ledger.id"
    known.symlink_to(known.name)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        _open(url, known=known)
    engine = create_engine(url)
    assert not inspect(engine).get_table_names()
    engine.dispose()


def test_a_ledger_without_its_identity_is_damaged(url: str, tmp_path: Path) -> None:
    """The daemon would end in a fault of its own, and be started again for ever."""
    _open(url, known=tmp_path / "ledger.id").close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM meta")
    engine.dispose()
    with pytest.raises(LedgerRefused, match=r"damaged: its identity is missing.*inboxd doctor --rebuild-ledger"):
        _open(url, known=tmp_path / "ledger.id")


def test_a_vanished_postgresql_ledger_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    known = tmp_path / "ledger.id"
    _open(postgres.url(postgres.create()), known=known).close()
    empty = postgres.create()
    with pytest.raises(LedgerRefused, match="is empty, but"):
        _open(postgres.url(empty), known=known)
    with postgres.connect(empty) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def _overwrite_root(path: Path, tree: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [tree]).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as stream:
        stream.seek((root - 1) * size)
        stream.write(b"\xee" * size)


@fault("Ledger", "an index of it is overwritten", how="SQLite", shows="found at the start")
def test_a_wounded_index_is_found(sqlite_url: str) -> None:
    ledger = _open(sqlite_url)
    one(ledger, State.DECIDED, outcome=Outcome.ERROR)
    ledger.refuse_damage()
    ledger.close()
    _overwrite_root(_path(sqlite_url), "files_unprocessed")
    with pytest.raises(LedgerRefused, match="damaged"):
        _open(sqlite_url)


@fault(
    "Ledger", "a large one is damaged", how="SQLite", shows="not looked at page by page at the start, but by the doctor"
)
def test_a_large_ledger_is_opened_unread(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _filled(sqlite_url)
    _overwrite_root(path, "files_unprocessed")
    monkeypatch.setattr(opening, "_SMALL", path.stat().st_size - 1)
    ledger = _open(sqlite_url)
    with pytest.raises(LedgerRefused, match="damaged"):
        ledger.refuse_damage()
    ledger.close()


def test_damage_that_ends_the_check_is_refused(sqlite_url: str) -> None:
    """Of a root that is none, the check says nothing: it fails."""
    path = _filled(sqlite_url)
    _overwrite_root(path, "files")
    with pytest.raises(LedgerRefused, match="damaged: database disk image is malformed"):
        _open(sqlite_url)


@fault(
    "Ledger",
    "a row of it makes no sense",
    how="SQLite, other words, types and bytes",
    shows="refused as damage, with the command that mends it",
)
@pytest.mark.parametrize(
    "wound", ["state = 'DOME'", "outcome = 'lost'", "result = '{'", "name = NULL", "message = CAST(x'ff' AS TEXT)"]
)
def test_a_row_that_makes_no_sense_is_damage(sqlite_url: str, wound: str) -> None:
    """No later try mends it, and it is no fault of ours."""
    ledger = _open(sqlite_url)
    file = one(ledger, State.DECIDED)
    ledger.close()
    with closing(sqlite3.connect(_path(sqlite_url))) as db:
        db.execute("PRAGMA writable_schema = on")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'name BLOB NOT NULL', 'name BLOB')")
        db.commit()
    with closing(sqlite3.connect(_path(sqlite_url))) as db:
        db.execute(f"UPDATE files SET {wound}")
        db.commit()
    again = _open(sqlite_url)
    for read in (
        lambda: list(again.open_files(*State)),
        lambda: again.get(file.id),
        lambda: History(sqlite_url).find(),
    ):
        with pytest.raises(LedgerRefused, match="inboxd doctor --rebuild-ledger"):
            read()
            again.counts()
    again.close()


@fault(
    "Ledger",
    "rows are out of their order in its tree",
    how="SQLite, bytes of ids",
    shows="refused as damage when a change misses its row",
)
def test_a_row_that_its_tree_does_not_show_is_damage(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a ledger that is too large to be looked at before."""
    monkeypatch.setattr(opening, "_SMALL", 0)
    ledger, path = _open(sqlite_url), _path(sqlite_url)
    rows = [one(ledger, State.CLAIMED) for _ in range(60)]
    ledger.close()
    content = path.read_bytes()
    for row in rows[30:33]:
        content = content.replace(row.id.encode(), b"f" + row.id.encode()[1:])
    path.write_bytes(content)
    ledger = _open(sqlite_url)
    with pytest.raises(LedgerRefused, match=r"damaged: .*inboxd doctor --rebuild-ledger"):
        say(ledger, "dispatch", [rows[31]])
    ledger.close()


def test_the_check_at_the_start_is_bounded(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_CHECK", -1.0)
    monkeypatch.setattr(opening, "_STEPS", 1)
    first = _open(sqlite_url)
    one(first, State.DONE)
    second = _open(sqlite_url)
    one(second, State.DONE)
    second.close()
    first.close()


def test_tables_dropped_under_a_running_daemon(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.writer().exec_driver_sql("DROP TABLE files")
    with pytest.raises(LedgerRefused, match="files"):
        one(ledger, State.CLAIMED)


# Settings


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("process", 1)])
def test_sqlite_settings(sqlite_url: str, durability: str, synchronous: int) -> None:
    ledger = _open(sqlite_url, durability)
    told = {name: ledger._connected().exec_driver_sql(f"PRAGMA {name}").scalar() for name in (
        "journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint", "mmap_size",
    )}  # fmt: skip
    ledger.close()
    assert told.pop("mmap_size") in (0, None)
    assert told == {"journal_mode": "wal", "synchronous": synchronous, "busy_timeout": 5000, "wal_autocheckpoint": 4096}


@pytest.mark.parametrize("durability", ["full", "process"])
def test_postgresql_settings(postgres_url: str, durability: str) -> None:
    ledger = _open(postgres_url, durability)
    told = {name: ledger._connected().exec_driver_sql(f"SHOW {name}").scalar() for name in (
        "synchronous_commit", "statement_timeout", "lock_timeout", "application_name",
    )}  # fmt: skip
    ledger.close()
    expected = {"statement_timeout": "1min", "lock_timeout": "30s", "application_name": "inboxd"}
    assert told == {"synchronous_commit": "on", **expected}


def test_only_we_can_read_it(sqlite_url: str) -> None:
    path = _path(sqlite_url)
    old = os.umask(0)
    try:
        ledger = _open(sqlite_url)
        one(ledger, State.CLAIMED)
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        ledger.close()
    finally:
        os.umask(old)
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.id"], 0o600)


def test_a_ledger_open_to_others_is_closed_to_them(sqlite_url: str) -> None:
    _open(sqlite_url).close()
    _path(sqlite_url).chmod(0o644)
    _open(sqlite_url).close()
    assert stat.S_IMODE(_path(sqlite_url).stat().st_mode) == 0o600


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match=r"nowhere/ledger\.sqlite can't be opened: No such file"):
        _open(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite")


def test_a_password_is_never_told(postgres: Postgres) -> None:
    url = postgres.url("nowhere").replace("inboxd@", "inboxd:s3cr3t@")
    for ask in (lambda: _open(url), lambda: History(url).totals()):
        with pytest.raises(LedgerUnavailable, match="nowhere") as caught:
            ask()
        assert "s3cr3t" not in str(caught.value)
