"""A file's transaction: the handler's work and a receipt, one row with the file's id, committed together or not at all.

A run that finds the receipt knows that an earlier run's work is in. The body of a `with` can't be skipped, so the run
ends there: AlreadyDone goes up through the handler, and the file counts as processed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from inboxd.work.database import Databases, DatabaseUnusable, sqlalchemy
from inboxd.work.file import Reject, Retry
from inboxd.work.forks import ParentOnly

if TYPE_CHECKING:
    from sqlalchemy import Connection, RootTransaction

TABLE = "inboxd_receipts"
_COLUMNS = "file_id CHAR(32) PRIMARY KEY, inbox VARCHAR(255) NOT NULL, done_at DOUBLE PRECISION NOT NULL"
_LOCK = 7710281131  # any number that nobody else takes


class AlreadyDone(BaseException):
    """The receipt of this file is there. No Exception, so that a handler's `except Exception` lets it pass."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"file {file_id} was done by an earlier run")
        self.file_id = file_id


class Undone(Exception):
    """The database, or the handler itself, has undone the transaction inside its block, and the handler has gone on."""

    def __init__(self) -> None:
        super().__init__(
            "the transaction was undone, by the database when a statement failed in it or by a rollback, and the "
            "handler went on: nothing is kept; let the error pass, or put what may fail into "
            "`with connection.begin_nested():`"
        )


class Receipts:
    """Transactions with a receipt, on the databases of this process."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._with_table: set[str] = set()
        self._used: set[str] = set()  # ids of files, in this run

    def new_run(self) -> None:
        """Other files begin."""
        self._used.clear()

    @contextlib.contextmanager
    def begin(self, name: str, file_id: str, inbox: str) -> Iterator[Connection]:
        """A transaction with a receipt. Raises AlreadyDone, DatabaseAway, DatabaseLost, DatabaseUnusable, Reject."""
        if file_id in self._used:
            # Final: a further attempt would end at the first block's receipt, as if the second had been run.
            raise Reject("one file.transaction per file and run: one receipt can't stand for two of them")
        self._used.add(file_id)
        with self._databases.connect(name) as connection:
            transaction = self._open(name, connection, file_id, inbox)
            try:
                mark = _mark(connection)
                # A process that is forked in here must not roll back for us
                with transaction, ParentOnly(), _nothing_outside(connection, file_id):
                    yield connection
                    # In here, so that what has come after a rollback goes as well
                    if transaction.is_active and mark is None:
                        _see_receipt(connection, file_id)
                    elif not transaction.is_active or _mark(connection) != mark:  # perhaps the handler has committed it
                        with self._databases.connect(name) as another:
                            _see_receipt(another, file_id)
            except (Reject, Retry):
                raise
            except Exception as error:  # what the driver raised, or what the handler made of it
                if connection.invalidated:
                    raise self._databases.lost(name, error) from error
                raise

    def _open(self, name: str, connection: Connection, file_id: str, inbox: str) -> RootTransaction:
        """Begin, and leave the receipt. What goes wrong here is no file's fault."""
        exc = sqlalchemy().exc
        try:
            self._make_table(name, connection)
            transaction = connection.begin()
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            _leave_receipt(connection, file_id, inbox)
        except exc.OperationalError as error:  # among them: locked by somebody else for too long
            self._with_table.discard(name)
            raise self._databases.away(name, error) from error
        except exc.DBAPIError as error:
            self._with_table.discard(name)
            raise DatabaseUnusable(
                f"database {name}: the table {TABLE} can't be made or written: {self._databases.why(name, error)}"
            ) from error
        return transaction

    def _make_table(self, name: str, connection: Connection) -> None:
        """Looked for first: who may not CREATE is refused even IF it EXISTS."""
        if name in self._with_table:
            return
        with connection.begin():
            if not sqlalchemy().inspect(connection).has_table(TABLE):
                if connection.dialect.name == "postgresql":  # two of them at once may collide there
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {TABLE} ({_COLUMNS})")
        self._with_table.add(name)


def _leave_receipt(connection: Connection, file_id: str, inbox: str) -> None:
    """Before the work: on PostgreSQL a second run of the same file waits here until the first one's fate is known."""
    sql: Any = sqlalchemy().text(
        f"INSERT INTO {TABLE} (file_id, inbox, done_at) VALUES (:id, :inbox, :now) ON CONFLICT (file_id) DO NOTHING"
    )
    if connection.execute(sql, {"id": file_id, "inbox": inbox, "now": time.time()}).rowcount == 0:
        raise AlreadyDone(file_id)


def _mark(connection: Connection) -> object:
    """What is another when the transaction is; None where it is asked for the receipt itself. Raises Undone.

    On PostgreSQL the handler may have taken a path or a role that sees no receipts. And PostgreSQL says nothing when it
    rolls back in place of a COMMIT; but until then it refuses to be asked.
    """
    if connection.dialect.name != "postgresql":
        return None
    try:
        return connection.exec_driver_sql("SELECT pg_catalog.txid_current()").scalar()
    except sqlalchemy().exc.DBAPIError as error:
        if connection.invalidated:
            raise
        raise Undone from error


def _see_receipt(connection: Connection, file_id: str) -> None:
    """Raises Undone where it is not there any more."""
    sql: Any = sqlalchemy().text(f"SELECT 1 FROM {TABLE} WHERE file_id = :id")
    if connection.execute(sql, {"id": file_id}).scalar() is None:
        raise Undone


@contextlib.contextmanager
def _nothing_outside(connection: Connection, file_id: str) -> Iterator[None]:
    """Once SQLite has undone the transaction, what follows would be kept, statement by statement. Raises Undone.

    What follows a commit of the handler's own is kept as it wants.
    """
    if connection.dialect.name != "sqlite":
        yield
        return

    def refuse(_connection: Connection, cursor: Any, *_: object) -> None:
        if (
            not cursor.connection.in_transaction
            and not cursor.connection.execute(f"SELECT 1 FROM {TABLE} WHERE file_id = ?", (file_id,)).fetchone()
        ):
            raise Undone

    event = sqlalchemy().event
    event.listen(connection, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", refuse)
