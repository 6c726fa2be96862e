"""Databases for handlers: opened afresh in this process, tested before use, time-limited, closed at the end.

A file's transaction carries a receipt: one row with the file's id, committed together with the handler's work. A run
that finds it knows that an earlier run's work is in, and does nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from inboxd.wire import DatabaseSpec, Note

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_TRY = 10.0  # seconds for one attempt to connect, within connect_timeout
_FRESH = 5.0  # seconds for which a test holds
_PAUSE = (0.1, 5.0)


class DatabaseAway(Exception):
    """The database can't be reached, or was lost in the middle; no fault of the file."""


class AlreadyDone(BaseException):
    """The receipt of this file is there. No Exception, so that no handler swallows it."""


class Databases:
    """One engine per configured name, made when first needed."""

    def __init__(self, specs: Mapping[str, DatabaseSpec], note: Callable[[Note], None]) -> None:
        self._specs = specs
        self._note = note
        self._engines: dict[str, Engine] = {}
        self._tested: dict[str, float] = {}
        self._with_receipts: set[str] = set()
        self._used = False

    def close(self) -> None:
        """Close every connection."""
        for engine in self._engines.values():
            engine.dispose()

    def new_run(self) -> None:
        """A file begins."""
        self._used = False

    def test(self, name: str) -> None:
        """The database answers, as of a few seconds ago. Raises DatabaseAway after its connect_timeout."""
        if time.monotonic() - self._tested.get(name, -_FRESH) >= _FRESH:
            self._connect(name).close()

    def _connect(self, name: str) -> Connection:
        """A tested connection; tries again and again until connect_timeout is used up."""
        if name not in self._specs:
            known = ", ".join(self._specs) or "none"
            raise LookupError(f"there is no database {name!r} in the configuration (there are: {known})")
        began, pause = time.monotonic(), _PAUSE[0]
        while True:
            try:
                return self._try(name, began)
            except _sqlalchemy().exc.DBAPIError as error:
                left = began + self._specs[name].connect_timeout - time.monotonic()
                if left <= 0:
                    words = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
                    self._note(Note("database.away", {"database": name, "message": words[0], "pid": os.getpid()}))
                    raise DatabaseAway(f"database {name} is away: {words[0]}") from error
                time.sleep(min(left, random.uniform(0, pause)))
                pause = min(pause * 2, _PAUSE[1])

    def _try(self, name: str, began: float) -> Connection:
        new = name not in self._engines
        if new:
            self._engines[name] = make_engine(self._specs[name])
        connection = self._engines[name].connect()
        try:
            connection.exec_driver_sql("SELECT 1")
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        if new or name not in self._tested:
            seconds = time.monotonic() - began
            self._note(Note("database.opened", {"database": name, "seconds": seconds, "pid": os.getpid()}))
        self._tested[name] = time.monotonic()
        return connection

    @contextlib.contextmanager
    def transaction(self, name: str, file_id: str, inbox: str) -> Iterator[Connection]:
        """The handler's work and the receipt, together or not at all. Raises AlreadyDone, DatabaseAway."""
        if self._used:
            raise RuntimeError(
                "one file.transaction per run: the receipt of a second could not be told from the first's"
            )
        self._used = True
        exc = _sqlalchemy().exc
        with self._connect(name) as connection:
            try:
                self._make_receipts(name, connection)
                with connection.begin():
                    _leave_receipt(connection, file_id, inbox)
                    yield connection
            except exc.DBAPIError as error:
                if error.connection_invalidated:
                    self._tested.pop(name, None)
                    raise DatabaseAway(f"database {name} went away in the middle: {error.orig}") from error
                raise

    def _make_receipts(self, name: str, connection: Connection) -> None:
        if name in self._with_receipts:
            return
        with connection.begin():
            if connection.dialect.name == "postgresql":  # two CREATE … IF NOT EXISTS at once may collide there
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7710281131)")
            connection.exec_driver_sql(_RECEIPTS)
        self._with_receipts.add(name)


_RECEIPTS = """
CREATE TABLE IF NOT EXISTS inboxd_receipts (
    file_id CHAR(32) PRIMARY KEY, inbox VARCHAR(64) NOT NULL, done_at DOUBLE PRECISION NOT NULL
)"""


def _leave_receipt(connection: Connection, file_id: str, inbox: str) -> None:
    """Insert first: on PostgreSQL a second run of the same file waits here until the first one's fate is known."""
    sql = _sqlalchemy().text(
        "INSERT INTO inboxd_receipts (file_id, inbox, done_at) VALUES (:id, :inbox, :now) "
        "ON CONFLICT (file_id) DO NOTHING"
    )
    if connection.execute(sql, {"id": file_id, "inbox": inbox, "now": time.time()}).rowcount == 0:
        raise AlreadyDone


def make_engine(spec: DatabaseSpec) -> Engine:
    """An engine of this process alone, with one connection that is tested whenever it is taken."""
    sqlalchemy = _sqlalchemy()
    url = sqlalchemy.make_url(spec.url)
    if url.get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(url, connect_args={"timeout": spec.connect_timeout}, pool_pre_ping=True)
        # The driver would begin a transaction late, and not at all before DDL; work and receipt need a real one.
        sqlalchemy.event.listen(engine, "connect", lambda raw, _record: setattr(raw, "isolation_level", None))
        sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine  # type: ignore[no-any-return]
    arguments = {"connect_timeout": max(1, int(min(_TRY, spec.connect_timeout)))}
    if url.get_backend_name() != "postgresql":
        arguments = {}
    return sqlalchemy.create_engine(  # type: ignore[no-any-return]
        url, connect_args=arguments, pool_pre_ping=True, pool_size=1, max_overflow=2
    )


def _sqlalchemy() -> Any:
    """Imported only in workers whose handlers use a database: it costs 0.3 s and 30 MiB."""
    import sqlalchemy

    return sqlalchemy
