"""CSV and JSON Lines files into database tables, a file in one transaction, whatever its size in bounded memory.

    handler: {python: "inboxd.handlers.tables:load", database: warehouse, options: {table: orders}}

Options: `table` (else the file's stem), `delimiter` (else found out), `encoding` (else utf-8). A table that does not
exist is made, each column typed by all of its values; one that does must have every column of the file.
What is no table is rejected, with the line at fault; the database has then seen nothing of it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import sqlalchemy as sa

from inboxd import File, Reject
from inboxd.handlers.columns import Kind, WrittenJson, converter, kind_of, number, type_for

_CHUNK = 1000  # rows per INSERT
_LONGEST_LINE = 1024 * 1024  # characters
_LONGEST_ROW = 4 * _LONGEST_LINE  # characters, of a CSV row with line breaks in its values
_MOST_COLUMNS = 1000
_JSON_LINES = (".jsonl", ".ndjson")


class Row(NamedTuple):
    """One row of the file. `values` are text (CSV) or what JSON has; None is no value."""

    line: int
    values: dict[str, Any]


class Source:
    """The rows of a file, as often as they are asked for."""

    def __init__(self, path: Path, *, is_json: bool, encoding: str, delimiter: str | None) -> None:
        self._path = path
        self._read = self._json_rows if is_json else self._csv_rows
        self._encoding = encoding
        self._delimiter = delimiter
        self._line = 0
        self._since_row = 0  # characters

    def rows(self) -> Iterator[Row]:
        """One after the other. Raises Reject."""
        self._line = self._since_row = 0
        with self._path.open(encoding=self._encoding, newline="") as stream:
            try:
                yield from self._read(self._lines(stream))
            except UnicodeDecodeError as error:
                raise Reject(f"after line {self._line} it is not {error.encoding}: {error.reason}") from None

    def _lines(self, stream: IO[str]) -> Iterator[str]:
        """Lines, none of which may fill the memory."""
        while line := stream.readline(_LONGEST_LINE + 1):
            self._line += 1
            self._since_row += len(line)
            if len(line) > _LONGEST_LINE or self._since_row > _LONGEST_ROW:
                raise Reject(f"line {self._line} is too long: {_LONGEST_LINE} characters at most, {_LONGEST_ROW} a row")
            if "\0" in line:
                raise Reject(f"line {self._line} holds a NUL character; it is no text")
            yield line

    def _csv_rows(self, lines: Iterator[str]) -> Iterator[Row]:
        first = next(lines, "")
        if not first.strip():
            raise Reject("its first line must name the columns, and is empty")
        delimiter = self._delimiter or max(",;\t|", key=first.count)
        csv.field_size_limit(_LONGEST_ROW)  # else it is 128 KiB, far below what we let a line have
        try:
            rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
            names = self._names(next(rows))
            for values in rows:
                self._since_row = 0
                if len(values) == len(names):
                    yield Row(self._line, {name: text or None for name, text in zip(names, values, strict=True)})
                elif values:
                    raise Reject(f"line {self._line} has {len(values)} values, the first names {len(names)} columns")
        except csv.Error as error:
            raise Reject(f"line {self._line} is no CSV: {error}") from None

    def _json_rows(self, lines: Iterator[str]) -> Iterator[Row]:
        names: list[str] = []
        columns: list[str] = []
        for line in lines:
            self._since_row = 0
            if not line.strip():
                continue
            found = self._object(line)
            if list(found) != names:
                names = list(found)
                columns = self._names(names)
            yield Row(self._line, dict(zip(columns, found.values(), strict=True)))

    def _object(self, line: str) -> dict[str, Any]:
        try:
            found = json.loads(line, parse_constant=number, parse_float=number)
        except (ValueError, RecursionError) as error:
            raise Reject(f"line {self._line} is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise Reject(f"line {self._line} is no JSON object, but a {type(found).__name__}")
        return found

    def _names(self, names: list[str]) -> list[str]:
        """Names of columns: lower case, signs other than letters and digits as underscores."""
        columns = [_plain(name) for name in names]
        if len(columns) > _MOST_COLUMNS:
            raise Reject(f"line {self._line} has {len(columns)} columns; {_MOST_COLUMNS} at most")
        if "" in columns:
            raise Reject(f"line {self._line}: column {columns.index('') + 1} has no name")
        if len(set(columns)) < len(columns):
            raise Reject(f"line {self._line}: two columns are named {max(columns, key=columns.count)!r}")
        return columns


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def load(file: File) -> dict[str, Any]:
    """The handler."""
    name = str(file.options.get("table") or _named_by_uploader(file.name))
    source = Source(
        file.path,
        is_json=file.name.lower().endswith(_JSON_LINES),
        encoding=str(file.options.get("encoding", "utf-8-sig")),
        delimiter=file.options.get("delimiter"),
    )
    if file.size == 0:
        raise Reject("it is empty")
    with file.transaction(file.options.get("database")) as connection, _faults_of_the_data():
        table = _table(connection, name, source)
        count = 0 if table is None else _insert(connection, table, source)
    return {"table": name, "rows": count}


def _named_by_uploader(name: str) -> str:
    table = _plain(Path(name).stem) or "rows"
    if table.startswith(("inboxd_", "sqlite_", "pg_")):
        raise Reject(f"table {table} is none for files; give the file another name")
    return table


@contextmanager
def _faults_of_the_data() -> Iterator[None]:
    """What the database refuses of this file it will refuse again."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        raise Reject(f"the database refuses it: {' '.join(str(error.orig).split())}") from error
    except sa.exc.DBAPIError:
        raise
    except (sa.exc.StatementError, sa.exc.IdentifierError, UnicodeEncodeError, OverflowError) as error:
        raise Reject(f"it holds what the database can't take: {error}") from error


def _table(connection: sa.Connection, name: str, source: Source) -> sa.Table | None:
    """The table, made if it is not there; None if there is neither table nor row."""
    if not sa.inspect(connection).has_table(name):
        if connection.dialect.name == "postgresql":  # somebody else may be making it just now
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"inboxd:{name}"))))
        if not sa.inspect(connection).has_table(name):
            return _made(connection, name, source)
    table = sa.Table(name, sa.MetaData(), autoload_with=connection)
    for column in table.columns:
        if isinstance(column.type, sa.JSON):
            column.type = WrittenJson(column.type, takes_null=bool(column.nullable))
    return table


def _made(connection: sa.Connection, name: str, source: Source) -> sa.Table | None:
    kinds: dict[str, set[Kind]] = {}
    for row in source.rows():
        for column, value in row.values.items():
            kinds.setdefault(column, set()).add(kind_of(value))
        if len(kinds) > _MOST_COLUMNS:
            raise Reject(f"its rows have more than {_MOST_COLUMNS} different columns")
    if not kinds:
        return None
    table = sa.Table(name, sa.MetaData(), *(sa.Column(column, type_for(found)) for column, found in kinds.items()))
    table.create(connection)
    return table


def _insert(connection: sa.Connection, table: sa.Table, source: Source) -> int:
    columns = {_plain(column.name): column for column in table.columns}
    takes = {name: converter(column) for name, column in columns.items()}
    count, rows = 0, source.rows()
    while chunk := list(islice(rows, _CHUNK)):
        connection.execute(table.insert(), _alike([_fitted(row, table, takes, columns) for row in chunk]))
        count += len(chunk)
    return count


def _fitted(
    row: Row, table: sa.Table, takes: dict[str, Callable[[Any], Any]], columns: dict[str, sa.Column[Any]]
) -> dict[str, Any]:
    fitted = {}
    for name, value in row.values.items():
        if name not in takes:
            raise Reject(f"line {row.line}: table {table.name} has no column {name!r}")
        try:
            fitted[columns[name].key] = None if value is None else takes[name](value)
        except (ValueError, ArithmeticError, TypeError):
            kind = str(columns[name].type)
            raise Reject(f"line {row.line}: {name} is {str(value)[:60]!r}, and the column takes {kind}") from None
        except RecursionError:
            raise Reject(f"line {row.line}: {name} is nested too deeply") from None
    return fitted


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one INSERT name the same columns; those of JSON Lines may differ."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(names) | row for row in rows]
