"""Opening a ledger: one connection, pragmas, migrations, and what errors mean."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError

from inboxd.custody.schema import REVISION
from inboxd.errors import LedgerConflict, LedgerRefused, LedgerUnavailable

_BUSY = 5.0  # seconds that SQLite waits for another process's lock
_CONNECT = 10  # seconds that PostgreSQL has to answer
_STATEMENT = "60s"  # the longest statement on PostgreSQL
_DAMAGED = ("malformed", "not a database", "disk image")


def make_engine(url: str, durability: str) -> Engine:
    """An engine without a pool: each connection is opened afresh. Transactions are begun by hand."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed, poolclass=NullPool, hide_parameters=True,
            connect_args={"timeout": _BUSY, "check_same_thread": False},
        )  # fmt: skip
        event.listen(engine, "connect", lambda connection, _record: _set_pragmas(connection, durability))
    else:
        commit = "on" if durability == "full" else "off"
        options = f"-c synchronous_commit={commit} -c statement_timeout={_STATEMENT} -c lock_timeout=30s"
        engine = create_engine(
            parsed, poolclass=NullPool, hide_parameters=True,
            connect_args={"connect_timeout": _CONNECT, "options": options, "application_name": "inboxd"},
        )  # fmt: skip
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _set_pragmas(connection: Any, durability: str) -> None:
    """The driver has set busy_timeout. WAL with FULL loses no commit on power loss (sqlite.org, pragma)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Driver errors as ours, with the cause kept."""
    try:
        yield
    except DBAPIError as error:
        words = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        if any(sign in words for sign in _DAMAGED):
            raise LedgerRefused(
                f"the ledger is damaged: {words}", hint="restore it from a backup; nothing was changed"
            ) from error
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            raise LedgerUnavailable(f"the ledger is away: {words}") from error
        if isinstance(error, DatabaseError):
            raise LedgerConflict(f"the ledger refused a change: {words}") from error
        raise


def migrate(connection: Connection) -> None:
    """Bring the schema to our revision. Raises LedgerRefused for one that is newer, or is not ours."""
    current = _revision(connection)
    if current == REVISION:
        return
    if current is not None and current > REVISION:
        raise LedgerRefused(
            f"the ledger has schema {current}, this inboxd knows {REVISION}",
            hint="install the newer inboxd again",
        )
    # Alembic costs a tenth of a second; a ledger that is up to date never pays it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "inboxd.custody:migrations")
    config.attributes["connection"] = connection
    begin(connection)
    try:
        command.upgrade(config, "head")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise


def begin(connection: Connection) -> None:
    """A write transaction from its first statement on: upgrading a read lock later fails at once (BUSY_SNAPSHOT)."""
    immediate = "BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN"
    connection.exec_driver_sql(immediate)


def _revision(connection: Connection) -> str | None:
    tables = set(connection.dialect.get_table_names(connection))
    if "alembic_version" not in tables:
        if "files" in tables:
            raise LedgerRefused("the ledger's database holds tables that are not ours", hint="give inboxd its own")
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def make_private(url: str) -> None:
    """A SQLite ledger is readable by us alone, from its first byte on."""
    path = make_url(url).database
    if not path or make_url(url).get_backend_name() != "sqlite":
        return
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)  # before SQLite opens it: closing later would drop its locks (sqlite.org/howtocorrupt)
