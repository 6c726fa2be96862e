from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.faults import Recorder, tally
from support.postgres import Postgres

__all__ = ["tally"]

_TESTS = Path(__file__).parent

# A shell without job control starts its background jobs with it ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python is told to keep no bytecode, each of a thousand starts of the daemon would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """What tests say of faults goes into the table."""
    config.pluginmanager.register(Recorder(), "faults")


def pytest_itemcollected(item: pytest.Item) -> None:
    """What pytest-xdist leaves to one process: the tests of a file, which share its fixtures.

    Each test in system/ and faults/ has a daemon of its own, and runs wherever there is time.
    """
    place = item.path.relative_to(_TESTS)
    if place.parts[0] not in ("system", "faults"):
        item.add_marker(pytest.mark.xdist_group(str(place)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each gets a database of its own."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
