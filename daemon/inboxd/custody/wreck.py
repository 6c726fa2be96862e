"""What can still be read of a SQLite ledger that may be damaged: table by table, from both ends up to the damage.

Nothing is written to it. Each row is judged by itself: types, words, id. Unsound ones are counted, and left.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Column, LargeBinary, String, Table
from sqlalchemy import Double as Number
from sqlalchemy.sql.sqltypes import Text

from inboxd.custody.items import item_of
from inboxd.custody.rows import failure_of, file_of
from inboxd.custody.sends import send_of
from inboxd.errors import LedgerRefused
from inboxd.lifecycle import FINAL
from inboxd.model import InboxFile, State
from inboxd.sends import OPEN_SENDS

Row = dict[str, Any]

_ID = re.compile(r"[0-9a-f]{32}")
_IDS = ("id", "file_id")
#: Raises for a row whose words are none of ours.
_RECORDS: dict[str, Callable[[Row], Any]] = {
    "files": file_of, "failures": failure_of, "items": item_of, "sends": send_of,
}  # fmt: skip


class Wreck:
    """A ledger's file, with its log beside it. `path` need not be a database, nor be there at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable: Counter[str] = Counter()  # rows that were unsound, by table
        self.broken: set[str] = set()  # tables that could not be read from one end to the other

    def word(self, statement: str) -> str | None:
        """The only value that a statement finds; None where it can't be read."""
        try:
            with closing(self._open()) as db:
                found = db.execute(statement).fetchone()
        except sqlite3.Error:
            return None
        return str(found[0]) if found else None

    def rows(self, table: Table) -> Iterator[Row]:
        """The sound rows, each once."""
        keys = [column.name for column in table.primary_key]
        last = None
        for row in self._read(table, keys, "ASC"):
            last = [row[key] for key in keys]
            if self._is_sound(table, row):
                yield row
        if table.name in self.broken:
            for row in self._read(table, keys, "DESC"):
                if last is not None and _is_read(row, keys, last):
                    return
                if self._is_sound(table, row):
                    yield row

    def _read(self, table: Table, keys: Collection[str], order: str) -> Iterator[Row]:
        """Rows in the order of their keys, as far as that goes. A cursor that goes back has met damage, too."""
        known = {column.name for column in table.columns}
        by = ", ".join(f"{key} {order}" for key in keys)
        before = None
        try:
            with closing(self._open()) as db:
                cursor = db.execute(f"SELECT * FROM {table.name} ORDER BY {by}")
                names = [column[0] for column in cursor.description]
                for values in cursor:
                    row = {name: value for name, value in zip(names, values, strict=True) if name in known}
                    key = [row[name] for name in keys]
                    if before is not None and (key <= before if order == "ASC" else key >= before):
                        self.broken.add(table.name)
                        return
                    before = key
                    yield row
        except (sqlite3.Error, TypeError, KeyError):  # keys of other types can't be compared
            self.broken.add(table.name)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)
        db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return db

    def _is_sound(self, table: Table, row: Row) -> bool:
        sound = all(_fits(column, row) for column in table.columns) and _is_ours(table.name, row)
        self.unreadable[table.name] += not sound
        return sound


def _fits(column: Column[Any], row: Row) -> bool:
    """The value is of the column's type; one that an older schema has no column for has a default."""
    value = row.get(column.name)
    if value is None:
        return bool(column.nullable) or (column.name not in row and column.server_default is not None)
    if isinstance(column.type, LargeBinary):
        return isinstance(value, bytes)
    if isinstance(column.type, Number):
        return isinstance(value, float | int)
    if not isinstance(column.type, String | Text):
        return isinstance(value, int)
    if column.name in _IDS and not (isinstance(value, str) and _ID.fullmatch(value)):
        return False
    return isinstance(value, str) and _encodes(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _is_ours(table: str, row: Row) -> bool:
    """What it says can be said at all."""
    try:
        record = _RECORDS[table](row)
    except (LedgerRefused, KeyError):
        return False
    if isinstance(record, InboxFile):
        row["open"] = int(record.state not in FINAL)
        ended = record.outcome and record.destination and record.finished_at is not None
        return bool(ended) or record.state not in (State.DECIDED, State.DONE)
    if table == "sends":
        row["open"] = int(record.state in OPEN_SENDS)
    return True


def _is_read(row: Row, keys: Collection[str], last: list[Any]) -> bool:
    """It came from the other end already. Keys that are damaged may be of another type: then nobody can say."""
    try:
        return [row[key] for key in keys] <= last
    except TypeError:
        return False
