"""A SQLite ledger that lies at its path no more takes no change, and none is made in its place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from walks import one

from inboxd.clock import SystemClock
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerRefused
from inboxd.model import State


def _open(url: str) -> Ledger:
    return Ledger.open(url, "full", SystemClock())


def test_a_commit_into_a_file_that_is_gone_is_refused(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    ledger = _open(sqlite_url)
    one(ledger, State.CLAIMED)
    path.unlink()
    with pytest.raises(LedgerRefused, match=rf"{path} was removed or replaced.*inboxd doctor --rebuild-ledger"):
        one(ledger, State.CLAIMED)
    ledger.close()
    with pytest.raises(LedgerRefused, match="was removed"):  # as after an outage: SQLite would make an empty one
        ledger.counts()
    assert not path.exists()


def test_the_log_of_a_ledger_that_was_replaced_is_not_left_to_the_other(sqlite_url: str) -> None:
    """SQLite would take it for its own, and mix the two."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    ledger = _open(sqlite_url)
    one(ledger, State.CLAIMED)
    copy, away = path.with_name("copy"), path.with_name("away")
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", [str(copy)])
    one(ledger, State.CLAIMED)
    path.rename(away)
    copy.rename(path)
    with pytest.raises(LedgerRefused):
        one(ledger, State.CLAIMED)
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    ledger.close()
    other, moved = _open(sqlite_url), _open(f"sqlite:///{away}")
    assert other.counts() == {"main": {State.CLAIMED: 1}}
    assert moved.counts() == {"main": {State.CLAIMED: 2, State.CLAIMING: 1}}  # the commit that was in vain
    other.close()
    moved.close()
