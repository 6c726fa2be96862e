"""Databases for handlers: opened afresh in this process, tested before use, time-limited, closed at the end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from inboxd.wire import DatabaseSpec, Note

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_TRY = 10.0  # seconds for one attempt to connect, within connect_timeout
_BEFORE_A_RUN = 5.0  # seconds for all attempts, where nothing is lost by giving up: others wait for this worker
_FRESH = 5.0  # seconds for which a test holds
_PAUSE = (0.1, 5.0)  # seconds between attempts: at first, at most


class DatabaseAway(Exception):
    """The database can't be reached, and nothing has been done to it; no fault of the file."""


class DatabaseLost(Exception):
    """The connection was lost in the middle of the handler's work; the database undoes it. No fault of the file."""


class DatabaseUnusable(Exception):
    """It can't be used the way it is set up, for any file."""


class Databases:
    """One engine per configured name, made when first needed."""

    def __init__(self, specs: Mapping[str, DatabaseSpec], note: Callable[[Note], None]) -> None:
        self._specs = specs
        self._note = note
        self._engines: dict[str, Engine] = {}
        self._tested: dict[str, float] = {}
        self._away: set[str] = set()  # those of which that was told
        self._refused: dict[str, str] = {}  # those that a test in this order has found away, and how

    def tidy(self) -> None:
        """An order is done."""
        self._refused.clear()

    def close(self) -> None:
        """Close every connection."""
        for engine in self._engines.values():
            engine.dispose()

    def prepare(self, name: str) -> Engine:
        """Its engine, without connecting. Raises DatabaseUnusable."""
        if name not in self._specs:
            known = ", ".join(self._specs) or "none"
            raise DatabaseUnusable(f"there is no database {name!r} in the configuration (there are: {known})")
        if name not in self._engines:
            self._engines[name] = _prepared(name, self._specs[name])
        return self._engines[name]

    def test(self, name: str) -> None:
        """It answers, as of a few seconds ago. Raises DatabaseAway when it does not soon, DatabaseUnusable.

        The first test that fails speaks for the rest of its order.
        """
        if time.monotonic() - self._tested.get(name, -_FRESH) < _FRESH:
            return
        if name in self._refused:
            raise DatabaseAway(self._refused[name])
        try:
            self.connect(name, 0.0 if name in self._away else _BEFORE_A_RUN).close()
        except DatabaseAway as error:
            self._refused[name] = str(error)
            raise

    def connect(self, name: str, patience: float = math.inf) -> Connection:
        """A tested connection; tries again and again until connect_timeout, or our patience, is used up (seconds).

        Raises DatabaseAway, DatabaseUnusable.
        """
        engine = self.prepare(name)
        patience = min(patience, self._specs[name].connect_timeout)
        began, pause = time.monotonic(), _PAUSE[0]
        while True:
            try:
                return self._try(name, engine, began)
            except sqlalchemy().exc.DBAPIError as error:
                left = began + patience - time.monotonic()
                if left <= 0:
                    raise self.away(name, error) from error
                time.sleep(min(left, pause * _jitter()))
                pause = min(pause * 2, _PAUSE[1])

    def _try(self, name: str, engine: Engine, began: float) -> Connection:
        """The pool has tested a connection that it kept; a new one is tested here."""
        connection = engine.connect()
        if name in self._tested:
            self._tested[name] = time.monotonic()
            return connection
        try:
            connection.exec_driver_sql("SELECT 1")
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        self._tested[name] = time.monotonic()
        self._away.discard(name)
        seconds = self._tested[name] - began
        self._note(Note("database.opened", {"database": name, "seconds": seconds, "pid": os.getpid()}))
        return connection

    def away(self, name: str, error: Any) -> DatabaseAway:
        """Say so, once until it is back, and what to raise. `error` is SQLAlchemy's."""
        self._tested.pop(name, None)
        why = self.why(name, error)
        if name not in self._away:
            self._away.add(name)
            self._note(Note("database.away", {"database": name, "message": why, "pid": os.getpid()}))
        return DatabaseAway(f"database {name} is away: {why}")

    def lost(self, name: str, error: Any) -> DatabaseLost:
        """What to raise when the connection broke in the middle."""
        self._tested.pop(name, None)
        return DatabaseLost(f"database {name} went away in the middle: {self.why(name, error)}")

    def why(self, name: str, error: Any) -> str:
        """The driver's words, in one line, without the password."""
        cause = getattr(error, "orig", error)
        words = str(cause).strip().splitlines() or [type(cause).__name__]
        password = self._engines[name].url.password
        return words[0].replace(str(password), "***") if password else words[0]


def _jitter() -> float:
    import random  # only when something is away

    return random.random()


def _prepared(name: str, spec: DatabaseSpec) -> Engine:
    try:
        return make_engine(spec)
    except ImportError as error:
        raise DatabaseUnusable(
            f"database {name}: its driver {error.name!r} is not installed where inboxd is; install it there"
        ) from None
    except (sqlalchemy().exc.ArgumentError, TypeError) as error:  # the text may hold the URL, and that a password
        raise DatabaseUnusable(f"database {name}: its url can't be used ({type(error).__name__})") from None


def make_engine(spec: DatabaseSpec) -> Engine:
    """An engine of this process alone. Raises ImportError without the driver, ArgumentError for a bad URL."""
    library = sqlalchemy()
    url = library.make_url(spec.url)
    if url.get_backend_name() == "sqlite":
        # Opened for each use, so that a file put in the old one's place is seen. The driver would begin a transaction
        # late, and not at all before DDL: with no isolation level it leaves that to us.
        arguments = {"timeout": spec.connect_timeout, "isolation_level": None}
        return library.create_engine(url, connect_args=arguments, poolclass=library.NullPool)  # type: ignore[no-any-return]
    arguments = {}
    if url.get_backend_name() == "postgresql":
        arguments["connect_timeout"] = max(1, int(min(_TRY, spec.connect_timeout)))
    return library.create_engine(  # type: ignore[no-any-return]
        url, connect_args=arguments, pool_pre_ping=True, pool_size=1, max_overflow=2
    )


def sqlalchemy() -> Any:
    """Imported only in workers whose handlers use a database: it costs 0.3 s and 30 MiB."""
    import sqlalchemy

    return sqlalchemy
