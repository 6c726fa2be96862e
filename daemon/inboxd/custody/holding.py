"""One daemon for each ledger: what another one has RUNNING it would take for a dead daemon's, and run it again.

SQLite's file lies in the state folder, which is locked. On PostgreSQL a session holds an advisory lock (its manual,
"Explicit Locking"), one for each schema, and with the session it goes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from inboxd.errors import AlreadyRunning, InboxdError, LedgerUnavailable

_KEY = f"({0x696E6278 << 32} | oid::bigint)"  # with the number of the schema; anything that nobody else takes
_OF_SCHEMA = "FROM pg_namespace WHERE nspname = current_schema()"
_PATIENCE = 10_000  # milliseconds that a dead daemon's session may take to end
_AGAIN = 2_000  # likewise our own last one, after an outage
_BUSY = "55P03"  # lock_not_available


class _Ours(NamedTuple):
    """A session of ours, as pg_stat_activity names it."""

    pid: int
    began: Any


class Holding:
    """Of one ledger, by one daemon."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._last: _Ours | None = None

    def take(self, connection: Connection) -> None:
        """On a new connection. Raises AlreadyRunning, or LedgerUnavailable where it was ours before."""
        if connection.dialect.name == "sqlite":
            return
        if self._last is not None:  # of an outage the server may not know that nobody is there any more
            ours = "FROM pg_stat_activity WHERE pid = %s AND backend_start = %s AND pid <> pg_backend_pid()"
            with suppress(ProgrammingError):  # where we may not, it ends by itself
                connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {ours}", self._last)
        connection.exec_driver_sql(f"SET lock_timeout = {_PATIENCE if self._last is None else _AGAIN}")
        try:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock{_KEY} {_OF_SCHEMA}")
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", "") != _BUSY:
                raise
            raise self._held(connection) from None
        connection.exec_driver_sql("RESET lock_timeout")
        query = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        self._last = _Ours(*connection.exec_driver_sql(query).one())

    def _held(self, connection: Connection) -> InboxdError:
        message = f"another inboxd{_whereabouts(connection)} holds the ledger {self._place}"
        hint = "stop that one, or give this one a database of its own"
        return (AlreadyRunning if self._last is None else LedgerUnavailable)(message, hint=hint)


def _whereabouts(connection: Connection) -> str:
    """Of the session that holds it, in words; "" where the server does not say, as of another user's."""
    query = (
        f"SELECT a.client_addr, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid), pg_namespace n "
        f"WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {0x696E6278} AND l.objid = n.oid "
        "AND n.nspname = current_schema() "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    found = connection.exec_driver_sql(query).first()
    if found is None or found[1] is None:
        return ""
    return f" (connected from {found[0] or 'this machine'} since {found[1]:%Y-%m-%d %H:%M})"
