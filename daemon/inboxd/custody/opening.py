"""Before the first row: is this our ledger, is it sound, and is its schema ours?

A ledger that is gone must not be mistaken for one that never was: all that is in work/ would look unknown. So its
identity is kept beside it, in a file of its own, and a missing, empty or foreign ledger is refused while that stands.

A full check takes minutes on a large ledger, so it belongs to `inboxd doctor`. At the start a small one is checked as a
whole, for two seconds at most (a million files take 1.5 s). Of a larger one SQLite itself compares the header with the
size; damage in it is met when it is read, and ends the daemon then.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from sqlalchemy import Connection, select, text

from inboxd.custody import disk
from inboxd.custody.engine import Driver, damaged, other_schema, place_of, sqlite_path
from inboxd.custody.schema import REVISION, make_tables, meta
from inboxd.errors import LedgerRefused, LedgerUnavailable

_CHECK = 2.0  # seconds
_SMALL = 512 << 20  # bytes; the trees of a larger file are read in one step of SQLite (3.40), which nothing cuts short
_STEPS = 20_000  # SQLite instructions between two looks at the clock


class Opening:
    """The opening of one ledger. `known`: the file that holds its identity; beside a SQLite ledger unless given."""

    def __init__(self, url: str, known: Path | None = None) -> None:
        self.place = place_of(url)
        self._path = sqlite_path(url)
        self._known = known or (Path(self._path + ".id") if self._path else None)
        self._identity = disk.read_noted(self._known).strip() if self._known else ""

    def prepare(self) -> None:
        """A SQLite file that is ours alone from its first byte on. Raises LedgerRefused, LedgerUnavailable."""
        if not self._path:
            return
        if self._identity and _size(self._path) <= 0:
            raise self._gone("is missing or empty")
        try:
            _make_private(self._path)
        except OSError as error:
            raise LedgerUnavailable(f"the ledger {self._path} can't be opened: {error.strerror}") from error

    def finish(self, connection: Connection) -> None:
        """Check, migrate, and know it again next time. Raises LedgerRefused."""
        if not self._path:
            self._refuse_encoding(connection)
        elif _size(self._path) <= _SMALL:
            self._check(connection)
        revision = self._revision(connection)
        if revision is None and self._identity:
            raise self._gone("is empty")
        if revision != REVISION:
            self._bring_up(connection, revision)
        identity = connection.execute(select(meta.c.value).where(meta.c.key == "identity")).scalar()
        if not identity:
            raise damaged(self.place, "its identity is missing")
        if self._identity and self._identity != identity:
            raise self._gone("is another one")
        if self._known and not self._identity:
            if self._path:  # the ledger first, whatever its durability: else a power cut leaves its name without it
                connection.exec_driver_sql("PRAGMA wal_checkpoint(FULL)")
            disk.write_over(self._known, identity + "\n")

    def _refuse_encoding(self, connection: Connection) -> None:
        """Words of handlers and of partners are any text; what a database can't hold would stop us at any time."""
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise LedgerRefused(
                f"the ledger {self.place} is a database with the encoding {encoding}, which does not hold every text",
                hint="make another for it: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            )

    def _gone(self, what: str) -> LedgerRefused:
        return LedgerRefused(
            f"the ledger {self.place} {what}, but {self._known} says that ours has the identity {self._identity}",
            hint="restore it from a backup; or run `inboxd doctor --rebuild-ledger`, which makes a new one "
            + ("from the folders" if self._path else "in an empty database from the folders"),
        )

    def _check(self, connection: Connection) -> None:
        """Trees first, then rows against indexes: how far two seconds lead. `Reads.refuse_damage` reads all."""
        raw = connection.connection.driver_connection
        assert raw is not None  # it has just been opened
        end = time.monotonic() + _CHECK
        raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            words = [word for (word,) in raw.execute("PRAGMA integrity_check(5)") if word != "ok"]
        except raw.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            words = []
        except raw.DatabaseError as error:  # some damage ends the check itself
            words = [str(error)]
        finally:
            raw.set_progress_handler(None, 0)
        if words:
            raise damaged(self.place, "; ".join(words))

    def _revision(self, connection: Connection) -> str | None:
        tables = set(connection.dialect.get_table_names(connection))
        if "alembic_version" not in tables:
            if tables & {"files", "failures", "totals", "meta"}:
                raise LedgerRefused(f"{self.place} holds tables that are not ours", hint="give inboxd its own database")
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _bring_up(self, connection: Connection, revision: str | None) -> None:
        """One transaction, whatever is missing."""
        if revision is not None and revision > REVISION:
            raise other_schema(self.place, revision)
        Driver(connection).begin()
        try:
            if revision is None:
                make_tables(connection)
            else:
                self._migrate(connection, revision)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise

    def _migrate(self, connection: Connection, revision: str) -> None:
        # Alembic costs a tenth of a second and 9 MiB; only a ledger of an older inboxd pays it.
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "inboxd.custody:migrations")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerRefused(f"the ledger {self.place} has the unknown schema {revision}: {error}") from error


def _size(path: str) -> int:
    """Bytes; -1 where there is nothing."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _make_private(path: str) -> None:
    """Mode 0600. An existing file is not opened: closing it would drop every lock we hold (sqlite.org/howtocorrupt)."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            os.chmod(path, 0o600)
