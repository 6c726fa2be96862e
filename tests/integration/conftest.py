from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.handler_rig import HandlerRig
from support.http_rig import HttpRig
from support.partner import Partner
from support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: Any, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'warehouse.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.lend() as database:
        yield server.url(database)


@pytest.fixture
def partner() -> Iterator[Partner]:
    """Somebody on HTTP who offers files."""
    with Partner() as one:
        yield one


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[HttpRig]:
    """HTTP sources in this process; tests of other kinds have rigs of their own."""
    one = HttpRig(tmp_path)
    yield one
    one.close()


@pytest.fixture
def handlers(tmp_path: Path) -> Iterator[HandlerRig]:
    """A place to write handlers and run them in this process."""
    before = list(sys.path)
    made = HandlerRig(tmp_path)
    yield made
    made.close()
    sys.path[:] = before
