"""What may be asked of a running daemon: the verbs, their arguments, and who answers. No socket here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from inboxd.errors import UsageError

MOST_ROWS = 1000  # in one answer; ask again with `before` for more

Row = dict[str, Any]


class Answers(Protocol):
    """Who answers. Every method gives what JSON can hold, and raises InboxdError for what can't be done; any thread."""

    def status(self) -> Row:
        """The daemon, its inboxes and its workers."""

    def files(
        self, inbox: str | None = None, state: str | None = None, outcome: str | None = None,
        since: float | None = None, limit: int = 100, before: str | None = None,
    ) -> Row:  # fmt: skip
        """Files, newest first. `since`: seconds ago; `before`: the id after which to go on."""

    def show(self, id: str) -> Row:
        """One file with its failed attempts."""

    def explain(self, path: str, name: str | None = None) -> Row:
        """Why a file has not been processed; or why nothing comes from a source, or of an item, of this name."""

    def retry(
        self, ids: Sequence[str] | None = None, errors: bool = False, inbox: str | None = None,
        since: float | None = None,
    ) -> Row:  # fmt: skip
        """Run errors again: those named, or all that the rest describes."""

    def forget(self, ids: Sequence[str]) -> Row:
        """Let go of errors whose files are gone."""

    def pause(self, inbox: str) -> Row:
        """Take and run nothing of an inbox."""

    def resume(self, inbox: str) -> Row:
        """Let it go on."""

    def poll(self, source: str, again: bool = False, items: Sequence[str] | None = None) -> Row:
        """Ask a source now; `again`: fetch what was given up, or what is named of it, after all."""

    def send(
        self, destination: str, again: bool = False, drop: bool = False, results: Sequence[str] | None = None
    ) -> Row:  # fmt: skip
        """Try a destination now; `again`: also what was given up, or what is named of it; `drop`: send that no more."""

    def drain(self) -> Row:
        """Begin to stop."""

    def reload(self) -> Row:
        """Read the configuration again."""

    def prune(self, dry_run: bool = False) -> Row:
        """Remove delivered files that are old enough."""

    def doctor(self, source: str | None = None) -> Row:
        """Look for what should not be; or whether a source or destination can be reached, and what would be fetched."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What a request may carry: the kind of each argument, and the one that must be there; and who may send it."""

    takes: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    restricted: bool = False  # to root and the daemon's own user
    told: bool = True  # in the log, where it is restricted: it changes something


_FILES = {"inbox": "text", "state": "text", "outcome": "text", "since": "seconds", "limit": "rows", "before": "text"}
_RETRY = {"ids": "texts", "errors": "flag", "inbox": "text", "since": "seconds"}
_SEND = {"destination": "text", "again": "flag", "drop": "flag", "results": "texts"}
VERBS = {
    "ping": Verb(),
    "status": Verb(),
    "files": Verb(_FILES),
    "show": Verb({"id": "text"}, "id"),
    "explain": Verb({"path": "text", "name": "text"}, "path"),
    "retry": Verb(_RETRY, restricted=True),
    "forget": Verb({"ids": "texts"}, "ids", restricted=True),
    "pause": Verb({"inbox": "text"}, "inbox", restricted=True),
    "resume": Verb({"inbox": "text"}, "inbox", restricted=True),
    "poll": Verb({"source": "text", "again": "flag", "items": "texts"}, "source", restricted=True),
    "send": Verb(_SEND, "destination", restricted=True),
    "drain": Verb(restricted=True),
    "reload": Verb(restricted=True),
    "prune": Verb({"dry_run": "flag"}, restricted=True),
    "doctor": Verb({"source": "text"}, restricted=True, told=False),
}


def parse(line: bytes) -> tuple[str, Row]:
    """Verb and arguments, without those that are null. Raises UsageError."""
    try:
        request = json.loads(line)
        verb, arguments = request["verb"], dict(request.get("args") or {})
        known = verb in VERBS
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError("a request is one line of JSON with `verb` and `args`") from None
    if not known:
        raise UsageError(f"there is no verb {verb!r}", hint=f"there are: {', '.join(VERBS)}")
    arguments = {name: value for name, value in arguments.items() if value is not None}
    _check(verb, arguments)
    return verb, arguments


def _check(verb: str, arguments: Row) -> None:
    rules = VERBS[verb]
    for name, value in arguments.items():
        if name not in rules.takes:
            raise UsageError(f"`{verb}` takes no {name!r}", hint=f"it takes: {', '.join(rules.takes) or 'nothing'}")
        if not _fits(value, rules.takes[name]):
            raise UsageError(f"`{verb}`: {name} is no {rules.takes[name]}: {value!r}", hint=_KINDS[rules.takes[name]])
    if rules.needs and rules.needs not in arguments:
        raise UsageError(f"`{verb}` needs {rules.needs!r}")


_KINDS = {
    "text": "a string, as a command line can hold it: without NUL, and without surrogates that stand for no byte",
    "texts": "a list of strings, as a command line can hold them",
    "flag": "true or false",
    "seconds": "a number, not negative",
    "rows": f"1 to {MOST_ROWS}",
}


def _fits(value: Any, kind: str) -> bool:
    if kind == "texts":
        return isinstance(value, list) and all(map(_is_text, value))
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "text":
        return _is_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) and 1 <= value <= MOST_ROWS if kind == "rows" else 0 <= value < math.inf


def _is_text(value: Any) -> bool:
    """It may name a file: the bytes of one that are no UTF-8 are surrogate escapes (os.fsdecode)."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
