"""CSV and JSON Lines files into database tables, a file in one transaction, whatever its size in bounded memory.

    handler: {python: "inboxd.handlers.tables:load", database: warehouse, options: {table: orders}}

Options: `table` (else the file's stem), `delimiter` (else found out), `encoding` (utf-8). A table that does not exist
is made, its columns typed by the first rows; one that does must have all the columns of the file.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any

import sqlalchemy as sa

from inboxd import File, Reject

_CHUNK = 1000  # rows per INSERT
_SAMPLE = 100  # rows that decide the types of a new table
_LONGEST_LINE = 1024 * 1024  # characters

Row = dict[str, Any]


def load(file: File) -> dict[str, Any]:
    """The handler. Rejects what is no table, with the line at fault."""
    name = str(file.options.get("table") or _table_name(file.name))
    with file.path.open(encoding=str(file.options.get("encoding", "utf-8-sig")), newline="") as stream:
        rows = _json_rows(stream) if file.name.lower().endswith((".jsonl", ".ndjson")) else _csv_rows(stream, file)
        try:
            sample = list(islice(rows, _SAMPLE))
            if not sample:
                raise Reject("it holds no rows")
            with file.transaction(str(file.options.get("database", "warehouse"))) as connection:
                table = _table(connection, name, sample)
                count = _insert(connection, table, chain(sample, rows))
        except UnicodeDecodeError as error:
            raise Reject(f"it is not {error.encoding}: {error.reason} at byte {error.start}") from None
    return {"table": name, "rows": count}


def _table_name(name: str) -> str:
    stem = name.rpartition(".")[0] or name
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "rows"


def _lines(stream: IO[str]) -> Iterator[str]:
    """Lines, none of which may fill the memory."""
    while line := stream.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise Reject(f"it has a line longer than {_LONGEST_LINE} characters")
        if "\0" in line:
            raise Reject("it holds a NUL character; it is no text")
        yield line


def _csv_rows(stream: IO[str], file: File) -> Iterator[Row]:
    lines = _lines(stream)
    head = list(islice(lines, 20))
    reader = csv.reader(chain(head, lines), delimiter=_delimiter(head, file), strict=True)
    try:
        names = [_column(name) for name in next(reader, [])]
        if len(set(names)) < len(names) or "" in names:
            raise Reject("its first line must name each column, once")
        for row in reader:
            if row and len(row) != len(names):
                raise Reject(f"line {reader.line_num} has {len(row)} values, the first line names {len(names)} columns")
            if row:
                yield {name: _value(text) for name, text in zip(names, row, strict=True)}
    except csv.Error as error:
        raise Reject(f"line {reader.line_num} is no CSV: {error}") from None


def _delimiter(head: Sequence[str], file: File) -> str:
    chosen = file.options.get("delimiter")
    if chosen:
        return str(chosen)
    first = head[0] if head else ""
    return max(",;\t|", key=first.count)


def _json_rows(stream: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(stream), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Reject(f"line {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise Reject(f"line {number} is no JSON object")
        yield {
            _column(name): json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()
        }


def _column(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower()


def _value(text: str) -> Any:
    """Numbers as numbers, if writing them gives the same text again; empty is NULL."""
    if not text:
        return None
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if str(value) == text and abs(value) < 1 << 63 else text
    return text


def _table(connection: sa.Connection, name: str, sample: Sequence[Row]) -> sa.Table:
    """The table, made if it is not there; a Reject where it lacks a column."""
    columns = list(dict.fromkeys(chain.from_iterable(sample)))
    metadata = sa.MetaData()
    if not sa.inspect(connection).has_table(name):
        table = sa.Table(name, metadata, *(sa.Column(column, _kind(sample, column)) for column in columns))
        table.create(connection)
        return table
    return sa.Table(name, metadata, autoload_with=connection)


def _kind(sample: Sequence[Row], column: str) -> sa.types.TypeEngine[Any]:
    kinds = {type(row[column]) for row in sample if row.get(column) is not None}
    if kinds == {bool}:
        return sa.Boolean()
    if kinds == {int}:
        return sa.BigInteger()
    return sa.Double() if kinds and kinds <= {int, float} else sa.Text()


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> int:
    known = {column.name: isinstance(column.type, sa.Text | sa.String) for column in table.columns}
    count, source = 0, iter(rows)
    while chunk := list(islice(source, _CHUNK)):
        for number, row in enumerate(chunk, count + 1):
            unknown = [name for name in row if name not in known]
            if unknown:
                raise Reject(f"row {number}: table {table.name} has no column {unknown[0]!r}")
        whole = [{name: _fitting(row.get(name), text) for name, text in known.items()} for row in chunk]
        connection.execute(table.insert(), whole)
        count += len(chunk)
    return count


def _fitting(value: Any, text: bool) -> Any:
    """A number in a column of text is text."""
    return str(value) if text and value is not None else value
