"""Connections to a ledger, and what their errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError, ProgrammingError

from inboxd.custody import disk
from inboxd.custody.schema import REVISION
from inboxd.errors import LedgerConflict, LedgerError, LedgerRefused, LedgerUnavailable

_BUSY = 5.0  # seconds that SQLite waits for another process's lock
#: What to do about a ledger that is damaged.
REMEDY = (
    "restore it from a backup; or stop inboxd and run `inboxd doctor --rebuild-ledger`, which makes a new one from the "
    "folders and from what can be read of this"
)
#: Bytes of SQLite's log at which it is brought into the database, and to which it is cut when it has grown behind a
#: long reader. Files one by one take ten pages of it each, and each fiftieth to hundredth waited for 5 to 20 ms with
#: SQLite's own limit of 1000 pages: now each four hundredth.
_LOG = 16 << 20
_OF_THE_DISK = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
)  # fmt: skip
_PAGE = 4096  # bytes
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

#: PostgreSQL answers, or is away: nothing waits for ever. `tcp_user_timeout` and `keepalives_idle` notice a machine
#: that is gone without a word (libpq, "Parameter Key Words"); the timeouts of the server don't reach us then.
_PATIENCE = {"connect_timeout": 10, "keepalives_idle": 15, "tcp_user_timeout": 30_000}
_OURS = {"application_name": "inboxd", "client_encoding": "utf8"}  # whatever the environment says
_LIMITS = (
    "-c statement_timeout=60s -c lock_timeout=30s -c idle_in_transaction_session_timeout=300s "
    "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"  # to notice that we are gone
)


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
        engine = create_engine(
            "sqlite://", poolclass=NullPool, hide_parameters=True, creator=lambda: _open_to_read(path)
        )  # fmt: skip
    else:
        engine = _postgresql(make_url(url), f"{_LIMITS} -c default_transaction_read_only=on")
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _open_to_read(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise missing(path)
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True, timeout=_BUSY)


def _postgresql(url: URL, options: str) -> Engine:
    arguments = {**_PATIENCE, **_OURS, "options": options}
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
    cursor.execute(f"PRAGMA wal_autocheckpoint={_LOG // _PAGE}")
    cursor.execute(f"PRAGMA journal_size_limit={_LOG}")
    cursor.execute("PRAGMA cache_size=-1000")  # KiB: half of what it takes by itself, at the same rate
    cursor.execute("PRAGMA mmap_size=0")  # a failing disk raises an error then, and no SIGBUS
    cursor.close()


class Driver:
    """The driver itself, on a connection: Core takes 30 µs for a statement, for a single file more than SQLite does."""

    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.connection.cursor()
        self._error = connection.dialect.loaded_dbapi.Error
        self._begin = "BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN"

    def run(self, statement: str, rows: Sequence[tuple[Any, ...]] = ()) -> int:
        """Once, or for each of the rows; returns how many rows it hit. Raises DBAPIError, as Core does."""
        try:
            if rows:
                self._cursor.executemany(statement, rows)
            else:
                self._cursor.execute(statement)
        except self._error as error:
            raise DBAPIError.instance(statement, None, error, self._error, hide_parameters=True) from error
        return self._cursor.rowcount

    def close(self) -> None:
        """Before its connection: SQLite keeps a database open while a statement of it is (sqlite3_close_v2)."""
        with contextlib.suppress(self._error):  # it was closed from outside
            self._cursor.close()

    def begin(self) -> None:
        """A write transaction from its first statement on: to upgrade a read lock fails at once (BUSY_SNAPSHOT)."""
        self.run(self._begin)


def rewrite_log(connection: Connection) -> bool:
    """After an error: what SQLite's log holds may be in the page cache only, though the next fsync(2) succeeds.

    So it is written anew, into the database itself, and the log begins afresh. False while a reader keeps that from
    being done.
    """
    if connection.dialect.name != "sqlite":
        return True
    blocked: int = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    return not blocked


#: What the driver and Core raise; the second is the driver's, of a name in the schema.
FOREIGN = (DBAPIError, UnicodeDecodeError, PendingRollbackError)


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Raises `as_ours`, with the cause kept."""
    try:
        yield
    except FOREIGN as error:
        raise as_ours(error, place) from error


def as_ours(error: Exception, place: str) -> LedgerError:
    """What an error of the driver's means.

    LedgerRefused (damaged, or without our tables and rights), LedgerConflict (rows that can't be), and
    LedgerUnavailable for everything else: locked, full, stopped, cut off, turned into a read-only standby.
    """
    if isinstance(error, UnicodeDecodeError):
        return damaged(place, str(error))
    if not isinstance(error, DBAPIError):  # somebody went on after the connection was lost
        return LedgerUnavailable(f"the ledger {place} went away in a transaction")
    words = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED or words.startswith("Could not decode"):  # the driver's word for a text that is none
        return damaged(place, words)
    if code == sqlite3.SQLITE_ERROR or isinstance(error, ProgrammingError):
        return LedgerRefused(
            f"the ledger {place} does not have our tables, or we no rights: {words}",
            hint=f"look at what was done to it; {REMEDY}",
        )
    if isinstance(error, IntegrityError | DataError):
        return LedgerConflict(f"the ledger {place} refused a change: {words}")
    held = f"a program that has it open holds it: end that one; `fuser -v {place}` names them"
    return LedgerUnavailable(
        f"the ledger {place} is away: {words}{_cause(place, code)}", hint=held if code in _LOCKED else ""
    )


def _cause(place: str, code: int) -> str:
    """SQLite says that it can't write, and not why: what the kernel says to a page beside it. "" when it takes one."""
    if code not in _OF_THE_DISK:
        return ""
    folder = Path(place).absolute().parent
    try:
        fd = os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, bytes(_PAGE))
        finally:
            os.close(fd)
    except OSError as error:
        return f": {disk.why(error, folder)}"
    return ""


def missing(place: str) -> LedgerRefused:
    """What to raise for a SQLite file that is not there, where there was one."""
    return LedgerRefused(
        f"the ledger {place} is missing",
        hint="restore it from a backup; or run `inboxd doctor --rebuild-ledger`, which makes one from the folders",
    )


def moved(place: str) -> LedgerRefused:
    """What to raise for a SQLite file that is no longer where it was opened."""
    return LedgerRefused(
        f"the ledger {place} was removed or replaced while inboxd used it",
        hint="if it was moved away, put it back; if another was put in its place, start inboxd again; "
        "else restore it from a backup, or run `inboxd doctor --rebuild-ledger`",
    )


def other_schema(place: str, revision: str) -> LedgerRefused:
    """What to raise for a ledger of an older or a newer inboxd."""
    brought = "a start of inboxd brings it up, and so does `inboxd doctor --repair`"
    return LedgerRefused(
        f"the ledger {place} has schema {revision}, this inboxd knows {REVISION}",
        hint=brought if revision < REVISION else "install the newer inboxd again",
    )


def damaged(place: str, words: str) -> LedgerRefused:
    """What to raise for a SQLite file that is broken."""
    return LedgerRefused(
        f"the ledger {place} is damaged: {words}",
        hint=f"nothing was changed; {REMEDY}",
    )
