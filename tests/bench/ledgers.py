"""Ledgers other than a new SQLite file."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from support.postgres import Postgres


def on_postgresql(folder: Path) -> Mapping[str, Any]:
    """An empty database, on a server that syncs."""
    server = _server()
    return {"state": str(folder / "state"), "ledger": server.url(server.create())}


@cache
def _server() -> Postgres:
    """One for all runs: when it is removed, so are a thousand files."""
    server = Postgres(durable=True)
    atexit.register(server.remove)
    server.start()
    return server
