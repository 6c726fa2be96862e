"""A PostgreSQL server of our own, for the time of a test run: private folder, Unix socket only; no syncs, unless asked."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from support.wait import wait_until

_INSTALL = "apt-get install -y --no-install-recommends postgresql"
_WITH_US = ("setpriv", "--pdeathsig", "QUIT")  # a test run that is killed leaves no server behind (setpriv(1))
_USERS = ("postgres", "nobody")  # who runs the server when we are root: it refuses to be root


class Postgres:
    """One cluster; `stop` and `start` make an outage. `durable`: it runs as a server does by itself, for benchmarks."""

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._programs = _programs()
        self._user = _user()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path holds 107 bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._given_back: list[str] = []
        if self._user:
            shutil.chown(self.folder, self._user)
        made = [
            "initdb", "-D", "data", "-U", "inboxd", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8",
            "--locale-provider=icu", "--icu-locale=en-US",
            "--no-instructions",
        ]  # fmt: skip
        self._run(made)

    def url(self, database: str) -> str:
        """As SQLAlchemy wants it."""
        return f"postgresql+psycopg://inboxd@/{database}?host={quote(str(self.folder), safe='')}"

    def create(self, encoding: str = "UTF8") -> str:
        """A new, empty database; returns its name."""
        name = f"ledger_{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        return name

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """The name of an empty database, for who leaves nothing in it but schemas: to empty one is far less work than to
        create one."""
        if self._given_back:
            self._empty(name := self._given_back.pop())
        else:
            name = self.create()
        yield name
        self._given_back.append(name)

    def _empty(self, name: str) -> None:
        """As it was created, whoever is connected to it."""
        with self.connect(name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )
            found = connection.execute(
                "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            )
            for (schema,) in found.fetchall():
                connection.execute(f"DROP SCHEMA {schema} CASCADE")
            connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")

    @contextlib.contextmanager
    def connect(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """An administrator's connection, in autocommit mode."""
        connection = psycopg.connect(dbname=database, user="inboxd", host=str(self.folder), autocommit=True)
        with contextlib.closing(connection):
            yield connection

    def start(self) -> None:
        """Returns when it answers. Raises AssertionError with its log when it dies."""
        settings = {
            "listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "30",
            "logging_collector": "off",
        }  # fmt: skip
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_WITH_US, self._programs / "postgres", "-D", "data", *options],
                cwd=self.folder, user=self._user or None,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                **_groups(self._user),
            )  # fmt: skip
        wait_until(self._answers, "PostgreSQL")

    def stop(self) -> None:
        """At once: connections are cut, transactions are lost, as after a crash (SIGQUIT, "immediate shutdown")."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)

    def remove(self) -> None:
        """Stop it and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            [self._programs / command[0], *command[1:]], cwd=self.folder, user=self._user or None,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60,
            **_groups(self._user),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode()


def _groups(user: str) -> dict[str, Any]:
    """Root's groups don't go with another user's process."""
    return {"group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def _user() -> str:
    """Whom the server runs as; "" for ourselves."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in _USERS if user in known)


def _programs() -> Path:
    """Where the newest server's programs are. Debian keeps them out of PATH. Fails with the command that helps."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    candidates = [*(path.parent for path in reversed(found)), *([Path(on_path).parent] if on_path else [])]
    for folder in candidates:
        if (folder / "initdb").exists():
            return folder
    raise AssertionError(f"the ledger's tests need a PostgreSQL server; run: {_INSTALL}")
