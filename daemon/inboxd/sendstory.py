"""What the journal tells of results on their way to destinations."""

from __future__ import annotations

from typing import Any

from inboxd import events
from inboxd.clock import Clock
from inboxd.destination import Destination
from inboxd.events import emit
from inboxd.model import Ending, Report
from inboxd.progress import LineBudget
from inboxd.sends import JudgedSend


class SendStory:
    """Turns what became of errands into events: outages once, trouble singly, success a line each up to a rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines = LineBudget()

    def fault(self, destination: Destination, report: Report, rest: float | None) -> None:
        """The destination failed us; with a `rest` in seconds somebody has to be told."""
        if rest is not None:
            event = events.DESTINATION_REFUSED if report.ending is Ending.BROKEN else events.DESTINATION_AWAY
            emit(event, **_of(destination), message=report.message, delay=rest)

    def works(self, destination: Destination, outage: float | None) -> None:
        """It answers; `outage`: after so many seconds."""
        if outage is not None:
            emit(events.DESTINATION_BACK, **_of(destination), seconds=outage)

    def judged(self, destination: Destination, report: Report, judged: JudgedSend) -> None:
        """What became of one result."""
        send = judged.send
        about: dict[str, Any] = {**_of(destination), "file": send.name, "file_id": send.file_id}
        if judged.verb == "finish" and self._lines.take(1, self._clock.monotonic()):
            emit(events.RESULT_SENT, **about, bytes=send.size, seconds=report.seconds, attempt=send.attempts)
        elif judged.verb == "abandon":
            reason = "gone" if report.ending is Ending.REJECTED else "too many failures"
            emit(
                events.RESULT_ABANDONED, **about, attempt=send.attempts, reason=reason, message=report.message
            )  # fmt: skip
        elif judged.verb == "wait" and judged.delay:
            emit(
                events.RESULT_WAITING, **about, attempt=send.attempts, message=report.message, delay=judged.delay
            )  # fmt: skip


def _of(destination: Destination) -> dict[str, object]:
    return {"destination": destination.name, "inbox": destination.lane.name}
