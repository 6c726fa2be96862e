"""One connection, its transactions, and what is unknown after one of them died in COMMIT."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from inboxd.custody.engine import begin, make_engine, place_of, translated
from inboxd.errors import LedgerConflict, LedgerUnavailable


@dataclass(slots=True)
class Touched:
    """Keys of rows: files by id, failures by (id, attempt, at)."""

    files: set[str] = field(default_factory=set)
    failures: set[tuple[str, int, float]] = field(default_factory=set)


class Session:
    """For one thread. Connects when it must, and again after an outage."""

    def __init__(self, url: str, durability: str) -> None:
        self._place = place_of(url)
        self._engine = make_engine(url, durability)
        self._connection: Connection | None = None
        self._writing = False
        self._touched = Touched()
        self._doubtful = Touched()

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises LedgerUnavailable; the next call opens a new connection then."""
        if self._writing:
            raise RuntimeError("a transaction of the ledger is open already")
        self._touched = Touched()
        with self._speaking():
            connection = self._connected()
            begin(connection)
            self._writing = True
            try:
                yield
                self._commit(connection)
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            finally:
                self._writing = False

    def _commit(self, connection: Connection) -> None:
        if not self._writing:  # the connection was lost and somebody caught the error
            raise LedgerUnavailable(f"the ledger {self._place} went away in a transaction")
        try:
            connection.exec_driver_sql("COMMIT")
        except DBAPIError:
            self._doubtful.files |= self._touched.files
            self._doubtful.failures |= self._touched.failures
            raise
        self._doubtful.files -= self._touched.files
        self._doubtful.failures -= self._touched.failures

    def writer(self) -> Connection:
        """The connection of the open transaction: nothing is ever written outside one."""
        if not self._writing or self._connection is None:
            raise LedgerConflict("a change of the ledger was asked for outside a transaction")
        return self._connection

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection, self._writing = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Errors as ours; after an outage the connection is not used again."""
        try:
            with translated(self._place):
                yield
        except LedgerUnavailable:
            self._drop()
            raise
