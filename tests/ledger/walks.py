"""Bringing files to a state: the shortest legal way there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from inboxd.custody.ledger import Ledger
from inboxd.lifecycle import TRANSITIONS
from inboxd.model import Ending, Failure, InboxFile, Outcome, State, new_id

VERBS = sorted({verb for _state, verb in TRANSITIONS})

#: What each verb is told in these tests, besides the state.
NEWS: dict[str, dict[str, Any]] = {
    "claim": {"dev": 7, "ino": (1 << 64) - 2, "size": 2048, "mtime_ns": 5, "claimed_at": 11.5, "sha256": "ab" * 32},
    "abandon": {"reason": "it was gone", "finished_at": 12.5},
    "dispatch": {"batch": "b" * 32, "attempts": 1, "started_at": 13.25},
    "release": {"attempts": 0, "failures": 0},
    "wait": {"attempts": 1, "failures": 1, "not_before": 99.5, "reason": "failed", "message": "no luck"},
    "decide": {
        "attempts": 1, "failures": 1, "outcome": Outcome.ERROR, "reason": "rejected", "message": "not ours",
        "destination": "2026-01-02/a.csv", "result": {"rows": 3, "ünicode": [None, 1.5]}, "finished_at": 14.125,
    },
    "deliver": {},
    "lose": {"reason": "missing from work/", "finished_at": 15.5},
    "retry": {
        "attempts": 0, "failures": 0, "dev": 8, "ino": 9, "size": 4096, "mtime_ns": 6, "outcome": None,
        "reason": None, "message": None, "destination": None, "result": None, "finished_at": None, "sha256": None,
        "started_at": None,
    },
    "reopen": {"dev": 8, "ino": 9, "mtime_ns": 6},
    "find": {"attempts": 2, "dev": 8, "ino": 9, "size": 4096, "mtime_ns": 6, "reason": "found again", "finished_at": None},
}  # fmt: skip

_WAYS: dict[State, tuple[str, ...]] = {
    State.CLAIMING: (),
    State.CLAIMED: ("claim",),
    State.ABANDONED: ("abandon",),
    State.RUNNING: ("claim", "dispatch"),
    State.WAITING: ("claim", "dispatch", "wait"),
    State.DECIDED: ("claim", "dispatch", "decide"),
    State.DONE: ("claim", "dispatch", "decide", "deliver"),
    State.LOST: ("claim", "lose"),
}


def new_file(**values: Any) -> InboxFile:
    """A file about to be announced."""
    about: dict[str, Any] = {
        "id": new_id(), "inbox": "main", "folder": "", "name": "a.csv", "dev": 1, "ino": 2, "size": 1024,
        "mtime_ns": 1_700_000_000_123_456_789, "claimed_at": time.time(), **values,
    }  # fmt: skip
    return InboxFile(**about)


def after(file: InboxFile, verb: str, **values: Any) -> InboxFile:
    """The record once `verb` has been said."""
    target = next(state for (_from, name), state in TRANSITIONS.items() if name == verb)
    return file._replace(state=target, **{**NEWS[verb], **values})


def say(ledger: Ledger, verb: str, files: Sequence[InboxFile], **values: Any) -> list[InboxFile]:
    """Say a verb in a transaction of its own; returns the new records."""
    changed = [after(file, verb, **values) for file in files]
    with ledger.transaction():
        getattr(ledger, verb)(changed)
    return changed


def walk(ledger: Ledger, state: State, *announced: InboxFile, **values: Any) -> list[InboxFile]:
    """Announce files and bring them to `state`; `values` overrule those of every verb that knows them."""
    files = list(announced) or [new_file()]
    with ledger.transaction():
        ledger.announce(files)
    for verb in _WAYS[state]:
        files = say(ledger, verb, files, **{key: value for key, value in values.items() if key in NEWS[verb]})
    return files


def one(ledger: Ledger, state: State, **values: Any) -> InboxFile:
    """One new file in `state`."""
    return walk(ledger, state, **values)[0]


def failure_of(file: InboxFile, attempt: int = 1, at: float = 1.5, **values: Any) -> Failure:
    """A failed attempt."""
    return Failure(file.id, attempt, at, 0.25, Ending.FAILED, "ValueError", "bad", "Traceback …", **values)
