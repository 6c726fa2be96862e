"""Ledgers other than a new SQLite file, and how fast one answers."""

from __future__ import annotations

import atexit
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

from candidates import INBOXD, Candidate, running
from measured import Measured
from scenarios import backlog, prepare

from inboxd.model import new_id
from support.daemon import inboxd
from support.postgres import Postgres

_AT_ONCE = 100_000  # rows in one transaction
_APART = 0.1  # seconds between two files of the past


def on_postgresql(folder: Path) -> Mapping[str, Any]:
    """An empty database, on a server that syncs."""
    server = _server()
    return {"state": str(folder / "state"), "ledger": server.url(server.create())}


@cache
def _server() -> Postgres:
    """One for all runs: when it is removed, so are a thousand files."""
    server = Postgres(durable=True)
    atexit.register(server.remove)
    server.start()
    return server


def with_rows(count: int) -> Callable[[Path], Mapping[str, Any]]:
    """A SQLite ledger that knows so many files of the past; made by the first run, for all."""
    return partial(_filled, count)


def _filled(count: int, folder: Path) -> Mapping[str, Any]:
    made = folder.parent / f"{count}-rows"
    if not made.exists():
        backlog(INBOXD, made, 1)
        with closing(sqlite3.connect(made / "state" / "ledger.sqlite", isolation_level=None)) as db:
            _multiply(db, count)
    return {"state": str(made / "state")}


def _multiply(db: sqlite3.Connection, count: int) -> None:
    """The row of its only file becomes so many, as a daemon would have written them."""
    db.row_factory = sqlite3.Row
    row = dict(db.execute("SELECT * FROM files").fetchone())
    insert = f"INSERT INTO files VALUES ({', '.join(f':{name}' for name in row)})"
    db.execute("PRAGMA synchronous = OFF")
    for begin in range(1, count, _AT_ONCE):
        db.execute("BEGIN")
        db.executemany(insert, _copies(row, range(begin, min(begin + _AT_ONCE, count)), count))
        db.execute("COMMIT")
    db.execute("UPDATE totals SET files = files * ?, bytes = bytes * ?", (count, count))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _copies(row: Mapping[str, Any], numbers: range, count: int) -> Iterator[Mapping[str, Any]]:
    folder = os.path.dirname(row["destination"])
    for number in numbers:
        before = (count - number) * _APART
        times = {name: row[name] - before for name in ("claimed_at", "started_at", "finished_at")}
        name = b"past-%08d.dat" % number
        changed = {"id": new_id(times["claimed_at"]), "name": name, "destination": os.path.join(folder, name)}
        yield {**row, **changed, **times}


def answers(candidate: Candidate, folder: Path) -> Measured:
    """What the command line takes to say how it is, and what came last; its start included."""
    prepare(folder)
    with running(candidate, folder) as run:
        run.wait_ready()
        return Measured(status=_seconds(folder, "status"), files=_seconds(folder, "files"))


def _seconds(folder: Path, verb: str) -> float:
    """The median of five."""
    taken = []
    for _ in range(5):
        began = time.monotonic()
        inboxd(folder / "config.yaml", verb, "--json").check_returncode()
        taken.append(time.monotonic() - began)
    return statistics.median(taken)
