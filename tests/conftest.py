from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from support.postgres import Postgres

# A shell without job control starts its background jobs with it ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python is told to keep no bytecode, each of a thousand starts of the daemon would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each gets a database of its own."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
