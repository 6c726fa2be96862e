"""Between rows and records. Text that a database refuses (NUL, lone surrogates) is escaped; names are bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from inboxd.model import Ending, Failure, InboxFile, Outcome, State


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


def _stored_moment(moment: int) -> int:
    """Whoever uploads a file sets its time, and some file systems keep any: none may be too large for a column."""
    return _signed(min(max(moment, _FIRST), _LAST))


def _moment(stored: int) -> int:
    return (stored - _FIRST) % (1 << 64) + _FIRST


def _optional(encode: Callable[[Any], Any], column: str) -> Callable[[InboxFile], Any]:
    return lambda file: None if (value := getattr(file, column)) is None else encode(value)


#: How a column is read from a record, where that is more than an attribute.
_READERS: dict[str, Callable[[InboxFile], Any]] = {
    "folder": lambda file: os.fsencode(file.folder),
    "name": lambda file: os.fsencode(file.name),
    "dev": lambda file: _signed(file.dev),
    "ino": lambda file: _signed(file.ino),
    "mtime_ns": lambda file: _stored_moment(file.mtime_ns),
    "outcome": _optional(str, "outcome"),
    "reason": _optional(harmless, "reason"),
    "message": _optional(harmless, "message"),
    "destination": _optional(os.fsencode, "destination"),
    "result": _optional(json.dumps, "result"),
    "source": _optional(harmless, "source"),
    "companions": lambda file: json.dumps(file.companions) if file.companions else None,
}


def reader(column: str) -> Callable[[InboxFile], Any]:
    """What gives a column's value from a record; only what a statement needs is ever converted."""
    return _READERS.get(column) or attrgetter(column)


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


def failure_of(row: Mapping[Any, Any]) -> Failure:
    """The record of a failure's row."""
    return Failure(
        row["file_id"], row["attempt"], row["at"], row["seconds"], Ending(row["ending"]), row["error_class"],
        row["message"], row["detail"], bool(row["charged"]),
    )  # fmt: skip
