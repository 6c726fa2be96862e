from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each gets a database of its own."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
