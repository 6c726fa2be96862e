"""What operators may ask of a running daemon; behind every verb of the command line.

Each method is called in a control thread. What touches files or the ledger is asked of the pipeline's thread, which
looks the inbox up, too: a reload may have put another in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from inboxd import events
from inboxd.clock import Clock
from inboxd.config.models import FOLDERS, Config
from inboxd.custody.disk import why
from inboxd.custody.history import History
from inboxd.custody.retention import Old, Pruned, prune
from inboxd.custody.takeback import let_go
from inboxd.errors import InboxdError, LedgerUnavailable, UsageError
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.lifecycle import OPEN
from inboxd.model import InboxFile, Outcome, State
from inboxd.pipeline import Pipeline
from inboxd.records import NOT_OF_THIS_LEDGER, OUTCOME_FOLDERS, Records, Row, row
from inboxd.retention import remove
from inboxd.senddesk import SendDesk
from inboxd.sendview import send_row, tell_send
from inboxd.sourcedesk import SourceDesk
from inboxd.sourceview import item_row

T = TypeVar("T")

_PATIENCE = 60.0  # seconds that a question may wait for the pipeline
_SLICE = 500  # files removed per question, so that the pipeline goes on in between
_ENDS = frozenset(OUTCOME_FOLDERS.values())
_HELD = OPEN - {State.RUNNING}


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


def _unknown(path: str, where: str) -> list[str]:
    """No row speaks of what lies there, or would."""
    if not os.path.lexists(path):
        return ["it is not there, and the ledger knows of none that was"]
    return ["the ledger does not know it", *([NOT_OF_THIS_LEDGER] if where in _ENDS else ())]


class Operator(Records):
    """Answers operators with data that can be written as JSON; raises InboxdError for what can't be done."""

    def __init__(self, pipeline: Pipeline, history: History, daemon: Daemon, clock: Clock) -> None:
        super().__init__(history, lambda: {name: lane.rules for name, lane in pipeline.lanes.items()}, clock)
        self._pipeline = pipeline
        self._daemon = daemon
        self._desk = SourceDesk(pipeline, history, clock, self._ask)
        self._sends = SendDesk(pipeline, history, clock, self._ask)

    def status(self) -> Row:
        """What is going on."""
        return self._daemon.status()

    def explain(self, path: str, name: str | None = None) -> Row:
        """Why this file has not been processed, or what became of it.

        `name`, of what does not lie at `path`: that of a source or an item, or of a file in or once in inbound/.
        """
        word = name if name is not None and not os.path.lexists(path) else None
        if word and (told := self._desk.explain(word) or self._sends.explain(word)):
            return {"path": path, "sends": [], **told}
        if word and self._place_of(path) is None:
            path = self._named(word) or path
        lane, folder, name, where = self._place(path, name)
        if where == "incoming" and (told := self._desk.explain_incoming(name)):
            return {"path": path, "sends": [], **told}
        file = self._file_at(lane, path, folder, name, where)
        item = self._history.item_of_file(file.id) if file is not None and file.source is not None else None
        sends = self._history.sends_of(file.id) if file is not None else []
        if file is not None:
            why = [
                self._tell(file),
                *(self._desk.tell(item, file) if item else ()),
                *(tell_send(send, self._clock.time()) for send in sends),
                *(self._ask(lambda: self._holds(self._lane(lane.name))) if file.state in _HELD else ()),
                *(self._queue(lane, file) if file.state is State.RUNNING else ()),
            ]
        elif where == "inbound":
            why = self._ask(lambda: self._reasons(self._lane(lane.name), folder, name))
        else:
            why = _unknown(path, where)
        return {
            "path": path, "inbox": lane.name, "why": why, "file": row(file) if file else None,
            "items": [item_row(item)] if item else [], "sends": [send_row(send) for send in sends],
        }  # fmt: skip

    def _named(self, name: str) -> str:
        """Where in inbound/ a file of this name lies, or else lay that came last; "" where there was none."""
        lanes = list(self._pipeline.lanes.values())
        places = [(lane.name, os.path.join(lane.rules.folder("inbound"), name)) for lane in lanes]
        if there := next((place for _inbox, place in places if os.path.lexists(place) and self._place_of(place)), ""):
            return there
        folder, last = os.path.split(os.path.normpath(name))
        gone = [
            (file.id, place) for inbox, place in places for file in self._history.by_name(inbox, folder, last, 1)
        ]  # fmt: skip
        return max(gone)[1] if gone else ""

    def _place(self, path: str, name: str | None = None) -> tuple[Lane, str, str, str]:
        """(inbox, folder, name, which of its folders) of what lies, or would lie, there. Raises UsageError."""
        found = self._place_of(path)
        if found is not None:
            return found
        others = "no source and no item, no destination and no result that waits, and no file that the ledger knows"
        nobody = f"{name!r} is {others}, and " if name is not None else ""
        raise UsageError(f"{nobody}{path} is no file of an inbox", hint="`inboxd check` tells where they lie")

    def _place_of(self, path: str) -> tuple[Lane, str, str, str] | None:
        whole = Path(os.path.abspath(path))
        for lane in list(self._pipeline.lanes.values()):
            for which in FOLDERS:
                below = _below(lane.rules.folder(which), whole)
                if below is not None:
                    folder = str(below.parent) if str(below.parent) != "." else ""
                    return lane, folder, below.name, which
        return None

    def _file_at(self, lane: Lane, path: str, folder: str, name: str, where: str) -> InboxFile | None:
        """What the ledger knows of a place; of one in inbound/ only what was there and has gone."""
        if where == "inbound":
            gone = [] if os.path.lexists(path) else self._history.by_name(lane.name, folder, name, 1)
            return gone[0] if gone else None
        if where == "work":  # a file by its id, or something of its results
            return self._history.get(os.path.join(folder, name)[:32])
        outcome = next((outcome for outcome, which in OUTCOME_FOLDERS.items() if which == where), None)
        if outcome is None:
            return None
        now = self._clock.time()
        try:
            moved = os.lstat(path).st_ctime  # a rename sets it, and little else does later
        except OSError:
            moved = now
        destination = os.path.join(folder, name)
        at_once = self._history.by_place(lane.name, destination, moved, outcome)
        return at_once or self._history.by_place(lane.name, destination, now, outcome)

    def _reasons(self, lane: Lane, folder: str, name: str) -> list[str]:
        """Why what lies in inbound/ is not claimed. In the pipeline's thread."""
        own = lane.view.explain(folder, name)
        low = f"nothing is claimed: {lane.space.low}" if lane.space.low is not None else None
        reasons = [*filter(None, (own, low)), *self._holds(lane)]
        return reasons or ["nothing holds it; it will be claimed as soon as a worker is free"]

    def _holds(self, lane: Lane) -> list[str]:
        """Why nothing of this inbox goes on. In the pipeline's thread."""
        reasons = []
        if lane.paused is not None:
            remedy = "" if lane.broken else f"; `inboxd resume {lane.name}` lets it go on"
            reasons.append(f"inbox {lane.name} is paused: {lane.paused}{remedy}")
        if resting := lane.resting(self._clock.monotonic()):
            reasons.append(f"inbox {lane.name} rests: {resting}")
        if self._pipeline.draining:
            reasons.append("the daemon is stopping")
        return reasons + [f"degraded: {reason}" for reason in self._pipeline.outages.reasons(lane.name)]

    def _queue(self, lane: Lane, file: InboxFile) -> list[str]:
        """What a file of a batch waits for: they are run in the order of their ids, unless one call takes all."""
        if lane.rules.handler.batch:
            return []
        worker = next((worker for worker in self._daemon.status()["workers"] if worker["batch"] == file.batch), None)
        if worker is None:
            return ["its batch waits for a worker"]
        waits = (worker["file_id"] or file.id) < file.id
        return [f"it waits behind {worker['file']} in a worker's batch"] if waits else []

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


def _missing(status: Row) -> list[str]:
    """Arrivals that were expected, and are not here: in words."""
    whose = [(f"inbox {row['inbox']}", row["expected"]) for row in status["inboxes"]]
    whose += [(f"source {row['source']}", row["expected"]) for row in status["sources"]]
    return [
        f"{name}: expected {row['at_least']} {row['when']}, {row['found']} came"
        for name, row in whose if row is not None and row["missing"]
    ]  # fmt: skip


def _below(root: Path, path: Path) -> Path | None:
    """The part of `path` below `root`, whichever of the two was named through a link; never the last part's own."""
    for one in (root, Path(os.path.realpath(root))):
        if path.is_relative_to(one) and path != one:
            return path.relative_to(one)
    return None
