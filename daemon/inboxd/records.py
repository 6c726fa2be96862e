"""What can be told from the ledger alone, whether the daemon runs or not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from inboxd.clock import Clock
from inboxd.config.models import FolderName, Inbox
from inboxd.custody.history import History
from inboxd.errors import UsageError
from inboxd.model import InboxFile, Outcome, State
from inboxd.progress import show_span
from inboxd.sendview import UNKNOWN, send_row
from inboxd.sourceview import item_row, tell_item

T = TypeVar("T")
Row = dict[str, Any]

OUTCOME_FOLDERS: dict[Outcome, FolderName] = {
    Outcome.PROCESSED: "processed", Outcome.ERROR: "errors", Outcome.QUARANTINE: "quarantine",
}  # fmt: skip

_ID = re.compile("[0-9a-f]{8,32}")
_NAMED = 5  # files named in an error
#: What to say of a file that lies where files end, and has no row.
NOT_OF_THIS_LEDGER = (
    "an older copy of the ledger may have been put back: while the daemon is stopped, `inboxd doctor --rebuild-ledger` "
    "makes it known, and then it can be retried"
)

_UNDER_WAY = {State.CLAIMED: "it waits for a worker", State.DECIDED: "it is on its way out of work/"}


class Records:
    """Answers with data that can be written as JSON; raises InboxdError."""

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
            inbox=inbox, states=states, outcome=wanted, since=after, limit=limit,
            before_id=_checked(before) if before is not None else None,
        )  # fmt: skip
        return {"files": [row(file) for file in rows]}

    def _known(self, inbox: str | None) -> None:
        """Raises UsageError for an inbox that neither the configuration nor the ledger has."""
        configured = self._inboxes()
        if inbox is None or inbox in configured:
            return
        known = sorted({*configured, *self._history.totals(), *self._history.counts()})
        if inbox not in known:
            raise UsageError(f"there is no inbox {inbox!r}", hint=f"there are: {', '.join(known)}")

    def show(self, id: str) -> Row:
        """One file's whole story. `id` may be cut short while it is unique."""
        file = self._one(id)
        history = [failure._asdict() for failure in self._history.failures(file.id)]
        item = self._history.item_of_file(file.id) if file.source is not None else None
        return {
            **row(file), "history": history, "path": self._path(file), "item": item_row(item) if item else None,
            "sends": [send_row(send) for send in self._history.sends_of(file.id)],
        }  # fmt: skip

    def _one(self, id: str) -> InboxFile:
        found = self._history.like(_checked(id), _NAMED + 1)
        item = self._history.item_of_file(id) if not found else None
        if item is not None:
            raise UsageError(f"{tell_item(item, self._clock.time())}: no file yet", hint="`inboxd explain` tells more")
        if not found:
            raise UsageError(
                f"no file has the id {id!r}",
                hint=f"`inboxd files` lists them; if it lies in errors/, {NOT_OF_THIS_LEDGER}",
            )
        if len(found) > 1:
            named = ", ".join(f"{file.id} ({file.name!r})" for file in found[:_NAMED])
            more = ", …" if len(found) > _NAMED else ""
            raise UsageError(f"{id!r} is ambiguous: several files have an id that begins so: {named}{more}")
        return found[0]

    def _path(self, file: InboxFile) -> str | None:
        """Where it lies now; None if it does not lie where the ledger has it."""
        inbox = self._inboxes().get(file.inbox)
        if inbox is None:
            return None
        if file.state is State.DONE and file.outcome is not None:
            path = inbox.folder(OUTCOME_FOLDERS[file.outcome]) / (file.destination or "")
        else:
            path = inbox.folder("work") / file.work_name
        return str(path) if os.path.lexists(path) else None

    def _tell(self, file: InboxFile) -> str:
        """What the ledger says of a file, in a sentence."""
        why = ": ".join(filter(None, (file.reason, file.message)))
        end = f"{file.outcome}{'' if why == file.outcome else f' ({why})'}"
        if file.state is State.DONE:
            if file.inbox not in self._inboxes() and file.outcome is not None:
                place = f"{OUTCOME_FOLDERS[file.outcome]}/{file.destination}"
                return f"it ended as {end}; it went to {place} of inbox {file.inbox}, which {UNKNOWN}"
            path = self._path(file)
            return f"it ended as {end}; it lies at {path}" if path else f"it ended as {end}; it is there no more"
        if file.state is State.WAITING:
            due = show_span(max(0.0, file.not_before - self._clock.time()))
            return f"attempt {file.attempts} ended ({why}); it runs again in {due}"
        if file.state is State.LOST and file.outcome is not None:
            return f"it is LOST: missing from work/, when it was to end as {end}"
        return f"it is {file.state}: {why or _UNDER_WAY.get(file.state, 'in progress')}"


def row(file: InboxFile) -> Row:
    """A file as the command line's JSON shows it."""
    return {
        "id": file.id, "inbox": file.inbox, "file": file.below, "name": file.name,
        "state": str(file.state), "outcome": str(file.outcome) if file.outcome else None, "reason": file.reason,
        "message": file.message, "attempts": file.attempts, "failures": file.failures, "size": file.size,
        "claimed_at": file.claimed_at, "started_at": file.started_at, "finished_at": file.finished_at,
        "not_before": file.not_before, "destination": file.destination, "sha256": file.sha256,
        "result": file.result, "source": file.source,
    }  # fmt: skip


def _checked(id: str) -> str:
    """The id, or the beginning of one."""
    if not _ID.fullmatch(id):
        raise UsageError(
            f"{id!r} is no id",
            hint="an id has 32 digits, 0 to 9 and a to f; give the first 8 at least; `inboxd explain PATH` tells it",
        )
    return id


def _word(kind: type[T], word: str) -> T:
    try:
        return kind(word)  # type: ignore[call-arg]
    except ValueError:
        known = ", ".join(str(one).lower() for one in kind)  # type: ignore[attr-defined]
        raise UsageError(f"{word.lower()!r} is unknown", hint=f"there are: {known}") from None
