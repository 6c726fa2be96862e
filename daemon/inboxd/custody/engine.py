"""Connections to a ledger, and what their errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError, ProgrammingError

from inboxd.errors import LedgerConflict, LedgerRefused, LedgerUnavailable

_BUSY = 5.0  # seconds that SQLite waits for another process's lock
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

#: PostgreSQL answers, or is away: nothing waits for ever. `tcp_user_timeout` and `keepalives_idle` notice a machine
#: that is gone without a word (libpq, "Parameter Key Words"); the timeouts of the server don't reach us then.
_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 15, "tcp_user_timeout": 30_000, "application_name": "inboxd"}
_LIMITS = "-c statement_timeout=60s -c lock_timeout=30s -c idle_in_transaction_session_timeout=300s"


def make_engine(url: str, durability: str) -> Engine:
    """An engine without a pool: each connection is opened afresh. Transactions are begun by hand."""
    parsed = make_url(url)
    if sqlite_path(url):
        arguments = {"timeout": _BUSY, "check_same_thread": False}  # opened by recovery, used by the pipeline
        engine = create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        event.listen(engine, "connect", lambda connection, _record: _set_pragmas(connection, durability))
    else:
        # Without it a crash of the server alone loses its last commits, whose renames we have made already: so for
        # `process`, too, which promises to survive the death of any process.
        engine = _postgresql(parsed, f"{_LIMITS} -c synchronous_commit=on")
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def make_reader(url: str) -> Engine:
    """An engine whose connections can't write, and never make a ledger where there is none."""
    path = sqlite_path(url)
    if path:
        place = f"file:{quote(os.path.abspath(path))}?mode=ro"
        engine = create_engine(
            "sqlite://", poolclass=NullPool, hide_parameters=True,
            creator=lambda: sqlite3.connect(place, uri=True, timeout=_BUSY),
        )  # fmt: skip
    else:
        engine = _postgresql(make_url(url), f"{_LIMITS} -c default_transaction_read_only=on")
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _postgresql(url: URL, options: str) -> Engine:
    arguments = {**_PATIENCE, "options": options}
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)


def sqlite_path(url: str) -> str:
    """The file of a SQLite ledger; "" for another kind."""
    parsed = make_url(url)
    return (parsed.database or "") if parsed.get_backend_name() == "sqlite" else ""


def place_of(url: str) -> str:
    """Where the ledger is, for people; never with its password."""
    return sqlite_path(url) or make_url(url).render_as_string(hide_password=True)


def _set_pragmas(connection: Any, durability: str) -> None:
    """The driver has set busy_timeout. WAL with FULL loses no commit on power loss (sqlite.org, pragma)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
    cursor.execute("PRAGMA wal_autocheckpoint=1000")
    cursor.execute("PRAGMA mmap_size=0")  # a failing disk raises an error then, and no SIGBUS
    cursor.close()


def begin(connection: Connection) -> None:
    """A write transaction from its first statement on: upgrading a read lock later fails at once (BUSY_SNAPSHOT)."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Driver errors as ours, with the cause kept.

    Raises LedgerRefused (damaged, or without our tables and rights), LedgerConflict (rows that can't be), and
    LedgerUnavailable for everything else: locked, full, stopped, cut off, turned into a read-only standby.
    """
    try:
        yield
    except DBAPIError as error:
        words = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            raise damaged(place, words) from error
        if code == sqlite3.SQLITE_ERROR or isinstance(error, ProgrammingError):
            raise LedgerRefused(
                f"the ledger {place} does not have our tables, or we no rights: {words}",
                hint="look at what was done to it, or restore it from a backup",
            ) from error
        if isinstance(error, IntegrityError | DataError):
            raise LedgerConflict(f"the ledger {place} refused a change: {words}") from error
        raise LedgerUnavailable(f"the ledger {place} is away: {words}") from error
    except PendingRollbackError as error:  # somebody went on after the connection was lost
        raise LedgerUnavailable(f"the ledger {place} went away in a transaction") from error


def damaged(place: str, words: str) -> LedgerRefused:
    """What to raise for a SQLite file that is broken."""
    return LedgerRefused(
        f"the ledger {place} is damaged: {words}",
        hint="nothing was changed; restore it from a backup, or save what can be read with `sqlite3 FILE .recover`",
    )
