"""What the folders in which files end tell of them, where no ledger does: their places, their times, their sidecars."""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inboxd.beneath import look
from inboxd.custody import disk
from inboxd.model import Ending, Failure, InboxFile, Outcome, State, new_id

REBUILT = "rebuilt"  # why such a file is where it is: nobody knows any more

_ID = re.compile(r"[0-9a-f]{32}")
_SIDECAR = ".error.json"
_TAGGED = re.compile(r"\.[0-9a-f]{8}\.error\.json$")
_TICK = 0.01  # seconds by which the clock of a file system may be behind ours
_LARGEST = 8 << 20  # bytes of a sidecar
_MOST = (1 << 31) - 1  # attempts that a row can count
_UNCHARGED = (Ending.RELEASED, Ending.UNAVAILABLE, Ending.BROKEN)  # as lifecycle.decide has it

Story = dict[str, Any]
Likeness = tuple[int, int, int]


class Place(NamedTuple):
    """What is asked of one inbox."""

    inbox: str
    finals: dict[Outcome, Path]
    layout: str = ""
    hashes: bool = False  # its duplicates are told by their contents
    work: Path | None = None


class Relic(NamedTuple):
    """An entry in a folder in which files end."""

    outcome: Outcome
    destination: str  # relative to the outcome's folder
    found: os.stat_result
    story: Story | None  # its sidecar's
    sha256: str | None

    @property
    def likeness(self) -> Likeness:
        """As `likeness` has it."""
        return (self.found.st_ino, self.found.st_size, self.found.st_mtime_ns)


def likeness(row: InboxFile) -> Likeness:
    """What a rename leaves as it is. The device is the inbox's, and may have another number since the last boot."""
    return (row.ino, row.size, row.mtime_ns)


def relics(place: Place) -> Iterator[Relic]:
    """All of an inbox, folder by folder; sidecars come with their files. Raises OSError."""
    for outcome, root in place.finals.items():
        hashes = place.hashes and outcome is Outcome.PROCESSED
        for folder, folders, names, fd in os.fwalk(root, onerror=_raise, follow_symlinks=False):
            stories = _stories(fd, names) if outcome is Outcome.ERROR else {}
            tagged = {sidecar: story for sidecar, story in stories.items() if _TAGGED.search(sidecar)}
            for name in (*names, *folders):
                found = look(fd, name) if name not in stories else None  # whoever reads here may take it at any moment
                if found is None or stat.S_ISDIR(found.st_mode):
                    continue
                sha256 = _sha256(fd, name) if hashes and stat.S_ISREG(found.st_mode) else None
                destination = os.path.relpath(os.path.join(folder, name), root)
                yield Relic(outcome, destination, found, _story_of(name, stories, tagged), sha256)


def ended(place: Place, relic: Relic, row: InboxFile | None, file_id: str | None) -> tuple[InboxFile, list[Failure]]:
    """Its record, DONE, and its failures. `row`: what an older ledger says; `file_id`: its own, if it is known."""
    story, moment = relic.story or {}, relic.found.st_ctime + _TICK  # when it was renamed to its place
    folder, name = _came_as(relic.destination, place.layout, story)
    failures = _failures(story) if relic.outcome is Outcome.ERROR else []
    told = _moment(story.get("finished_at"))
    finished = min(told + 1.0, moment) if told else moment  # a sidecar tells whole seconds
    claimed = min(_moment(story.get("claimed_at")) or finished, finished)
    record = row or InboxFile(file_id or new_id(claimed), place.inbox, folder, name, 0, 0, 0, 0, claimed_at=claimed)
    attempts, charged = (0, 0) if relic.outcome is Outcome.QUARANTINE else _counted(story, record)
    return record._replace(
        dev=relic.found.st_dev, ino=relic.found.st_ino, size=relic.found.st_size, mtime_ns=relic.found.st_mtime_ns,
        state=State.DONE, outcome=relic.outcome, destination=relic.destination,
        attempts=attempts, failures=charged,
        reason=_text(story.get("reason")) or REBUILT, message=_text(story.get("message")) or None,
        finished_at=max(finished, record.claimed_at), sha256=relic.sha256 or _digest(story.get("sha256")),
    ), [failure._replace(file_id=record.id) for failure in failures]  # fmt: skip


def _raise(error: OSError) -> None:
    """Of a folder below: one that is gone was taken, with all that was in it."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _stories(folder_fd: int, names: list[str]) -> dict[str, Story]:
    """The sidecars of ours among these, by their names."""
    read = {name: _read(folder_fd, name) for name in names if name.endswith(_SIDECAR)}
    return {name: story for name, story in read.items() if story is not None}


def _read(folder_fd: int, name: str) -> Story | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
        with os.fdopen(fd, "rb") as stream:
            story = json.loads(stream.read(_LARGEST)) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(story, dict) or not {"id", "inbox", "retry"} <= story.keys():
        return None
    return story if _ID.fullmatch(_text(story["id"])) else None


def _story_of(name: str, stories: dict[str, Story], tagged: dict[str, Story]) -> Story | None:
    """As sidecar.py names them; the id tells whose it is where a name was taken.

    The sidecar of a file that was taken away may be there still: the last one counts.
    """
    found = [story for sidecar, story in tagged.items() if _tagged(name, story) == sidecar]
    if (usual := disk.fit(name, _SIDECAR)) in stories:
        found.append(stories[usual])
    return max(found, key=lambda story: _moment(story.get("finished_at")), default=None)


def _tagged(name: str, story: Story) -> str:
    return disk.fit(name, f".{story['id'][-8:]}{_SIDECAR}")


def _came_as(destination: str, layout: str, story: Story) -> tuple[str, str]:
    """Folder and name as uploaded: by the sidecar, or else by its place less the layout's folder."""
    told, of = _text(story.get("name")), _text(story.get("folder"))
    if told and not {"\\", "\x00"}.intersection(told + of):  # the sidecar escapes what is no UTF-8
        return of, told
    parts = destination.split("/")
    depth = layout.count("/") + 1 if layout else 0
    if 0 < depth < len(parts) and _is_day("/".join(parts[:depth]), layout):
        parts = parts[depth:]
    return "/".join(parts[:-1]), parts[-1]


def _is_day(folder: str, layout: str) -> bool:
    try:
        time.strptime(folder, layout)
    except ValueError:
        return False
    return True


def _counted(story: Story, record: InboxFile) -> tuple[int, int]:
    """Attempts and failures since it was last retried; a sidecar lists those of its whole life as well."""
    try:
        attempts, charged = _count(story["counted"]["attempts"]), _count(story["counted"]["failures"])
    except (KeyError, TypeError, ValueError):
        attempts, charged = max(1, record.attempts), record.failures
    return attempts, min(attempts, charged)


def _failures(story: Story) -> list[Failure]:
    found = []
    attempts = story.get("attempts")
    for one in attempts if isinstance(attempts, list) else ():
        try:
            ending = Ending(one["ending"])
            found.append(
                Failure(
                    "", _count(one["attempt"]), _moment(one["at"]), float(one["seconds"]), ending,
                    _text(one["error_class"]), _text(one["message"]), charged=ending not in _UNCHARGED,
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue
    if found:
        found[-1] = found[-1]._replace(detail=_text(story.get("detail")))
    return found


def _sha256(folder_fd: int, name: str) -> str | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except (PermissionError, BlockingIOError):  # its uploader may have it under a lease still
        return None
    with os.fdopen(fd, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _moment(text: Any) -> float:
    """Wall clock seconds; 0.0 for what is no moment of ours."""
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except (TypeError, ValueError):
        return 0.0


def _count(value: Any) -> int:
    """Raises ValueError for what a row can't hold."""
    if isinstance(value, int) and 0 <= value <= _MOST:
        return value
    raise ValueError(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _digest(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) else None
