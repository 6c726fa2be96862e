"""Between rows and records. Text that a database refuses (NUL, lone surrogates) is escaped; names are bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from inboxd.lifecycle import FINAL
from inboxd.model import Ending, Failure, InboxFile, Outcome, State

Values = dict[str, Any]


def harmless(text: str | None) -> str | None:
    """What PostgreSQL and SQLite can both store as text."""
    if text is None:
        return None
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _signed(number: int) -> int:
    """An inode number may need all 64 bits; databases keep one for the sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


def file_values(file: InboxFile) -> Values:
    """All columns of a file's row."""
    return {
        "id": file.id,
        "inbox": file.inbox,
        "folder": os.fsencode(file.folder),
        "name": os.fsencode(file.name),
        "dev": _signed(file.dev),
        "ino": _signed(file.ino),
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "state": str(file.state),
        "open": 0 if file.state in FINAL else 1,
        "batch": file.batch,
        "attempts": file.attempts,
        "failures": file.failures,
        "not_before": file.not_before,
        "claimed_at": file.claimed_at,
        "started_at": file.started_at,
        "finished_at": file.finished_at,
        "outcome": str(file.outcome) if file.outcome else None,
        "reason": harmless(file.reason),
        "message": harmless(file.message),
        "destination": os.fsencode(file.destination) if file.destination is not None else None,
        "result": json.dumps(file.result) if file.result is not None else None,
        "sha256": file.sha256,
        "source": file.source,
        "companions": json.dumps(file.companions) if file.companions else None,
    }


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
        mtime_ns=row["mtime_ns"],
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


def failure_values(failure: Failure) -> Values:
    """All columns of a failure's row."""
    return {
        "file_id": failure.file_id, "attempt": failure.attempt, "at": failure.at, "seconds": failure.seconds,
        "ending": str(failure.ending), "error_class": harmless(failure.error_class),
        "message": harmless(failure.message), "detail": harmless(failure.detail), "charged": int(failure.charged),
    }  # fmt: skip


def failure_of(row: Mapping[Any, Any]) -> Failure:
    """The record of a failure's row."""
    return Failure(
        row["file_id"], row["attempt"], row["at"], row["seconds"], Ending(row["ending"]), row["error_class"],
        row["message"], row["detail"], bool(row["charged"]),
    )  # fmt: skip
