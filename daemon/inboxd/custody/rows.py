"""Between rows and records. Text that a database refuses (NUL, lone surrogates) is escaped; names are bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

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


#: How a column that is more than the record's value is made of it; None stays None.
_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "folder": os.fsencode,
    "name": os.fsencode,
    "dev": _signed,
    "ino": _signed,
    "mtime_ns": _stored_moment,
    "outcome": str,
    "reason": harmless,
    "message": harmless,
    "destination": os.fsencode,
    "result": json.dumps,
    "source": harmless,
    "companions": _companions,
}


def rows_of(records: Sequence[InboxFile], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """A row for each record: column by column, which takes a third of the time that cell by cell does."""
    made = []
    for column in columns:
        values = list(map(attrgetter(column), records))
        encode = _ENCODERS.get(column)
        made.append([None if value is None else encode(value) for value in values] if encode else values)
    return list(zip(*made, strict=True))


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
