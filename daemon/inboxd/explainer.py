"""Why a file has not been processed, or what became of it. Called in control threads, as operator.py is."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import TimeoutError as NoAnswer
from pathlib import Path
from typing import TypeVar

from inboxd.clock import Clock
from inboxd.config.models import FOLDERS
from inboxd.custody.history import History
from inboxd.errors import InboxdError, UsageError
from inboxd.lane import Lane
from inboxd.lifecycle import OPEN
from inboxd.model import InboxFile, State
from inboxd.pipeline import Pipeline
from inboxd.records import NOT_OF_THIS_LEDGER, OUTCOME_FOLDERS, Records, Row, row
from inboxd.senddesk import SendDesk
from inboxd.sendview import send_row, tell_send
from inboxd.sourcedesk import SourceDesk
from inboxd.sourceview import item_row

T = TypeVar("T")

_PATIENCE = 60.0  # seconds that a question may wait for the pipeline
_ENDS = frozenset(OUTCOME_FOLDERS.values())
_MOST_CALLED = 100  # files whose path ends alike, of which one may be that which lies there
_HELD = OPEN - {State.RUNNING}


def _unknown(path: str, where: str) -> list[str]:
    """No row speaks of what lies there, or would."""
    if not os.path.lexists(path):
        return ["it is not there, and the ledger knows of none that was"]
    return ["the ledger does not know it", *([NOT_OF_THIS_LEDGER] if where in _ENDS else ())]


class Explainer(Records):
    """Looks for a word, or a path, among files, items and results, and tells what it finds."""

    def __init__(self, pipeline: Pipeline, history: History, status: Callable[[], Row], clock: Clock) -> None:
        """`status`: the whole of `inboxd status`."""
        super().__init__(history, lambda: {name: lane.rules for name, lane in pipeline.lanes.items()}, clock)
        self._pipeline = pipeline
        self._status = status
        self._desk = SourceDesk(pipeline, history, clock, self._ask)
        self._sends = SendDesk(pipeline, history, clock, self._ask)

    def explain(self, path: str, name: str | None = None) -> Row:
        """Why this file has not been processed, or what became of it.

        `name`, of what does not lie at `path`: that of a source or an item, or of a file in or once in inbound/.
        """
        word = name if name is not None and not os.path.lexists(path) else None
        if word and (told := self._desk.explain(word) or self._sends.explain(word)):
            return {"path": path, "sends": [], **told}
        if word and self._place_of(path) is None:
            path = self._named(word) or path
        if self._place_of(path) is None and (left := self._left_at(path)):
            return {"path": path, **self._told(left, [])}
        lane, folder, name, where = self._place(path, name)
        if where == "incoming" and (told := self._desk.explain_incoming(name)):
            return {"path": path, "sends": [], **told}
        file = self._file_at(lane, path, folder, name, where)
        if file is not None:
            more = [
                *(self._ask(lambda: self._holds(self._lane(lane.name))) if file.state in _HELD else ()),
                *(self._queue(lane, file) if file.state is State.RUNNING else ()),
            ]
            return {"path": path, **self._told(file, more)}
        if where == "inbound":
            why = self._ask(lambda: self._reasons(self._lane(lane.name), folder, name))
        elif where == "outbound" and os.path.lexists(path):
            return {"path": path, **self._tell_result(lane, os.path.join(folder, name))}
        else:
            why = _unknown(path, where)
        return {"path": path, "inbox": lane.name, "why": why, "file": None, "items": [], "sends": []}

    def _told(self, file: InboxFile, more: list[str]) -> Row:
        """What became of a file, with its item and its sends."""
        item = self._history.item_of_file(file.id) if file.source is not None else None
        sends = self._history.sends_of(file.id)
        why = [
            self._tell(file),
            *(self._desk.tell(item, file) if item else ()),
            *(tell_send(send, self._clock.time()) for send in sends),
            *more,
        ]
        return {
            "inbox": file.inbox, "why": why, "file": row(file), "items": [item_row(item)] if item else [],
            "sends": [send_row(send) for send in sends],
        }  # fmt: skip

    def _tell_result(self, lane: Lane, name: str) -> Row:
        """Whose result lies in outbound/. Only where results of this name were to be sent, there are rows of them."""
        last = self._history.last_send(lane.name, name)
        file = self._history.get(last.file_id) if last else None
        if file is None:
            why = "the ledger does not tell whose it is: results are not kept in it once they are in outbound/"
            return {"inbox": lane.name, "why": [why], "file": None, "items": [], "sends": []}
        sends = [send for send in self._history.sends_of(file.id) if send.name == name]
        why = f"a result of this name was left by the handler of {file.below}, {file.id}"
        told = [tell_send(send, self._clock.time()) for send in sends]
        return {
            "inbox": lane.name, "why": [why, *told], "file": row(file), "items": [],
            "sends": [send_row(send) for send in sends],
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

    def _left_at(self, path: str) -> InboxFile | None:
        """The newest file of an inbox that has left the configuration, where its name or place may be this path."""
        gone = {*self._history.totals(), *self._history.counts()}.difference(self._pipeline.lanes)
        found = self._history.ending_in(sorted(gone), path, _MOST_CALLED) if gone else []
        try:
            there = os.lstat(path)
        except OSError:
            return next(iter(found), None)
        return next((file for file in found if _may_be(file, there)), None)

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
        worker = next((worker for worker in self._status()["workers"] if worker["batch"] == file.batch), None)
        if worker is None:
            return ["its batch waits for a worker"]
        waits = (worker["file_id"] or file.id) < file.id
        return [f"it waits behind {worker['file']} in a worker's batch"] if waits else []

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


def _may_be(file: InboxFile, found: os.stat_result) -> bool:
    """What lies there is the file itself, or a copy that has kept its time."""
    return found.st_ino == file.ino or (found.st_size, found.st_mtime_ns) == (file.size, file.mtime_ns)


def _below(root: Path, path: Path) -> Path | None:
    """The part of `path` below `root`, whichever of the two was named through a link; never the last part's own."""
    for one in (root, Path(os.path.realpath(root))):
        if path.is_relative_to(one) and path != one:
            return path.relative_to(one)
    return None
