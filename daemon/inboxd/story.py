"""What the journal tells of the files: one line each up to a rate, one per batch above it; trouble always singly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from inboxd import events
from inboxd.clock import Clock
from inboxd.custody.claim import Taken
from inboxd.events import emit
from inboxd.model import Concluded, InboxFile, Outcome
from inboxd.progress import LineBudget

_MOST_TOLD = 400  # files in one line; journald drops a record of more than 1024 fields (ENTRY_FIELD_COUNT_MAX)


class Story:
    """Turns what the pipeline did into events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines = LineBudget()

    def claimed(self, taken: Taken) -> None:
        """Files are ours now, or were not to be had."""
        for file in taken.claimed if events.is_told(events.FILE_CLAIMED) else ():
            emit(events.FILE_CLAIMED, **_fields(file))
        for file in taken.gone:
            emit(events.FILE_ABANDONED, **_fields(file), reason=file.reason)

    def concluded(self, concluded: Iterable[Concluded]) -> None:
        """Reports were judged; outcomes are told when they are delivered."""
        for one in concluded:
            failure = one.failure
            if one.verb == "wait" and failure is not None:
                emit(
                    events.FILE_WAITING, **_fields(one.file), attempt=one.file.attempts, ending=failure.ending,
                    message=failure.message, delay=one.delay, seconds=failure.seconds,
                    error_class=failure.error_class, detail=failure.detail,
                )  # fmt: skip
            elif one.verb == "release" and failure is not None:
                emit(
                    events.FILE_RELEASED, **_fields(one.file), attempt=one.file.attempts,
                    ending=failure.ending, message=failure.message,
                )  # fmt: skip

    def delivered(self, inbox: str, files: Sequence[InboxFile]) -> None:
        """Files lie at their destinations."""
        processed = [file for file in files if file.outcome is Outcome.PROCESSED]
        for file in files:
            if file.outcome is Outcome.ERROR:
                emit(
                    events.FILE_ERROR, **_ended(file), reason=file.reason, attempt=file.attempts,
                    message=file.message or file.reason,
                )  # fmt: skip
            elif file.outcome is Outcome.QUARANTINE:
                emit(events.FILE_QUARANTINED, **_ended(file), reason=file.reason)
        together = not self._lines.take(len(processed), self._clock.monotonic())
        for group in _parts(processed, _MOST_TOLD if together else 1):
            _tell_processed(inbox, group)


def _tell_processed(inbox: str, files: Sequence[InboxFile]) -> None:
    """One line. For many it has the id of each, so that the journal finds it by any of them."""
    if len(files) == 1:
        emit(events.FILE_PROCESSED, **_ended(files[0]), reason=files[0].reason, result=files[0].result)
        return
    emit(
        events.FILES_PROCESSED, inbox=inbox, count=len(files), seconds=max(map(_seconds, files)),
        bytes=sum(file.size for file in files), outcome=Outcome.PROCESSED,
        batch=sorted({file.batch for file in files if file.batch}), file_id=[file.id for file in files],
    )  # fmt: skip


def _parts(files: Sequence[InboxFile], most: int) -> Iterator[Sequence[InboxFile]]:
    """In their order, at most so many at a time."""
    return (files[start : start + most] for start in range(0, len(files), most))


def _fields(file: InboxFile) -> dict[str, object]:
    return {
        "inbox": file.inbox,
        "file_id": file.id,
        "file": os.path.join(file.folder, file.name),
        "bytes": file.size,
    }


def _ended(file: InboxFile) -> dict[str, object]:
    return {
        **_fields(file), "outcome": file.outcome, "batch": file.batch, "seconds": _seconds(file),
        "destination": file.destination,
    }  # fmt: skip


def _seconds(file: InboxFile) -> float:
    """From the last start to the end, wall clock; never negative, whatever the clock did."""
    return max(0.0, (file.finished_at or 0.0) - (file.started_at or file.finished_at or 0.0))
