"""What operators may ask of a running daemon; behind every verb of the command line.

Each method is called in a control thread. What touches files or the ledger is asked of the pipeline's thread, which
looks the inbox up, too: a reload may have put another in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.models import FOLDERS, Config
from inboxd.custody.disk import why
from inboxd.custody.history import History
from inboxd.custody.retention import Old, Pruned, prune
from inboxd.custody.takeback import let_go
from inboxd.errors import InboxdError, LedgerUnavailable, UsageError
from inboxd.events import emit
from inboxd.explainer import Explainer
from inboxd.lane import Lane
from inboxd.model import Outcome, State
from inboxd.pipeline import Pipeline
from inboxd.records import OUTCOME_FOLDERS, Row
from inboxd.retention import remove

_SLICE = 500  # files removed per question, so that the pipeline goes on in between


class Daemon(Protocol):
    """What only the application can do, or has."""

    config: Config

    def status(self) -> Row:
        """The whole of `inboxd status`."""

    def drain(self, cause: str) -> None:
        """Begin to stop."""

    def reload(self) -> tuple[list[str], list[str]]:
        """Read the configuration again; what changes, in words. Raises ConfigError."""

    def is_service(self) -> bool:
        """systemd has started it, and may do so again."""

    def remember_pauses(self) -> None:
        """Keep pauses beyond the end of this process."""


class Operator(Explainer):
    """Answers operators with data that can be written as JSON; raises InboxdError for what can't be done."""

    def __init__(self, pipeline: Pipeline, history: History, daemon: Daemon, clock: Clock) -> None:
        super().__init__(pipeline, history, self.status, clock)
        self._daemon = daemon

    def status(self) -> Row:
        """What is going on."""
        return self._daemon.status()

    def retry(
        self,
        ids: Sequence[str] | None = None,
        errors: bool = False,
        inbox: str | None = None,
        since: float | None = None,
    ) -> Row:
        """Take errors back: those named, or all of an inbox."""
        if errors == bool(ids) or (ids and (inbox is not None or since is not None)):
            raise UsageError(
                "name the files to retry, or say --errors, alone or with --inbox and --since",
                hint="`inboxd files --outcome error` lists them",
            )
        self._known(inbox)
        wanted = list(ids or ())
        if errors:
            after = self._clock.time() - since if since is not None else None
            found = self._history.find(
                inbox=inbox, states=[State.DONE], outcome=Outcome.ERROR, since=after, limit=100_000
            )
            wanted = [file.id for file in found]
        retried: list[str] = []
        refused: dict[str, str] = {}
        for file_id in wanted:
            try:
                retried.append(self._ask(partial(self._retry_one, file_id)))
            except InboxdError as error:
                refused[file_id] = str(error)
        if retried:
            self._ask(lambda: None)  # answered once the turn that records them is over
        return {"retried": retried, "refused": refused}

    def _retry_one(self, file_id: str) -> str:
        """In the pipeline's thread."""
        file = self._one(file_id)
        lane = self._lane(file.inbox)
        try:
            self._pipeline.take_back(lane, file)
        except OSError as error:
            raise InboxdError(
                f"{file.id}: it can't be taken back from {lane.rules.folder('errors')}: {why(error, lane.work)}",
                hint="put that right and say it again",
            ) from error
        emit(events.FILE_RETRIED, inbox=lane.name, file_id=file.id, file=file.below, user="an operator")
        return file.id

    def forget(self, ids: Sequence[str]) -> Row:
        """Let go of errors whose files are gone."""
        forgotten: list[str] = []
        refused: dict[str, str] = {}
        for file_id in ids:
            try:
                forgotten.append(self._ask(partial(self._forget_one, file_id)))
            except InboxdError as error:
                refused[file_id] = str(error)
        return {"forgotten": forgotten, "refused": refused}

    def _forget_one(self, file_id: str) -> str:
        """In the pipeline's thread. A file on a disk that is away is not gone."""
        file = self._one(file_id)
        lane = self._lane(file.inbox)
        try:
            reason = lane.condition if lane.condition.startswith("away") else ""
            if not reason:
                let_go(file, lane.rules.folder("errors"), lane.claims.work_fd, self._pipeline.ledger)
        except OSError as error:
            reason = f"{lane.rules.folder('errors')}: {error.strerror}"
        if reason:
            raise InboxdError(f"{file.id}: whether its file is gone can't be seen: inbox {lane.name}: {reason}")
        emit(events.FILE_FORGOTTEN, inbox=lane.name, file_id=file.id, file=file.below, user="an operator")
        return file.id

    def pause(self, inbox: str) -> Row:
        """Take and run nothing of this inbox until `resume`."""
        return self._ask(partial(self._change, inbox, lambda lane: lane.pause("an operator said so")))

    def resume(self, inbox: str) -> Row:
        """Go on."""
        return self._ask(partial(self._change, inbox, lambda lane: lane.resume()))

    def _change(self, inbox: str, change: Callable[[Lane], None]) -> Row:
        """In the pipeline's thread; so is the note, since a reload goes by what is noted."""
        lane = self._lane(inbox)
        change(lane)
        self._daemon.remember_pauses()
        return {"inbox": inbox, "paused": lane.paused}

    def poll(self, source: str, again: bool = False, items: Sequence[str] | None = None) -> Row:
        """Ask a source now."""
        return self._desk.poll(source, again, items)

    def send(
        self, destination: str, again: bool = False, drop: bool = False, results: Sequence[str] | None = None
    ) -> Row:  # fmt: skip
        """Try a destination now, and decide on what was given up."""
        return self._sends.send(destination, again, drop, list(results or ()))

    def drain(self) -> Row:
        """Begin to stop: files in progress may finish."""
        self._daemon.drain("asked by an operator")
        return {"draining": True, "service": self._daemon.is_service()}

    def reload(self) -> Row:
        """Read config.yaml again, all or nothing."""
        return dict(zip(("changes", "waits_for"), self._daemon.reload(), strict=True))

    def prune(self, dry_run: bool = False) -> Row:
        """Remove what is older than the retention of its inbox."""
        removed, refused = Row(), dict[str, str]()
        for lane in list(self._pipeline.lanes.values()):
            removed[lane.name] = {
                "processed": self._prune(lane, Outcome.PROCESSED, lane.rules.retention.processed, dry_run, refused),
                "errors": self._prune(lane, Outcome.ERROR, lane.rules.retention.errors, dry_run, refused),
            }
        return {"removed": removed, "refused": refused}

    def _prune(self, lane: Lane, outcome: Outcome, age: float | None, dry_run: bool, refused: dict[str, str]) -> int:
        """How many went, or would go; and, by id or by inbox, why others did not."""
        if age is None:
            return 0
        old = Old(lane.name, outcome, lane.rules.folder(OUTCOME_FOLDERS[outcome]), self._clock.time() - age)
        if dry_run:
            return len(self._ask(lambda: self._pipeline.ledger.prune(lane.name, outcome, old.before, 1_000_000)))
        total, kept = remove(old, lambda after: self._ask(partial(self._prune_slice, lane, old, after)))
        refused |= kept
        if total:
            emit(events.FILES_PRUNED, inbox=lane.name, count=total, age=f"{age:.0f}s", folder=str(old.folder))
        return total

    def _prune_slice(self, lane: Lane, old: Old, after_id: str) -> Pruned:
        """In the pipeline's thread. Nothing by rules that hold no more: files may be kept for longer now."""
        in_force = self._pipeline.lanes.get(lane.name) is lane
        return prune(self._pipeline.ledger, old, _SLICE, after_id) if in_force else Pruned(0, {}, "")

    def doctor(self, source: str | None = None) -> Row:
        """Look for what should not be; or whether a source can be reached, and what would be fetched from it."""
        if source is not None:
            return self._examine(source)
        problems: list[str] = []
        for lane in list(self._pipeline.lanes.values()):
            for which in FOLDERS:
                if not os.path.isdir(lane.rules.folder(which)):
                    problems.append(f"inbox {lane.name}: {lane.rules.folder(which)} ({which}) is missing")
            if trouble := lane.trouble():
                problems.append(f"inbox {lane.name}: {trouble}")
            if lane.paused and not lane.broken:  # which is its trouble
                problems.append(f"inbox {lane.name} is paused: {lane.paused}")
        problems += [f"degraded: {reason}" for reason in self._pipeline.outages.reasons()]
        try:
            problems += [*self._desk.resting(), *self._sends.resting()]
        except LedgerUnavailable as error:
            problems.append(f"sources and destinations were not looked at: {error}")
        problems += _missing(self._daemon.status())
        checked = [*(f"inbox {name}" for name in self._pipeline.lanes)]
        checked += [f"source {name}" for name in self._pipeline.errands.sources]
        checked += [f"destination {name}" for name in self._pipeline.outbox.destinations]
        return {"problems": problems, "checked": checked, "sources": [], "destinations": []}

    def _examine(self, name: str) -> Row:
        """A source, or a destination."""
        is_destination = self._sends.knows(name)
        desk, kind = (self._sends, "destination") if is_destination else (self._desk, "source")
        found = desk.examine(name, self._daemon.config)
        return {
            "problems": [f"{kind} {name}: {found['problem']}"] if found["problem"] else [],
            "checked": [f"{kind} {name}"],
            "sources": [] if is_destination else [found],
            "destinations": [found] if is_destination else [],
        }


def _missing(status: Row) -> list[str]:
    """Arrivals that were expected, and are not here: in words."""
    whose = [(f"inbox {row['inbox']}", row["expected"]) for row in status["inboxes"]]
    whose += [(f"source {row['source']}", row["expected"]) for row in status["sources"]]
    return [
        f"{name}: expected {row['at_least']} {row['when']}, {row['found']} came"
        for name, row in whose if row is not None and row["missing"]
    ]  # fmt: skip
