"""The transaction of a file: its work is in once, whatever dies, repeats or runs at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from inboxd.model import Ending
from support.faults import fault

#: Dies where options say so; counts how often its block ran to the end for good.
WORK = """
import os, signal
import sqlalchemy as sa

def die(where, file):
    if file.attempt == 1 and file.options.get("die") == where:
        os.kill(os.getpid(), signal.SIGKILL)

def handle(file):
    die("before the transaction", file)
    with file.transaction("lake") as connection:
        die("before the work", file)
        connection.execute(sa.text("INSERT INTO work (file_id) VALUES (:id)"), {"id": file.id})
        die("after the work", file)
        sa.event.listen(connection, "commit", lambda connection: die("at the commit", file))
    die("after the commit", file)
"""

#: A worker in small: reads what to run, says the ending of each run.
CHILD = """
import json, sys
from inboxd.wire import DatabaseSpec, HandlerSpec, OrderedFile, Setup
from inboxd.work.handler import Handlers
given = json.load(sys.stdin)
setup = Setup({"main": HandlerSpec(given["python"], options=given["options"])},
              {"lake": DatabaseSpec(given["url"], 20.0)}, (given["path"],))
handlers = Handlers(setup)
assert handlers.load() == {}
report = handlers.run("main", OrderedFile(*given["file"]))
print(json.dumps([report.ending, report.message]))
handlers.close()
"""

TWICE = """
def handle(file):
    for _ in range(2):
        with file.transaction("lake"): pass
"""


@pytest.fixture
def lake(handlers, database_url):
    """A database of each kind with an empty table `work`; gives rows of a query."""
    handlers.database("lake", database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE work (file_id VARCHAR(32))")

    def query(sql):
        with engine.connect() as connection:
            return connection.exec_driver_sql(sql).scalars().all()

    query.url = database_url
    return query


def start_child(handlers, lake, module, file, **options):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    given = {
        "python": f"{module}:handle", "options": options, "url": lake.url, "path": str(handlers.folder),
        "file": file,
    }  # fmt: skip
    child.stdin.write(json.dumps(given).encode())
    child.stdin.close()
    child.stdin = None
    return child


@fault(
    "Workers and handlers",
    "a run with a transaction is killed and repeated",
    how="SIGKILL, on SQLite and PostgreSQL",
    shows="its effect happens once",
)
@pytest.mark.parametrize(
    ("where", "in_the_first_run"),
    [
        ("before the transaction", 0), ("before the work", 0), ("after the work", 0), ("at the commit", 0),
        ("after the commit", 1),
    ],
)  # fmt: skip
def test_a_run_that_is_killed_and_repeated_has_its_effect_once(handlers, lake, where, in_the_first_run):
    module, file = handlers.module(WORK), handlers.file()
    child = start_child(handlers, lake, module, file, die=where)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert len(lake("SELECT file_id FROM work")) == in_the_first_run
    again = handlers.loaded(python=f"{module}:handle", options={"die": where})
    second = handlers.run(again, handlers.repeated(file))
    assert second.ending is Ending.PROCESSED
    assert ("committed by an earlier run" in second.message) == bool(in_the_first_run)
    assert handlers.run(again, handlers.repeated(file)).ending is Ending.PROCESSED
    assert lake("SELECT file_id FROM work") == [file.id]
    assert lake("SELECT file_id FROM inboxd_receipts") == [file.id]


#: Goes on after a statement that has failed, in the ways that `options` name.
GOING_ON = """
import sqlalchemy as sa
def handle(file):
    insert = "INSERT " + file.options.get("or", "") + " INTO work (file_id) VALUES (:value)"
    with file.transaction("lake") as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX once ON work (file_id)")
        for value in ("1", "2", "2", *file.options.get("more", ())):
            try:
                if file.options.get("nested"):
                    with connection.begin_nested():
                        connection.execute(sa.text(insert), {"value": value})
                else:
                    connection.execute(sa.text(insert), {"value": value})
            except Exception:
                pass
"""


@fault(
    "Workers and handlers", "a handler goes on after a statement that has failed", how="on SQLite and PostgreSQL",
    shows="all that the file's transaction has done is kept, or it is a failure",
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"more": ["3"]}, {"or": "OR ROLLBACK"}, {"or": "OR ROLLBACK", "more": ["3"]}])
def test_what_the_database_has_undone_is_no_success(handlers, lake, options):
    if lake.url.startswith("postgresql"):
        options = {**options, "or": ""}
    loaded = handlers.loaded(python=f"{handlers.module(GOING_ON)}:handle", options=options)
    report = handlers.run(loaded, file := handlers.file())
    if lake.url.startswith("sqlite") and "or" not in options:  # it undoes that one statement alone
        assert report.ending is Ending.PROCESSED
        assert lake("SELECT file_id FROM work") == ["1", "2", *options.get("more", ())]
        assert lake("SELECT file_id FROM inboxd_receipts") == [file.id]
    else:
        assert report.ending is Ending.FAILED
        assert "begin_nested" in report.message
        assert lake("SELECT file_id FROM work") == []


def test_what_may_fail_stands_in_a_savepoint(handlers, lake):
    options = {"nested": True, "more": ["3"]}
    loaded = handlers.loaded(python=f"{handlers.module(GOING_ON)}:handle", options=options)
    assert handlers.run(loaded, file := handlers.file()).ending is Ending.PROCESSED
    assert lake("SELECT file_id FROM work ORDER BY file_id") == ["1", "2", "3"]
    assert lake("SELECT file_id FROM inboxd_receipts") == [file.id]


@pytest.mark.parametrize(("end", "ending"), [("commit", Ending.PROCESSED), ("rollback", Ending.FAILED)])
def test_a_handler_that_ends_the_transaction_itself(handlers, lake, end, ending):
    code = f"""
def handle(file):
    with file.transaction("lake") as connection:
        connection.exec_driver_sql("INSERT INTO work (file_id) VALUES ('1')")
        connection.{end}()
"""
    loaded = handlers.loaded(python=f"{handlers.module(code)}:handle")
    assert handlers.run(loaded, handlers.file()).ending is ending
    assert len(lake("SELECT file_id FROM work")) == (1 if end == "commit" else 0)


@pytest.mark.parametrize(
    "body",
    [
        "raw.executescript('CREATE TABLE IF NOT EXISTS other (n INTEGER)'); connection.exec_driver_sql(insert % 1)",
        "raw.execute(insert % 1); raw.commit(); connection.exec_driver_sql(insert % 2)",
        "connection.exec_driver_sql(insert % 1); raw.executescript('SELECT 1')",
    ],
)
def test_what_the_handler_has_committed_itself_is_not_called_undone(handlers, lake, body):
    """Python's driver for SQLite does so by itself before a script."""
    if lake.url.startswith("postgresql"):
        body = body.replace("raw.executescript", "raw.execute")
    code = f"""
insert = "INSERT INTO work (file_id) VALUES ('%s')"
def handle(file):
    with file.transaction("lake") as connection:
        raw = connection.connection.driver_connection
        {body}
"""
    loaded = handlers.loaded(python=f"{handlers.module(code)}:handle")
    report = handlers.run(loaded, file := handlers.file())
    assert report.ending is Ending.PROCESSED, report.message
    assert lake("SELECT file_id FROM work ORDER BY file_id") == (["1", "2"] if "% 2" in body else ["1"])
    assert lake("SELECT file_id FROM inboxd_receipts") == [file.id]


@pytest.mark.parametrize(
    "body",
    [
        "connection.exec_driver_sql('ROLLBACK')",
        "raw.rollback()",
        "raw.rollback(); raw.execute('BEGIN')",
        "raw.rollback(); raw.execute('BEGIN'); raw.execute('SAVEPOINT one')",
    ],
)
def test_what_follows_a_rollback_is_not_kept(handlers, lake, body):
    """It is in another transaction, without the receipt; or, on SQLite, in none."""
    code = f"""
def handle(file):
    with file.transaction("lake") as connection:
        raw = connection.connection.driver_connection
        connection.exec_driver_sql("INSERT INTO work (file_id) VALUES ('1')")
        {body}
        connection.exec_driver_sql("INSERT INTO work (file_id) VALUES ('2')")
"""
    loaded, file = handlers.loaded(python=f"{handlers.module(code)}:handle"), handlers.file()
    for run in (file, handlers.repeated(file)):
        report = handlers.run(loaded, run)
        assert (report.ending, report.error_class) == (Ending.FAILED, "Undone"), report.message
    assert lake("SELECT file_id FROM work") == lake("SELECT file_id FROM inboxd_receipts") == []


@pytest.mark.parametrize("set_up", ["CREATE SCHEMA other", "CREATE ROLE loader_of_receipts"])
def test_a_handler_that_sees_no_receipts_in_its_block(handlers, lake, set_up):
    """PostgreSQL: it has taken another path, or another role, for its transaction."""
    if lake.url.startswith("sqlite"):
        set_up = what = "SELECT 1"
    else:
        what = "SET LOCAL search_path TO other" if "SCHEMA" in set_up else "SET LOCAL ROLE loader_of_receipts"
    engine = sa.create_engine(lake.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(set_up)
    code = f"""
def handle(file):
    with file.transaction("lake") as connection:
        connection.exec_driver_sql("INSERT INTO work (file_id) VALUES ('1')")
        connection.exec_driver_sql("{what}")
"""
    loaded = handlers.loaded(python=f"{handlers.module(code)}:handle")
    try:
        report = handlers.run(loaded, file := handlers.file())
        assert report.ending is Ending.PROCESSED, report.message
        assert lake("SELECT file_id FROM inboxd_receipts") == [file.id]
    finally:
        if "ROLE" in set_up:
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP ROLE loader_of_receipts")


def test_two_runs_of_one_file_at_once_have_one_effect(handlers, lake):
    """An orphan of a killed daemon may still be at it."""
    module, file = handlers.module(WORK), handlers.file()
    children = [start_child(handlers, lake, module, file) for _ in range(4)]
    answers = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert [ending for ending, _ in answers] == [Ending.PROCESSED] * 4
    assert sorted(bool(message) for _, message in answers) == [False, True, True, True]
    assert lake("SELECT file_id FROM work") == [file.id]


def test_many_processes_make_the_table_at_once(handlers, lake):
    module, files = handlers.module(WORK), [handlers.file() for _ in range(6)]
    children = [start_child(handlers, lake, module, file) for file in files]
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert json.loads(out) == [Ending.PROCESSED, ""], errors.decode()
    assert sorted(lake("SELECT file_id FROM work")) == sorted(file.id for file in files)
    assert sorted(lake("SELECT file_id FROM inboxd_receipts")) == sorted(file.id for file in files)


@pytest.mark.parametrize("failure", ["ValueError('bad')", "Reject('no')", "Retry('later')", "SystemExit"])
def test_a_block_that_fails_leaves_neither_work_nor_receipt(handlers, lake, failure):
    failing = handlers.python(f"""
        from inboxd import Reject, Retry
        def handle(file):
            with file.transaction("lake") as connection:
                connection.exec_driver_sql("INSERT INTO work VALUES ('x')")
                if file.attempt == 1: raise {failure}
    """)
    file = handlers.file()
    assert handlers.run(failing, file).ending is not Ending.PROCESSED
    assert lake("SELECT file_id FROM work") == lake("SELECT file_id FROM inboxd_receipts") == []
    assert handlers.run(failing, handlers.repeated(file)).message == ""
    assert lake("SELECT file_id FROM work") == ["x"]


def test_a_process_that_is_forked_in_the_block_does_not_roll_it_back(handlers, lake):
    """It shares the connection: what it says there is said for its parent."""
    source = """
        import os, sys
        import sqlalchemy as sa
        def handle(file):
            with file.transaction("lake") as connection:
                connection.execute(sa.text("INSERT INTO work (file_id) VALUES (:id)"), {"id": file.id})
                if os.fork() == 0:
                    sys.exit()
                assert os.wait()[1] == 0
        """
    file = handlers.file()
    child = start_child(handlers, lake, handlers.module(source), file)
    assert json.loads(child.communicate(timeout=60)[0]) == [Ending.PROCESSED, ""]
    assert lake("SELECT file_id FROM work") == lake("SELECT file_id FROM inboxd_receipts") == [file.id]


def test_what_follows_the_block_is_not_run_again_either(handlers, lake):
    opened = handlers.python("""
        def handle(file):
            with file.transaction("lake"): pass
            with (file.path.parent / "after").open("a") as log: log.write("x")
            raise ValueError("after the commit")
    """)
    file = handlers.file()
    assert handlers.run(opened, file).ending is Ending.FAILED
    assert handlers.run(opened, handlers.repeated(file)).ending is Ending.PROCESSED
    assert (handlers.folder / "after").read_text() == "x"


def test_results_written_before_the_block_are_there_after_a_death_behind_it(handlers, lake):
    opened = handlers.python("""
        def handle(file):
            (file.results / "before").touch()
            with file.transaction("lake"): (file.results / "within").touch()
            if file.attempt == 1: raise ValueError("in place of a death")
    """)
    file = handlers.file()
    assert handlers.run(opened, file).ending is Ending.FAILED
    assert handlers.run(opened, handlers.repeated(file)).results is True
    assert os.listdir(file.results) == ["before"]


def test_except_exception_does_not_run_it_again(handlers, lake):
    opened = handlers.python("""
        def handle(file):
            try:
                with file.transaction("lake") as connection:
                    connection.exec_driver_sql("INSERT INTO work VALUES ('x')")
            except Exception:
                raise AssertionError("caught what is not for it")
    """)
    file = handlers.file()
    assert [handlers.run(opened, handlers.repeated(file)).ending for _ in range(3)] == [Ending.PROCESSED] * 3
    assert lake("SELECT file_id FROM work") == ["x"]


def test_a_second_block_in_one_run_is_refused_for_good(handlers, lake):
    """Were it tried again, the first block's receipt would end the run as processed, and the second never happen."""
    report = handlers.run(handlers.python(TWICE))
    assert report.ending is Ending.REJECTED
    assert "one file.transaction per file and run" in report.message
    assert "file.transaction(" in report.detail and "receipts.py" not in report.detail


def test_tables_and_savepoints_belong_to_the_transaction(handlers, lake):
    opened = handlers.python("""
        import sqlalchemy as sa
        def handle(file):
            with file.transaction("lake") as connection:
                if not sa.inspect(connection).has_table("made"):
                    connection.exec_driver_sql("CREATE TABLE made (x INTEGER PRIMARY KEY)")
                connection.exec_driver_sql("INSERT INTO made VALUES (1)")
                try:
                    with connection.begin_nested(): connection.exec_driver_sql("INSERT INTO made VALUES (1)")
                except sa.exc.IntegrityError:
                    connection.exec_driver_sql("INSERT INTO made VALUES (2)")
                if file.attempt == 1: raise ValueError
    """)
    file = handlers.file()
    assert handlers.run(opened, file).ending is Ending.FAILED
    with pytest.raises(sa.exc.DBAPIError):
        lake("SELECT x FROM made")
    assert handlers.run(opened, handlers.repeated(file)).ending is Ending.PROCESSED
    assert lake("SELECT x FROM made ORDER BY x") == [1, 2]


def test_a_batch_has_a_transaction_per_file_and_repeats_none(handlers, lake):
    opened = handlers.python(
        """
        import sqlalchemy as sa
        def handle(files):
            for file in files:
                with file.transaction("lake") as connection:
                    connection.execute(sa.text("INSERT INTO work (file_id) VALUES (:id)"), {"id": file.id})
                    assert file.name != "bad"
        """,
        batch=True,
    )
    files = [handlers.file(name) for name in ("a", "b", "bad", "d")]
    waiting, ended = [files], {}
    while waiting:
        part = waiting.pop()
        for file, report in zip(part, handlers.run_batch(opened, part), strict=True):
            if not report.bisect:
                ended[file.name] = report.ending
        left = [file for file in part if file.name not in ended]
        waiting += [half for half in (left[: len(left) // 2], left[len(left) // 2 :]) if half]
    assert ended == {
        "a": Ending.PROCESSED, "b": Ending.PROCESSED, "bad": Ending.FAILED, "d": Ending.PROCESSED,
    }  # fmt: skip
    assert sorted(lake("SELECT file_id FROM work")) == sorted(file.id for file in files if file.name != "bad")
