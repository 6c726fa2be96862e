"""The ledger as it stands, read-only, through one short connection; tables are known by their columns."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

Row = dict[str, Any]

_OPEN = "SELECT id FROM files WHERE open = 1"
#: Rows of the newest files, and of all that is on its way.
_SOME = {
    "files": "id >= {oldest} OR open = 1",
    "failures": "file_id >= {oldest}",
    "items": f"id >= {{oldest}} OR state <> 'ACKED' OR id IN ({_OPEN})",
    "sends": f"file_id >= {{oldest}} OR open = 1 OR file_id IN ({_OPEN})",
}
#: Where those ended that are not processed: few, and an index has them.
_ASIDE = "SELECT inbox, outcome, destination FROM files WHERE outcome <> 'processed' AND state IN ('DONE', 'DECIDED')"


class Ledger:
    """All rows, read through one short read-only connection; tables are known by their columns."""

    def __init__(self, place: str, newest: int | None = None) -> None:
        """`newest`: read only the rows of so many files, besides those on their way. Raises database errors."""
        self.place = place
        self._newest = newest
        self.tables: dict[str, list[Row]] = {}
        self.aside: set[tuple[str, str, str]] = set()  # inbox, outcome and place of all files that are not processed
        self.problems: list[str] = []
        if "://" in place:
            self._read_postgresql()
        elif os.path.exists(place):
            self._read_sqlite()

    @property
    def name(self) -> str:
        """For people: of a server's nothing that is secret."""
        return "in the database" if "://" in self.place else self.place

    def _read_sqlite(self) -> None:
        try:
            self._read_file(self.place, "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            with _copied(self.place) as copy:  # a transaction that was cut off is to be taken back first, by writing
                self._read_file(copy, "rw")

    def _read_file(self, place: str, mode: str) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{place_as_uri(place)}?mode={mode}", uri=True, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")  # all tables at the same moment
            verdict = [row[0] for row in db.execute("PRAGMA integrity_check")]
            self.problems = [] if verdict == ["ok"] else verdict
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            self.tables = {name: [dict(row) for row in db.execute(self._query(name))] for name in names}
            self.aside = self._places(db.execute(_ASIDE)) if "files" in names else set()

    def _read_postgresql(self) -> None:
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self.place.replace("+psycopg", ""), row_factory=dict_row) as db:
            db.read_only = True
            db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # all tables at the same moment
            names = [
                row["tablename"]
                for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
            ]
            self.tables = {name: list(db.execute(self._query(name))) for name in names}
            self.aside = self._places(db.execute(_ASIDE)) if "files" in names else set()

    @staticmethod
    def _places(rows: Iterable[Row]) -> set[tuple[str, str, str]]:
        return {(row["inbox"], row["outcome"], os.fsdecode(bytes(row["destination"]))) for row in rows}

    def _query(self, table: str) -> str:
        """Our ids are in the order of time."""
        every = f'SELECT * FROM "{table}"'
        if self._newest is None or table not in _SOME:
            return every
        oldest = f"COALESCE((SELECT id FROM files ORDER BY id DESC LIMIT 1 OFFSET {self._newest:d}), '')"
        return f"{every} WHERE {_SOME[table].format(oldest=oldest)}"

    def _table(self, *columns: str) -> list[Row]:
        """The rows of the table that has these columns."""
        for rows in self.tables.values():
            if rows and set(columns) <= set(rows[0]):
                return rows
        return []

    @cached_property
    def rows(self) -> list[Row]:
        """One for each file; names as os.fsdecode gives them."""
        decoded = ("name", "folder", "destination")
        return [
            {key: os.fsdecode(bytes(value)) if key in decoded and isinstance(value, bytes | memoryview) else value
             for key, value in row.items()}
            for row in self._table("id", "state", "destination", "claimed_at")
        ]  # fmt: skip

    @cached_property
    def sends(self) -> list[Row]:
        rows = self._table("file_id", "destination", "due_at")
        return [{**row, "name": os.fsdecode(bytes(row["name"]))} for row in rows]

    @cached_property
    def failures(self) -> list[Row]:
        return self._table("file_id", "attempt", "ending")

    @cached_property
    def items(self) -> list[Row]:
        return self._table("source", "item", "version", "ack")

    @cached_property
    def totals(self) -> list[Row]:
        return self._table("inbox", "outcome", "files", "bytes")

    @property
    def wal_size(self) -> int:
        with contextlib.suppress(OSError):
            return os.stat(self.place + "-wal").st_size
        return 0


@contextlib.contextmanager
def _copied(place: str) -> Iterator[str]:
    """The database with its journals, elsewhere for a moment. Such a one is small: only before it was first used as a
    ledger it has a journal that is played back (https://sqlite.org/lockingv3.html#hot_journals).
    """
    with tempfile.TemporaryDirectory(prefix="inboxd-") as folder:
        copy = os.path.join(folder, "ledger.sqlite")
        for suffix in ("", "-journal", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(place + suffix, copy + suffix)
        yield copy


def place_as_uri(path: str) -> str:
    """A path inside an SQLite URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
