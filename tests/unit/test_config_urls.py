"""Database URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.config.urls import database, ledger

BASE = Path("/etc/inboxd")


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sqlite:///var/x.db", "sqlite:////etc/inboxd/var/x.db"),
        ("sqlite:///../x.db", "sqlite:////etc/x.db"),
        ("sqlite:////srv/x y.db", "sqlite:////srv/x y.db"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:////etc/inboxd/x.db"),
        ("sqlite:///x.db?timeout=5", "sqlite:////etc/inboxd/x.db?timeout=5"),
        (
            "postgresql+psycopg://u:p%40@h:5432/d?sslmode=require",
            "postgresql+psycopg://u:p%40@h:5432/d?sslmode=require",
        ),
    ],
)
def test_what_a_url_means(url: str, meant: str) -> None:
    assert database(url, BASE) == meant
    assert ledger(url, BASE) == meant


def test_the_word_sqlite() -> None:
    assert ledger("sqlite", BASE) == "sqlite"
    with pytest.raises(ValueError, match="no database URL"):
        database("sqlite", BASE)


def test_other_databases_are_for_handlers() -> None:
    url = "mysql+pymysql://u:p@h/d"
    assert database(url, BASE) == url
    with pytest.raises(ValueError, match="SQLite or PostgreSQL"):
        ledger(url, BASE)


def test_a_driver_that_is_not_installed() -> None:
    with pytest.raises(ValueError, match=r"psycopg2 is not installed.*inboxd\[postgresql\]"):
        database("postgresql+psycopg2://h/d", BASE)


def test_a_folder_that_no_url_can_hold() -> None:
    with pytest.raises(ValueError, match=r"can't hold \? or %"):
        database("sqlite:///x.db", Path("/srv/100%"))
