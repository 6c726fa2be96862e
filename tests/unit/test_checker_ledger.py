"""The checker reads a ledger in whatever state a death has left it, and changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from inboxd.checker.ledger import Ledger


def test_a_transaction_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    """Before it is told to keep a write-ahead log, SQLite has a journal, that the next to open it must play back."""
    place = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(tmp_path / "living")) as db:
        db.execute("PRAGMA cache_size = 5")  # so that pages are written before the commit
        db.execute("CREATE TABLE files (id, inbox, outcome, destination, state)")
        db.executemany("INSERT INTO files (id) VALUES (?)", [("a" * 500,)] * 1000)
        db.commit()
        db.execute("UPDATE files SET id = 'b'")
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{tmp_path}/living{suffix}", f"{place}{suffix}")
    before = place.read_bytes()
    ledger = Ledger(str(place))
    assert {row["id"] for row in ledger.tables["files"]} == {"a" * 500} and not ledger.problems
    assert place.read_bytes() == before and Path(f"{place}-journal").exists()
