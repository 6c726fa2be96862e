"""Databases of handlers, real ones: opened and tested in the process that uses them, away, back, lost, told in words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from inboxd.model import Ending
from support.postgres import Postgres

LOAD = """
def handle(file):
    with file.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS done (id VARCHAR(32))")
        connection.exec_driver_sql(f"INSERT INTO done VALUES ('{file.id}')")
        if "cut" in file.options:
            file.options["cut"](connection)
            connection.exec_driver_sql("SELECT 1")
"""


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test alone, to be stopped."""
    own = Postgres()
    try:
        own.start()
        yield own
    finally:
        own.remove()


@pytest.fixture
def opened(handlers, database_url):
    """The handler above, on an empty database "lake" of each kind."""
    handlers.database("lake", database_url)
    return handlers.python(LOAD, database="lake")


def done(url):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT id FROM done ORDER BY id").scalars().all()


def test_it_is_opened_once_and_tested_and_told(handlers, opened, database_url):
    files = [handlers.file() for _ in range(3)]
    assert [handlers.run(opened, file).ending for file in files] == [Ending.PROCESSED] * 3
    assert done(database_url) == sorted(file.id for file in files)
    (told,) = handlers.told("database.opened")
    assert (told["database"], told["pid"], told["seconds"] >= 0) == ("lake", os.getpid(), True)


def test_nothing_is_connected_before_a_file_needs_it(handlers, tmp_path):
    handlers.database("lake", f"sqlite:///{tmp_path}/new.db")
    handlers.python(LOAD, database="lake")
    assert not (tmp_path / "new.db").exists()


def test_a_name_that_is_not_configured(handlers, opened):
    other = handlers.python("def handle(file):\n    with file.transaction('pond'): pass")
    report = handlers.run(other)
    assert (report.ending, report.begun) == (Ending.BROKEN, False)
    assert "'pond'" in report.message and "lake" in report.message


def test_no_name_at_all(handlers):
    report = handlers.run_python("def handle(file):\n    with file.transaction(): pass")
    assert (report.ending, report.error_class) == (Ending.FAILED, "LookupError")
    assert "database: NAME" in report.message


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////no/such/folder/x.db",
        "postgresql+psycopg://u:s3cret@/x?host=/no/such/folder",
        "postgresql+psycopg://u:s3cret@127.0.0.1:9/x",
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["tested before the run", "met in the run"])
def test_away_is_told_after_the_timeout_and_blames_no_file(handlers, url, named):
    handlers.database("lake", url, connect_timeout=0.5)
    source = "def handle(file):\n    with file.transaction('lake'): pass"
    opened = handlers.python(source, database="lake" if named else None)
    began = time.monotonic()
    report = handlers.run(opened)
    assert 0.45 <= time.monotonic() - began < 10
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)
    assert report.message.startswith("database lake is away: ")
    (told,) = handlers.told("database.away")
    assert told["database"] == "lake"
    assert "s3cret" not in report.message + told["message"]


def test_an_order_finds_a_database_away_once(handlers, server):
    """A host that swallows what it is sent would hold up the worker for each file of the batch."""
    url = server.url(server.create())
    server.stop()
    handlers.database("lake", url, connect_timeout=0.3)
    opened = handlers.python(LOAD, database="lake")
    first, second = handlers.file(), handlers.file()
    reports = [opened.run("main", first)]
    server.start()
    reports.append(opened.run("main", second))
    assert [(report.ending, report.begun) for report in reports] == [(Ending.UNAVAILABLE, False)] * 2
    assert len(handlers.told("database.away")) == 1
    opened.tidy()
    assert [handlers.run(opened, file).ending for file in (first, second)] == [Ending.PROCESSED] * 2


def test_a_refused_password_is_not_told(handlers, server):
    with (server.folder / "data" / "pg_hba.conf").open("w") as rules:
        rules.write("local all all scram-sha-256\n")
    server.stop()
    handlers.database("lake", server.url("postgres").replace("inboxd@", "inboxd:s3cret@"), connect_timeout=0.2)
    opened = handlers.python(LOAD, database="lake")
    assert handlers.run(opened).ending is Ending.UNAVAILABLE
    assert "s3cret" not in str(handlers.notes)


def test_a_server_that_stops_between_two_files_and_comes_back(handlers, server):
    url = server.url(server.create())
    handlers.database("lake", url, connect_timeout=0.3)
    opened = handlers.python(LOAD, database="lake")
    first, second = handlers.file(), handlers.file()
    assert handlers.run(opened, first).ending is Ending.PROCESSED
    server.stop()
    report = handlers.run(opened, second)
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)
    server.start()
    assert handlers.run(opened, second).ending is Ending.PROCESSED
    assert done(url) == sorted([first.id, second.id])
    assert len(handlers.told("database.opened")) == 2


def test_a_server_that_stops_in_the_middle_of_a_run(handlers, server):
    url = server.url(server.create())
    handlers.database("lake", url, connect_timeout=0.3)
    opened = handlers.python(LOAD, database="lake", options={"cut": lambda connection: server.stop()})
    file = handlers.file()
    report = handlers.run(opened, file)
    assert (report.ending, report.begun) == (Ending.RELEASED, True)  # an attempt, and no failure
    assert "went away in the middle" in report.message
    assert handlers.run(opened, file).ending is Ending.UNAVAILABLE
    server.start()
    assert handlers.run(handlers.python(LOAD, database="lake"), file).ending is Ending.PROCESSED
    assert done(url) == [file.id]


@pytest.mark.parametrize("reaction", ["raise", "raise KeyError('mine') from error", "pass"])
def test_a_connection_that_is_cut_in_the_middle(handlers, postgres, reaction):
    """Whatever the handler makes of it."""
    name = postgres.create()
    handlers.database("lake", postgres.url(name))

    def cut(connection):
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with postgres.connect() as administrator:
            administrator.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    source = f"""
        def handle(file):
            with file.transaction("lake") as connection:
                try:
                    file.options["cut"](connection)
                    connection.exec_driver_sql("SELECT 1")
                except Exception as error: {reaction}
    """
    opened = handlers.python(source, options={"cut": cut})
    report = handlers.run(opened)
    assert (report.ending, report.begun) == (Ending.RELEASED, True)
    assert "lake went away in the middle" in report.message
    assert handlers.run(handlers.python(LOAD, database="lake")).ending is Ending.PROCESSED


def test_a_database_locked_by_somebody_else_for_too_long_is_away(handlers, tmp_path):
    url = f"sqlite:///{tmp_path}/lake.db"
    handlers.database("lake", url, connect_timeout=0.3)
    opened = handlers.python(LOAD, database="lake")
    file = handlers.file()
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as other:
        other.exec_driver_sql("CREATE TABLE t (x)")
        other.commit()
        other.exec_driver_sql("BEGIN IMMEDIATE")
        report = handlers.run(opened, file)
        other.rollback()
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)
    assert "locked" in report.message
    assert handlers.run(opened, file).ending is Ending.PROCESSED


def test_a_mistake_of_the_handler_is_its_own(handlers, opened, database_url):
    other = handlers.python(
        "def handle(file):\n    with file.transaction('lake') as c: c.exec_driver_sql('SELEKT 1')", database="lake"
    )
    report = handlers.run(other)
    assert (report.ending, report.begun) == (Ending.FAILED, True)
    assert "SELEKT" in report.message
    assert handlers.run(opened).ending is Ending.PROCESSED  # the connection is fit for the next file


def test_no_right_to_make_the_receipts_table_is_a_fault_of_the_set_up(handlers, postgres):
    name = postgres.create()
    with postgres.connect(name) as administrator:
        administrator.execute(f"CREATE ROLE reader_{name} LOGIN")
    handlers.database("lake", postgres.url(name).replace("inboxd@", f"reader_{name}@"))
    report = handlers.run(handlers.python(LOAD, database="lake"))
    assert (report.ending, report.begun) == (Ending.BROKEN, False)
    assert "inboxd_receipts can't be made or written" in report.message


def test_a_read_only_sqlite_file_is_not_blamed_on_a_file(handlers, tmp_path):
    url = f"sqlite:///file:{tmp_path}/lake.db?mode=ro&uri=true"
    with sa.create_engine(f"sqlite:///{tmp_path}/lake.db").begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    handlers.database("lake", url, connect_timeout=0.3)
    report = handlers.run(handlers.python(LOAD, database="lake"))
    assert report.begun is False
    assert "readonly" in report.message


def test_a_sqlite_file_that_is_replaced_is_seen(handlers, tmp_path):
    url = f"sqlite:///{tmp_path}/lake.db"
    handlers.database("lake", url)
    opened = handlers.python(LOAD, database="lake")
    handlers.run(opened)
    os.rename(tmp_path / "lake.db", tmp_path / "old.db")
    file = handlers.file()
    report = handlers.run(opened, file)
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)  # its table of receipts was not there
    assert handlers.run(opened, file).ending is Ending.PROCESSED
    assert done(url) == [file.id]


def test_a_file_that_is_no_database(handlers, tmp_path):
    (tmp_path / "lake.db").write_bytes(b"this is no database at all, and long enough" * 50)
    handlers.database("lake", f"sqlite:///{tmp_path}/lake.db", connect_timeout=0.3)
    report = handlers.run(handlers.python(LOAD, database="lake"))
    assert report.begun is False
    assert "not a database" in report.message
