from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.clock import SystemClock
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
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
