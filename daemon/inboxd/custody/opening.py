"""Before the first row: is this our ledger, is it sound, and is its schema ours?

A ledger that is gone must not be mistaken for one that never was: all that is in work/ would look unknown. So its
identity is kept beside it, in a file of its own, and a missing, empty or foreign ledger is refused while that stands.

A full check reads every page, which takes minutes on a large ledger, so it belongs to `inboxd doctor`. At the start
SQLite itself compares the header with the size. Only where the last writer did not close (its log is still there) is
more looked at, for two seconds at most.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from sqlalchemy import Connection, select, text

from inboxd.custody.engine import begin, damaged, place_of, sqlite_path
from inboxd.custody.schema import REVISION, meta
from inboxd.errors import LedgerRefused, LedgerUnavailable

_CHECK = 2.0  # seconds
_STEPS = 20_000  # SQLite instructions between two looks at the clock


class Opening:
    """The opening of one ledger. `known`: the file that holds its identity; beside a SQLite ledger unless given."""

    def __init__(self, url: str, known: Path | None = None) -> None:
        self.place = place_of(url)
        self._path = sqlite_path(url)
        self._known = known or (Path(self._path + ".id") if self._path else None)
        self._identity = self._known.read_text().strip() if self._known and self._known.exists() else ""
        self._unclean = bool(self._path) and _size(self._path + "-wal") > 0

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
        if self._unclean:
            self._check(connection)
        revision = self._revision(connection)
        if revision is None and self._identity:
            raise self._gone("is empty")
        if revision != REVISION:
            self._migrate(connection, revision)
        identity = str(connection.execute(select(meta.c.value).where(meta.c.key == "identity")).scalar_one())
        if self._identity and self._identity != identity:
            raise self._gone("is another one")
        if self._known and not self._identity:
            _write_durably(self._known, identity + "\n")

    def _gone(self, what: str) -> LedgerRefused:
        return LedgerRefused(
            f"the ledger {self.place} {what}, but {self._known} says that ours has the identity {self._identity}",
            hint=f"restore it from a backup; or remove {self._known} to go on without the history: "
            "what lies in work/ is adopted then",
        )

    def _check(self, connection: Connection) -> None:
        """A sound start of a large file is no proof; `Ledger.check` reads all of it."""
        raw = connection.connection.driver_connection
        assert raw is not None  # it has just been opened
        end = time.monotonic() + _CHECK
        raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            words = [word for (word,) in raw.execute("PRAGMA quick_check(5)") if word != "ok"]
        except raw.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            words = []
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

    def _migrate(self, connection: Connection, revision: str | None) -> None:
        """One transaction, whatever the number of steps."""
        if revision is not None and revision > REVISION:
            raise LedgerRefused(
                f"the ledger {self.place} has schema {revision}, this inboxd knows {REVISION}",
                hint="install the newer inboxd again",
            )
        # Alembic costs a tenth of a second; a ledger that is up to date never pays it.
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "inboxd.custody:migrations")
        config.attributes["connection"] = connection
        begin(connection)
        try:
            command.upgrade(config, "head")
            connection.exec_driver_sql("COMMIT")
        except CommandError as error:
            connection.exec_driver_sql("ROLLBACK")
            raise LedgerRefused(f"the ledger {self.place} has the unknown schema {revision}: {error}") from error
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise


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


def _write_durably(path: Path, content: str) -> None:
    draft = path.with_name(path.name + ".part")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
