"""NAME.error.json, beside an error: what has become of it, in words for people and for programs.

An upload may have such a name, too. What does not tell the id of the very file is nobody's sidecar, and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inboxd.beneath import look
from inboxd.calling import command
from inboxd.custody import disk
from inboxd.model import Failure, InboxFile

_ENDING = ".error.json"


def _names(name: str, file_id: str) -> tuple[str, str]:
    """What the sidecar of an error may be called: the usual name, and the one where that is taken."""
    return disk.fit(name, _ENDING), disk.fit(name, f".{file_id[-8:]}{_ENDING}")


def place(work_fd: int, target_fd: int, name: str, file_id: str, told: dict[str, Any]) -> None:
    """Beside where the file will lie under `name`. Written under its id in work/, then renamed. Raises OSError."""
    draft = file_id + _ENDING
    disk.write_new(work_fd, draft, _written(told))
    usual, other = _names(name, file_id)
    try:
        disk.rename_new(work_fd, draft, target_fd, usual)
    except FileExistsError:
        target = usual if _speaks_of(target_fd, usual, file_id) else other
        os.rename(draft, target, src_dir_fd=work_fd, dst_dir_fd=target_fd)


def is_beside(folder_fd: int, name: str, file_id: str) -> bool:
    """It lies there, and tells of this file."""
    return any(_speaks_of(folder_fd, one, file_id) for one in _names(name, file_id))


def remove(folder_fd: int, name: str, file_id: str) -> None:
    """The file has gone from there, or goes elsewhere. Raises OSError."""
    for one in _names(name, file_id):
        if _speaks_of(folder_fd, one, file_id):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(one, dir_fd=folder_fd)


def content(file: InboxFile, failures: Sequence[Failure], config: Path | None = None) -> dict[str, Any]:
    """What stands in NAME.error.json (docs/handlers.md lists the keys)."""
    last = failures[-1] if failures else None
    return {
        "id": file.id,
        "inbox": file.inbox,
        "name": file.name.encode("utf-8", "backslashreplace").decode(),
        "folder": file.folder.encode("utf-8", "backslashreplace").decode(),
        "source": file.source,
        "reason": file.reason,
        "error_class": last.error_class if last else "",
        "message": file.message or (last.message if last else ""),
        "detail": last.detail if last else "",
        "attempts": [
            {
                "attempt": failure.attempt, "at": _iso(failure.at), "seconds": round(failure.seconds, 6),
                "ending": str(failure.ending), "error_class": failure.error_class, "message": failure.message,
            }
            for failure in failures
        ],
        "counted": {"attempts": file.attempts, "failures": file.failures},
        "size": file.size,
        "sha256": file.sha256,
        "claimed_at": _iso(file.claimed_at),
        "finished_at": _iso(file.finished_at or 0.0),
        "retry": command(f"retry {file.id}", config),
    }  # fmt: skip


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _speaks_of(folder_fd: int, name: str, file_id: str) -> bool:
    """What lies there is this file's sidecar. It may be an upload: only its head is read."""
    found = look(folder_fd, name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    head = _written({"id": file_id})[:-3]
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
        with os.fdopen(fd, "rb") as stream:
            return stream.read(len(head)) == head
    return False


def _written(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=True).encode() + b"\n"
