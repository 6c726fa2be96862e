"""What a report changes in a file's record. Pure; the policy itself is lifecycle.decide."""

from __future__ import annotations

from dataclasses import dataclass

from inboxd.custody.deliver import destination
from inboxd.lifecycle import Decision, Limits, decide
from inboxd.model import Ending, Failure, InboxFile, Outcome, Report, State


@dataclass(frozen=True, slots=True)
class Concluded:
    """A file after its report: the new record, and the verb that writes it."""

    file: InboxFile
    verb: str  # "decide", "wait" or "release"
    failure: Failure | None = None
    delay: float = 0.0  # seconds; for "wait"


def conclude(file: InboxFile, report: Report, limits: Limits, layout: str, now: float) -> Concluded:
    """The record of `file` after `report`. `now`: wall clock, seconds."""
    decision = decide(file, report, limits)
    counted = file._replace(attempts=decision.attempts, failures=decision.failures)
    failure = _failure(file, report, decision, now)
    if decision.event == "release":
        return Concluded(counted._replace(state=State.CLAIMED), "release", failure)
    if decision.event == "wait":
        waiting = counted._replace(
            state=State.WAITING,
            not_before=now + decision.delay,
            reason=str(report.ending),
            message=report.message,
        )
        return Concluded(waiting, "wait", failure, decision.delay)
    assert decision.outcome is not None  # the third kind of decision has one
    decided = counted._replace(message=report.message or None, result=report.result)
    return Concluded(ended(decided, decision.outcome, decision.reason, layout, now), "decide", failure)


def ended(file: InboxFile, outcome: Outcome, reason: str, layout: str, now: float) -> InboxFile:
    """The record of a file whose outcome is known."""
    return file._replace(
        state=State.DECIDED,
        outcome=outcome,
        reason=reason,
        destination=destination(file, layout, now),
        finished_at=now,
    )


def _failure(file: InboxFile, report: Report, decision: Decision, now: float) -> Failure | None:
    """A line for the file's history, where its run did not simply succeed or never began."""
    if report.ending is Ending.PROCESSED or not report.begun:
        return None
    return Failure(
        file_id=file.id, attempt=file.attempts, at=now, seconds=report.seconds, ending=report.ending,
        error_class=report.error_class, message=report.message, detail=report.detail or report.output,
        charged=decision.charged,
    )  # fmt: skip
