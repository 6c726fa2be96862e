"""One connection, its transactions, and what is unknown after one of them died in COMMIT."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from inboxd.custody.engine import FOREIGN, Driver, as_ours, make_engine, moved, place_of, rewrite_log, sqlite_path
from inboxd.custody.holding import Holding
from inboxd.errors import LedgerConflict, LedgerUnavailable
from inboxd.model import InboxFile

_OUTSIDE = "a change of the ledger was asked for outside a transaction"
_NOT_OURS = (*FOREIGN, LedgerUnavailable)  # or of the connection, which must go then
_REWRITE = 60.0  # seconds between two tries to write the log anew while a reader is in the way: each waits for it


@dataclass(slots=True)
class Touched:
    """Keys of rows: files by id, failures by (id, attempt, at)."""

    files: set[str] = field(default_factory=set)
    failures: set[tuple[str, int, float]] = field(default_factory=set)
    announced: dict[str, InboxFile] = field(default_factory=dict)  # by id: what the new rows say


class Session:
    """For one thread. Connects when it must, and again after an outage."""

    def __init__(self, url: str, durability: str) -> None:
        self._place = place_of(url)
        self._path = sqlite_path(url)
        self._file: tuple[int, int] | None = None  # device and number of what lay there when it was opened first
        self._engine = make_engine(url, durability)
        self._holding = Holding(self._place)
        self._connection: Connection | None = None
        self._driver: Driver | None = None
        self._writing = False
        self._touched = self._touched_before = Touched()  # by this transaction, and by the one before
        self._doubtful = Touched()
        self._suspect = False
        self._rewrite_at = 0.0  # monotonic seconds
        self.asked_at: float | None = None  # monotonic seconds: since then it is asked something, and has not answered

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises LedgerUnavailable; the next call opens a new connection then."""
        if self._writing:
            raise RuntimeError("a transaction of the ledger is open already")
        self._touched_before, self._touched = self._touched, Touched()
        before, self.asked_at = self.asked_at, self.asked_at or time.monotonic()
        try:
            connection = self._connected()
            driver = self._driver = self._driver or Driver(connection)
            driver.begin()
            self._writing = True
            try:
                yield
                self._commit(driver)
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            finally:
                self._writing = False
            self.refuse_moved()  # before anything is done that this commit allows
        except _NOT_OURS as error:
            self._fail(error)
        finally:
            self.asked_at = before

    def _commit(self, driver: Driver) -> None:
        if not self._writing:  # the connection was lost and somebody caught the error
            raise LedgerUnavailable(f"the ledger {self._place} went away in a transaction")
        try:
            driver.run("COMMIT")
        except DBAPIError:
            self._doubtful.files |= self._touched.files
            self._doubtful.failures |= self._touched.failures
            raise
        self._doubtful.files -= self._touched.files
        self._doubtful.failures -= self._touched.failures

    def doubts(self, file_id: str) -> bool:
        """What a reading says of this file may be the commit whose fate is unknown: it will be said again."""
        return file_id in self._doubtful.files

    def is_in_place(self) -> bool:
        """What is open is what lies at the path of a SQLite ledger. Any thread."""
        if self._file is None:
            return True
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        except OSError:  # nobody can say
            return True
        return self._file == (found.st_dev, found.st_ino)

    def refuse_moved(self) -> None:
        """What is written to a file that lies there no more is nowhere. Raises LedgerRefused."""
        if self.is_in_place():
            return
        if self._connection is not None:  # its log would be taken for that of the file which lies there now
            with contextlib.suppress(SQLAlchemyError):
                rewrite_log(self._connection)
        raise moved(self._place)

    def writer(self) -> Connection:
        """The connection of the open transaction: nothing is ever written outside one."""
        if not self._writing or self._connection is None:
            raise LedgerConflict(_OUTSIDE)
        return self._connection

    def driver(self) -> Driver:
        """Likewise the driver itself, on that connection."""
        if not self._writing or self._driver is None:
            raise LedgerConflict(_OUTSIDE)
        return self._driver

    def _connected(self) -> Connection:
        if self._connection is None:
            self.refuse_moved()  # SQLite would make an empty one
            self._connection = self._connect()
            if self._path and self._file is None:
                found = os.stat(self._path)
                self._file = (found.st_dev, found.st_ino)
            self._rewrite_at = 0.0
        if self._suspect and not self._writing and time.monotonic() >= self._rewrite_at:
            self._suspect = not rewrite_log(self._connection)
            self._rewrite_at = time.monotonic() + _REWRITE
        return self._connection

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        try:
            self._holding.take(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection, self._writing = self._connection, None, False
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Errors as ours, for what is asked outside a transaction, too."""
        before, self.asked_at = self.asked_at, self.asked_at or time.monotonic()
        try:
            yield
        except _NOT_OURS as error:
            self._fail(error)
        finally:
            self.asked_at = before

    def _fail(self, error: Exception) -> NoReturn:
        """Raises it as ours. After an outage the connection is not used again."""
        ours = error if isinstance(error, LedgerUnavailable) else as_ours(error, self._place)
        if isinstance(ours, LedgerUnavailable):
            self._drop()
            self._suspect = True
        if ours is error:
            raise error
        raise ours from error
