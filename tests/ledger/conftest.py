from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from inboxd.clock import SystemClock
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from support.cutter import Cutter
from support.postgres import Postgres


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    with postgres.lend() as database:
        yield postgres.url(database)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: Any) -> str:
    """Where a ledger may be made, on each kind of database in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url, "process", SystemClock())
    yield opened
    opened.close()


@pytest.fixture
def history(url: str, ledger: Ledger) -> History:
    """Reads what `ledger` writes."""
    return History(url)


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Cutter]:
    """A way to the database that can be cut at a COMMIT."""
    with tempfile.TemporaryDirectory(prefix="cut-") as folder:
        cutter = Cutter(Path(folder), postgres.folder)
        yield cutter
        cutter.close()


@pytest.fixture
def far(postgres: Postgres, wire: Cutter) -> Iterator[Ledger]:
    """A ledger behind the wire."""
    behind = postgres.url(postgres.create()).replace(
        quote(str(postgres.folder), safe=""), quote(str(wire.folder), safe="")
    )
    ledger = Ledger.open(behind, "full", SystemClock())
    yield ledger
    ledger.close()
