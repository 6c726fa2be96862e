"""What operators may ask of a running daemon; behind every verb of the command line.

Each method is called in a control thread. What touches files or the ledger is asked of the pipeline's thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.models import FOLDERS, Inbox
from inboxd.custody.history import History
from inboxd.custody.retention import prune
from inboxd.custody.takeback import take_back
from inboxd.errors import InboxdError, UsageError
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.model import InboxFile, Outcome, State
from inboxd.pipeline import Pipeline

T = TypeVar("T")
Row = dict[str, Any]

_PATIENCE = 60.0  # seconds that a question may wait for the pipeline
_NAMED = 5  # files named in an error
_SLICE = 500  # files removed per question, so that the pipeline goes on in between


class Daemon(Protocol):
    """What only the application can do."""

    def status(self) -> Row:
        """The whole of `inboxd status`."""

    def drain(self, cause: str) -> None:
        """Begin to stop."""

    def reload(self) -> list[str]:
        """Read the configuration again; what changes, in words. Raises ConfigError."""

    def remember_pauses(self) -> None:
        """Keep pauses beyond the end of this process."""


class Records:
    """What can be told from the ledger alone."""

    def __init__(self, history: History, inboxes: Callable[[], Mapping[str, Inbox]], clock: Clock) -> None:
        self._history = history
        self._inboxes = inboxes
        self._clock = clock

    def files(
        self, inbox: str | None = None, state: str | None = None, outcome: str | None = None,
        since: float | None = None, limit: int = 100, before: str | None = None,
    ) -> Row:  # fmt: skip
        """Rows, newest first. `since`: seconds ago."""
        self._known(inbox)
        states = [_word(State, state.upper())] if state else None
        wanted = _word(Outcome, outcome.lower()) if outcome else None
        after = self._clock.time() - since if since is not None else None
        rows = self._history.find(
            inbox=inbox, states=states, outcome=wanted, since=after, limit=limit, before_id=before
        )
        return {"files": [row(file) for file in rows]}

    def _known(self, inbox: str | None) -> None:
        """Raises UsageError for an inbox that neither the configuration nor the ledger has."""
        configured = self._inboxes()
        if inbox is None or inbox in configured or inbox in {**self._history.totals(), **self._history.counts()}:
            return
        raise UsageError(f"there is no inbox {inbox!r}", hint=f"there are: {', '.join(configured)}")

    def show(self, id: str) -> Row:
        """One file's whole story. `id` may be cut short while it is unique."""
        file = self._one(id)
        history = [asdict(failure) for failure in self._history.failures(file.id)]
        return {**row(file), "history": history, "path": self._path(file)}

    def _one(self, id: str) -> InboxFile:
        found = self._history.like(id, _NAMED + 1)
        if not found:
            raise UsageError(f"no file has the id {id!r}", hint="`inboxd files` lists them")
        if len(found) > 1:
            named = [f"{file.id} ({file.name!r})" for file in found[:_NAMED]]
            more = ", …" if len(found) > _NAMED else ""
            raise UsageError(f"several files have an id that begins with {id!r}: {', '.join(named)}{more}")
        return found[0]

    def _path(self, file: InboxFile) -> str | None:
        """Where it lies now, as far as we know."""
        inbox = self._inboxes().get(file.inbox)
        if inbox is None or file.state in (State.ABANDONED, State.LOST):
            return None
        if file.state is State.DONE and file.outcome is not None:
            return str(_outcome_folder(inbox, file.outcome) / (file.destination or ""))
        return str(inbox.folder("work") / file.work_name)


class Operator(Records):
    """Answers operators with data that can be written as JSON; raises InboxdError for what can't be done."""

    def __init__(self, pipeline: Pipeline, history: History, daemon: Daemon, clock: Clock) -> None:
        super().__init__(history, lambda: {name: lane.rules for name, lane in pipeline.lanes.items()}, clock)
        self._pipeline = pipeline
        self._daemon = daemon

    def status(self) -> Row:
        """What is going on."""
        return self._daemon.status()

    def explain(self, path: str) -> Row:
        """Why this file has not been processed, or what became of it."""
        lane, folder, name, where = self._place(Path(os.path.abspath(path)))
        if where != "inbound":
            found = self._by_place(lane, path, folder, name, where)
            return {
                "path": path,
                "inbox": lane.name,
                "why": [_tell(found)],
                "file": row(found) if found else None,
            }
        there = os.path.lexists(path)
        why = self._ask(lambda: self._reasons(lane, folder, name)) if there else ["it is not there"]
        rows = self._history.by_name(lane.name, folder, name, 1)
        if rows and not there:
            why = [_tell(rows[0])]
        return {"path": path, "inbox": lane.name, "why": why, "file": row(rows[0]) if rows else None}

    def _place(self, path: Path) -> tuple[Lane, str, str, str]:
        for lane in self._pipeline.lanes.values():
            for which in FOLDERS:
                below = _below(lane.rules.folder(which), path)
                if below is not None:
                    folder = str(below.parent) if str(below.parent) != "." else ""
                    return lane, folder, below.name, which
        raise UsageError(f"{path} lies in no inbox", hint="`inboxd status` lists them")

    def _by_place(self, lane: Lane, path: str, folder: str, name: str, where: str) -> InboxFile | None:
        if where == "work":
            return self._history.get(name[:32])
        try:
            moved = os.lstat(path).st_ctime  # a rename sets it, and little else does later
        except OSError:
            moved = self._clock.time()
        destination = os.path.join(folder, name)
        at_once = self._history.by_place(lane.name, destination, moved)
        return at_once or self._history.by_place(lane.name, destination, self._clock.time())

    def _reasons(self, lane: Lane, folder: str, name: str) -> list[str]:
        """In the pipeline's thread."""
        reasons = []
        own = lane.view.explain(folder, name)
        if own:
            reasons.append(own)
        if lane.paused is not None:
            reasons.append(f"inbox {lane.name} is paused: {lane.paused}; `inboxd resume {lane.name}` lets it go on")
        if lane.space.low is not None:
            reasons.append(f"disk low: {lane.space.low}")
        if lane.resting(self._clock.monotonic()):
            reasons.append(f"inbox {lane.name} rests: {lane.resting(self._clock.monotonic())}")
        if self._pipeline.draining:
            reasons.append("the daemon is stopping")
        reasons += [f"degraded: {reason}" for reason in self._pipeline.outages.reasons()]
        return reasons or ["nothing holds it; it will be claimed as soon as a worker is free"]

    def retry(
        self,
        ids: Sequence[str] | None = None,
        errors: bool = False,
        inbox: str | None = None,
        since: float | None = None,
    ) -> Row:
        """Take errors back: those named, or all of an inbox."""
        if errors == bool(ids):
            raise UsageError(
                "name the files to retry, or say --errors", hint="`inboxd files --state done --outcome error`"
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
        return {"retried": retried, "refused": refused}

    def _retry_one(self, file_id: str) -> str:
        """In the pipeline's thread."""
        file = self._one(file_id)
        lane = self._lane(file.inbox)
        back = take_back(file, lane.rules.folder("errors"), lane.claims.work_fd, self._pipeline.ledger)
        lane.held.append(back)
        emit(events.FILE_RETRIED, inbox=lane.name, file_id=file.id, file=file.name, user="an operator")
        return back.id

    def pause(self, inbox: str) -> Row:
        """Take and run nothing of this inbox until `resume`."""
        lane = self._lane(inbox)
        self._ask(lambda: lane.pause("an operator said so"))
        self._daemon.remember_pauses()
        return {"inbox": inbox, "paused": lane.paused}

    def resume(self, inbox: str) -> Row:
        """Go on."""
        lane = self._lane(inbox)
        self._ask(lane.resume)
        self._daemon.remember_pauses()
        return {"inbox": inbox, "paused": None}

    def drain(self) -> Row:
        """Begin to stop: files in progress may finish."""
        self._daemon.drain("asked by an operator")
        return {"draining": True}

    def reload(self) -> Row:
        """Read config.yaml again, all or nothing."""
        return {"changes": self._daemon.reload()}

    def prune(self, dry_run: bool = False) -> Row:
        """Remove what is older than the retention of its inbox."""
        removed: Row = {}
        for lane in list(self._pipeline.lanes.values()):
            kept = lane.rules.retention
            removed[lane.name] = {
                "processed": self._prune(lane, Outcome.PROCESSED, kept.processed, dry_run),
                "errors": self._prune(lane, Outcome.ERROR, kept.errors, dry_run),
            }
        return {"removed": removed}

    def _prune(self, lane: Lane, outcome: Outcome, age: float | None, dry_run: bool) -> int:
        if age is None:
            return 0
        before, ledger = self._clock.time() - age, self._pipeline.ledger
        if dry_run:
            return len(self._ask(lambda: ledger.prune(lane.name, outcome, before, 1_000_000)))
        folder, total = _outcome_folder(lane.rules, outcome), 0
        while count := self._ask(lambda: prune(ledger, lane.name, outcome, folder, before, _SLICE)):
            total += count
        if total:
            emit(events.FILES_PRUNED, inbox=lane.name, count=total, age=f"{age:.0f}s", folder=str(folder))
        return total

    def doctor(self) -> Row:
        """Look for what should not be."""
        problems = self._ask(self._pipeline.ledger.check)
        for lane in list(self._pipeline.lanes.values()):
            for which in FOLDERS:
                if not lane.rules.folder(which).is_dir():
                    problems.append(f"inbox {lane.name}: {lane.rules.folder(which)} ({which}) is missing")
            if lane.view.condition.startswith("away"):
                problems.append(f"inbox {lane.name}: {lane.view.condition}")
            if lane.paused:
                problems.append(f"inbox {lane.name} is paused: {lane.paused}")
            problems += self._ask(partial(_strays, lane, self._pipeline))
        problems += [f"degraded: {reason}" for reason in self._pipeline.outages.reasons()]
        checked = ["ledger", *(f"inbox {name}" for name in self._pipeline.lanes)]
        return {"problems": problems, "checked": checked}

    def _lane(self, inbox: str) -> Lane:
        try:
            return self._pipeline.lanes[inbox]
        except KeyError:
            known = ", ".join(self._pipeline.lanes)
            raise UsageError(f"there is no inbox {inbox!r}", hint=f"there are: {known}") from None

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return self._pipeline.ask(question).result(_PATIENCE)
        except NoAnswer:
            raise InboxdError(
                f"the daemon did not get to it within {_PATIENCE:.0f} s",
                hint="look at `inboxd status` and the journal",
            ) from None


def _strays(lane: Lane, pipeline: Pipeline) -> list[str]:
    """Files in work/ without an open row, and the reverse. In the pipeline's thread, so that nothing moves."""
    present = {name for name in os.listdir(lane.claims.work_fd) if not name.endswith(("-results", ".error.json"))}
    problems = []
    for file in pipeline.ledger.open_files(State.CLAIMED, State.RUNNING, State.WAITING, State.DECIDED):
        if file.inbox == lane.name and file.work_name in present:
            present.discard(file.work_name)
        elif file.inbox == lane.name:
            problems.append(f"inbox {lane.name}: {file.name!r} ({file.id}) is {file.state}, but not in {lane.work}")
    problems += [
        f"inbox {lane.name}: {lane.work}/{name} has no open row; a restart adopts it" for name in sorted(present)
    ]
    return problems


def _below(root: Path, path: Path) -> Path | None:
    """The part of `path` below `root`, whichever of the two was named through a link; never the last part's own."""
    for one in (root, Path(os.path.realpath(root))):
        if path.is_relative_to(one) and path != one:
            return path.relative_to(one)
    return None


def _outcome_folder(inbox: Inbox, outcome: Outcome) -> Path:
    which = {Outcome.PROCESSED: "processed", Outcome.ERROR: "errors", Outcome.QUARANTINE: "quarantine"}[outcome]
    return inbox.folder(which)  # type: ignore[arg-type]


def _word(kind: type[T], word: str) -> T:
    try:
        return kind(word)  # type: ignore[call-arg]
    except ValueError:
        known = ", ".join(str(one).lower() for one in kind)  # type: ignore[attr-defined]
        raise UsageError(f"{word.lower()!r} is unknown", hint=f"there are: {known}") from None


def _tell(file: InboxFile | None) -> str:
    """What the ledger says of a file, in a sentence."""
    if file is None:
        return "the ledger does not know it"
    if file.state is State.DONE:
        return f"it was delivered to {file.outcome}: {file.reason} ({file.id})"
    if file.state is State.WAITING:
        return f"its last run {file.reason}; it runs again by itself ({file.message or ''}, {file.id})"
    return f"it is {file.state}: {file.reason or 'in progress'} ({file.id})"


def row(file: InboxFile) -> Row:
    """A file as the command line's JSON shows it."""
    return {
        "id": file.id, "inbox": file.inbox, "file": os.path.join(file.folder, file.name), "name": file.name,
        "state": str(file.state), "outcome": str(file.outcome) if file.outcome else None, "reason": file.reason,
        "message": file.message, "attempts": file.attempts, "failures": file.failures, "size": file.size,
        "claimed_at": file.claimed_at, "started_at": file.started_at, "finished_at": file.finished_at,
        "not_before": file.not_before, "destination": file.destination, "sha256": file.sha256,
        "result": file.result, "source": file.source,
    }  # fmt: skip
