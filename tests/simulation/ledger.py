"""The real ledger, in files of memory: what of it survives a death, and what a power cut."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from inboxd.clock import Clock
from inboxd.custody.engine import make_engine
from inboxd.custody.ledger import Ledger
from inboxd.custody.statements import Statements
from simulation.world import World

_MEMORY = "/dev/shm"
_OWN = "PRAGMA read_uncommitted"  # SQLAlchemy's, as a connection is given back
_engines: dict[str, Engine] = {}
_on_top: Shelf | None = None  # whose ledger the engines open
statements = functools.cache(Statements)  # compiling them takes longer than most simulations


def engine_of(_url: str, durability: str) -> Engine:
    """custody.engine.make_engine, made once: what it compiles is kept for all lives."""
    if durability not in _engines:
        engine = _engines[durability] = make_engine("sqlite:///simulated", durability)
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "engine_connect", _begin_to_ask)
    return _engines[durability]


def _shelf() -> Shelf:
    assert _on_top is not None  # set by its open()
    return _on_top


def _connect(_dialect: Any, _record: Any, arguments: list[Any], keywords: dict[str, Any]) -> None:
    arguments[0] = str(_shelf().path)
    keywords["factory"] = _Connection


def _begin_to_ask(connection: Connection) -> None:
    """It is set up: from here on its statements come by the world."""
    connection.connection.dbapi_connection.asks = True  # type: ignore[union-attr]


class _Cursor(sqlite3.Cursor):
    """Each statement comes by the world first."""

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if not self.connection.asks or statement.startswith(_OWN):
            return super().execute(statement, *parameters)
        run = super().execute
        return self if _shelf().world.statement(statement, lambda: run(statement)) else run(statement, *parameters)

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        _shelf().world.statement(statement, lambda: None)
        return super().executemany(statement, parameters)


class _Connection(sqlite3.Connection):
    asks = False

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


class Shelf:
    """One ledger, file after file: each life of the daemon has a copy of what its forerunner left."""

    _template: tuple[bytes, bytes] = (b"", b"")

    def __init__(self, world: World) -> None:
        self.world = world
        self._folder = Path(tempfile.mkdtemp(prefix="inboxd-sim-", dir=_MEMORY))
        self._life = 0
        self._ledger: Ledger | None = None
        self._commits = [0]  # sizes that the log had after each commit, the first as it is on the disk for sure
        content, identity = self._made(world.clock)
        self.path.write_bytes(content)
        self._known.write_bytes(identity)

    @property
    def path(self) -> Path:
        return self._folder / f"{self._life}.sqlite"

    @property
    def _known(self) -> Path:
        return self._folder / "ledger.id"

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    @classmethod
    def _made(cls, clock: Clock) -> tuple[bytes, bytes]:
        """A migrated, empty ledger, and its identity; made once."""
        if not cls._template[0]:
            with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
                place = Path(folder) / "new.sqlite"
                Ledger.open(f"sqlite:///{place}", "process", clock).close()
                cls._template = place.read_bytes(), place.with_name(place.name + ".id").read_bytes()
        return cls._template

    def open(self) -> Ledger:
        """As app.py does; every statement comes by the world."""
        global _on_top
        _on_top = self
        url = f"sqlite:///{self.path}"
        if not self._log.exists():
            self._commits = [0]
        durability, clock = self.world.schedule.durability, self.world.clock
        self._ledger = Ledger.open(url, durability, clock, self._known)
        return self._ledger

    def committed(self) -> None:
        """A commit is done."""
        with contextlib.suppress(FileNotFoundError):
            self._commits.append(os.stat(self._log).st_size)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What is committed, read by another connection."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def die(self, *, power: bool) -> None:
        """The files stay as they are, less what a power cut takes: with `full` nothing that was committed."""
        main = self.path.read_bytes()
        log = self._log.read_bytes() if self._log.exists() else b""
        if power and self.world.schedule.durability == "process":
            log = log[: self.world.chance.choice(self._commits)]
            self._commits = [len(log)]
        self._close()
        for old in self._folder.glob(f"{self._life}.sqlite*"):
            old.unlink()
        self._life += 1
        self.path.write_bytes(main)
        if log:
            self._log.write_bytes(log)

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def remove(self) -> None:
        """No more of it."""
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)
