"""What a report changes in a file's record. Pure; the policy itself is lifecycle.decide."""

from __future__ import annotations

from random import Random, random
from typing import Any

from inboxd.custody.deliver import destination
from inboxd.lifecycle import Decision, Limits, as_lost, decide
from inboxd.model import Concluded, Ending, Failure, InboxFile, Outcome, Report, State


def conclude(
    file: InboxFile, report: Report, limits: Limits, layout: str, now: float, *, together: bool = False
) -> Concluded:
    """The record of `file` after `report`. `now`: wall clock, seconds. `together`: all of a batch wait equally long,
    if they have failed equally often, so that they are a batch again.
    """
    decision = decide(file, report, limits, (lambda: Random(file.batch).random()) if together else random)
    failure = _failure(file, report, decision, now)
    if decision.outcome is not None:
        decided = ended(
            file, decision.outcome, decision.reason, layout, now, attempts=decision.attempts,
            failures=decision.failures, message=report.message or None, result=report.result,
            started_at=now - report.seconds if report.seconds else file.started_at,
        )  # fmt: skip
        return Concluded(decided, "decide", failure)
    counted = file._replace(attempts=decision.attempts, failures=decision.failures)
    if decision.verb == "lose":
        return Concluded(as_lost(counted, now), "lose")
    if decision.verb == "release":
        return Concluded(counted._replace(state=State.CLAIMED), "release", failure)
    waiting = counted._replace(
        state=State.WAITING, not_before=now + decision.delay, reason=str(report.ending), message=report.message
    )
    return Concluded(waiting, "wait", failure, decision.delay)


def ended(file: InboxFile, outcome: Outcome, reason: str, layout: str, now: float, **more: Any) -> InboxFile:
    """The record of a file whose outcome is known; `more`: what else has changed."""
    return file._replace(
        state=State.DECIDED,
        outcome=outcome,
        reason=reason,
        destination=destination(file, layout, now),
        finished_at=now,
        **more,
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
