"""Between rows and records. Text that a database refuses (NUL, lone surrogates) is escaped; names are bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from inboxd.custody import disk
from inboxd.custody.engine import REMEDY
from inboxd.errors import LedgerRefused
from inboxd.model import Ending, Failure, InboxFile, Outcome, State

A = TypeVar("A")
B = TypeVar("B")


def harmless(text: str) -> str:
    """What PostgreSQL and SQLite can both store as text, and be asked for."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _signed(number: int) -> int:
    """An inode number may need all 64 bits; databases keep one for the sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


#: The first moment of ext4 and XFS, 1901, in nanoseconds. Theirs, up to 2486, fit into 64 bits from here on.
_FIRST = -(1 << 31) * 10**9
_LAST = _FIRST + (1 << 64) - 1


def kept_moment(moment: int) -> int:
    """Whoever uploads a file sets its time, and some file systems keep any: none may be too large for a column."""
    return min(max(moment, _FIRST), _LAST)


def _stored_moment(moment: int) -> int:
    return _signed(kept_moment(moment))


def _moment(stored: int) -> int:
    return (stored - _FIRST) % (1 << 64) + _FIRST


def _companions(names: tuple[str, ...]) -> str | None:
    return json.dumps(names) if names else None


Column = Sequence[Any]


def _all(encode: Callable[[Any], Any]) -> Callable[[Column], Column]:
    """Value by value; None stays None."""

    def encoded(values: Column) -> Column:
        if values.count(None) == len(values):
            return values
        return [None if value is None else encode(value) for value in values]

    return encoded


def _numbers(values: Column) -> Column:
    return values if max(values) < 1 << 63 else [_signed(value) for value in values]


def _moments(values: Column) -> Column:
    usual = min(values) >= _FIRST and max(values) < 1 << 63
    return values if usual else [_stored_moment(value) for value in values]


#: How columns that are more than the records' values are made of them.
_ENCODERS: dict[str, Callable[[Column], Column]] = {
    "folder": _all(disk.encoded),
    "name": _all(disk.encoded),
    "dev": _numbers,
    "ino": _numbers,
    "mtime_ns": _moments,
    "outcome": _all(str),
    "reason": _all(harmless),
    "message": _all(harmless),
    "destination": _all(disk.encoded),
    "result": _all(json.dumps),
    "source": _all(harmless),
    "companions": _all(_companions),
}


class Rows:
    """Makes rows of records: all columns in one call for a record, and column by column what they want otherwise."""

    def __init__(self, columns: Sequence[str]) -> None:
        places = [InboxFile._fields.index(column) for column in columns]
        self._pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))
        self._encoders = [(at, _ENCODERS[column]) for at, column in enumerate(columns) if column in _ENCODERS]

    def of(self, records: Sequence[InboxFile]) -> list[tuple[Any, ...]]:
        """A row for each record."""
        rows = list(map(self._pick, records))
        if not (self._encoders and rows):
            return rows
        columns: list[Column] = list(zip(*rows, strict=True))
        for at, encode in self._encoders:
            columns[at] = encode(columns[at])
        return list(zip(*columns, strict=True))


def sensible(make: Callable[[A], B]) -> Callable[[A], B]:
    """`make`, for what a row says: what is none of our words is damage, which no later try mends: LedgerRefused."""

    def made(said: A) -> B:
        try:
            return make(said)
        except (ValueError, TypeError) as error:
            raise LedgerRefused(f"a row of the ledger makes no sense: {error}", hint=REMEDY) from error

    return made


state_of: Callable[[str], State] = sensible(State)
outcome_of: Callable[[str], Outcome] = sensible(Outcome)


@sensible
def file_of(row: Mapping[Any, Any]) -> InboxFile:
    """The record of a row."""
    return InboxFile(
        id=row["id"],
        inbox=row["inbox"],
        folder=os.fsdecode(bytes(row["folder"])),
        name=os.fsdecode(bytes(row["name"])),
        dev=row["dev"] % (1 << 64),
        ino=row["ino"] % (1 << 64),
        size=row["size"],
        mtime_ns=_moment(row["mtime_ns"]),
        state=State(row["state"]),
        batch=row["batch"],
        attempts=row["attempts"],
        failures=row["failures"],
        not_before=row["not_before"],
        claimed_at=row["claimed_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        message=row["message"],
        destination=os.fsdecode(bytes(row["destination"])) if row["destination"] is not None else None,
        result=json.loads(row["result"]) if row["result"] else None,
        sha256=row["sha256"],
        source=row["source"],
        companions=tuple(json.loads(row["companions"])) if row["companions"] else (),
    )


def failure_values(failure: Failure) -> tuple[Any, ...]:
    """A failure's row, in the order of schema.failures."""
    return (
        failure.file_id, failure.attempt, failure.at, failure.seconds, str(failure.ending),
        harmless(failure.error_class), harmless(failure.message), harmless(failure.detail), int(failure.charged),
    )  # fmt: skip


@sensible
def failure_of(row: Mapping[Any, Any]) -> Failure:
    """The record of a failure's row."""
    return Failure(
        row["file_id"], row["attempt"], row["at"], row["seconds"], Ending(row["ending"]), row["error_class"],
        row["message"], row["detail"], bool(row["charged"]),
    )  # fmt: skip
