"""Database URLs: refused where they can't work, relative SQLite paths made absolute. No message shows a URL.

SQLAlchemy is imported only for what is no plain path of a SQLite file: it takes a third of a second, and every
command reads the configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

Check = Callable[[str, Path], str]

_PLAIN = re.compile(r"(sqlite(?:\+pysqlite)?):///([^?%]+)\Z")
_FORM = "such as sqlite:///var/file.db or postgresql+psycopg://user@host/name"


def ledger(url: str, base: Path) -> str:
    """The URL to keep the ledger at: `sqlite` as it is, else of SQLite or PostgreSQL. Raises ValueError."""
    if url == "sqlite":
        return url
    if not _PLAIN.match(url) and _parsed(url).get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(
            "the ledger lives in SQLite or PostgreSQL; write sqlite, or postgresql+psycopg://user@host/name"
        )
    return database(url, base)


def database(url: str, base: Path) -> str:
    """The URL of a database for handlers, its SQLite path absolute. Raises ValueError."""
    plain = _PLAIN.match(url)
    if plain:
        return f"{plain[1]}:///{_file(plain[2], base)}"
    parsed = _parsed(url)
    _check_driver(parsed)
    if parsed.get_backend_name() == "sqlite":
        query = url.partition("?")[2]
        return f"{parsed.drivername}:///{_file(parsed.database, base)}" + (f"?{query}" if query else "")
    return url


def _file(path: str | None, base: Path) -> str:
    if not path or path == ":memory:":
        raise ValueError("a SQLite database in memory would be forgotten at once; name a file: sqlite:///var/file.db")
    if path.startswith("file:"):
        raise ValueError("write the path of the SQLite file itself, without file:")
    absolute = os.path.normpath(os.path.join(base, path))
    if any(sign in absolute for sign in "?%\0"):
        raise ValueError(
            "the path of a SQLite file can't hold ? or % (nor the folder of this file, for a relative path); move it"
        )
    return absolute


def _parsed(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ValueError(f"this is no database URL; write one {_FORM}") from None


def _check_driver(url: URL) -> None:
    """The driver is known, installed, and not one for asyncio."""
    from sqlalchemy.exc import NoSuchModuleError

    try:
        dialect = url.get_dialect()
    except (NoSuchModuleError, ImportError, ValueError):
        raise ValueError(
            f"this kind of database is not known here; write a URL {_FORM}, or install its driver"
        ) from None
    if dialect.is_async:
        raise ValueError("this driver is for asyncio; name another, such as postgresql+psycopg:// or sqlite://")
    if dialect.driver in ("psycopg", "psycopg2") and find_spec(dialect.driver) is None:
        raise ValueError(f"the driver {dialect.driver} is not installed; run: pip install 'inboxd[postgresql]'")
