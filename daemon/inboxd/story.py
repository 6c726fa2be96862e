"""What the journal tells of the files: one line each up to a rate, one for many above it; trouble always singly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from inboxd import events
from inboxd.clock import Clock
from inboxd.custody.claim import Taken
from inboxd.events import emit
from inboxd.model import Concluded, InboxFile, Outcome
from inboxd.progress import LineBudget

#: Files in one line, each an id and perhaps a batch: journald takes 1024 fields (ENTRY_FIELD_COUNT_MAX).
_MOST_TOLD = 400
_NEVER_RUN = replace(events.FILE_ERROR, text=events.FILE_ERROR.text.replace(" in attempt {attempt}", ""))
_GATHER = 0.25  # seconds that files wait for others to share their line with: a line costs a fifth of a file's way


class Story:
    """Turns what the pipeline did into events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines = LineBudget()
        self._gathered: dict[str, list[InboxFile]] = {}  # by inbox: processed, and not told yet
        self.due = math.inf  # monotonic seconds when they are to be

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
            elif one.verb == "lose":
                emit(events.FILE_LOST, **_fields(one.file))

    def delivered(self, inbox: str, files: Sequence[InboxFile]) -> None:
        """Files lie at their destinations."""
        processed = [file for file in files if file.outcome is Outcome.PROCESSED]
        for file in files:
            if file.outcome is Outcome.ERROR:
                emit(
                    events.FILE_ERROR if file.attempts else _NEVER_RUN, **_ended(file), reason=file.reason,
                    attempt=file.attempts, message=file.message or file.reason,
                )  # fmt: skip
            elif file.outcome is Outcome.QUARANTINE:
                emit(events.FILE_QUARANTINED, **_ended(file), reason=file.reason)
        now = self._clock.monotonic()
        if self._lines.take(len(processed), now):
            for file in processed:
                _tell_alone(file)
            return
        gathered = self._gathered.setdefault(inbox, [])
        gathered += processed
        self.due = now if len(gathered) >= _MOST_TOLD else min(self.due, now + _GATHER)

    def tell(self, *, all_of_it: bool = False) -> None:
        """What has been gathered for long enough."""
        if self.due > self._clock.monotonic() and not all_of_it:
            return
        for inbox, files in self._gathered.items():
            for start in range(0, len(files), _MOST_TOLD):
                _tell_together(inbox, files[start : start + _MOST_TOLD])
        self._gathered.clear()
        self.due = math.inf


def _tell_alone(file: InboxFile) -> None:
    emit(events.FILE_PROCESSED, **_ended(file), reason=file.reason, result=file.result)


def _tell_together(inbox: str, files: Sequence[InboxFile]) -> None:
    """One line, with the id of each, so that the journal finds it by any of them."""
    if len(files) == 1:
        _tell_alone(files[0])
        return
    emit(
        events.FILES_PROCESSED, inbox=inbox, count=len(files), seconds=max(map(_seconds, files)),
        bytes=sum(file.size for file in files), outcome=Outcome.PROCESSED,
        batch=sorted({file.batch for file in files if file.batch}), file_id=[file.id for file in files],
    )  # fmt: skip


def _fields(file: InboxFile) -> dict[str, object]:
    return {
        "inbox": file.inbox,
        "file_id": file.id,
        "file": file.below,
        "bytes": file.size,
    }


def _ended(file: InboxFile) -> dict[str, object]:
    return {
        **_fields(file), "outcome": file.outcome, "batch": file.batch, "seconds": _seconds(file),
        "destination": file.destination,
    }  # fmt: skip


def _seconds(file: InboxFile) -> float:
    """How long the run took, or the call that took a whole batch. Never negative, whatever the clock did."""
    return max(0.0, (file.finished_at or 0.0) - (file.started_at or file.finished_at or 0.0))
