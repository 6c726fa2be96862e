"""The examples of docs/handlers.md do what the page says."""

from __future__ import annotations

import json
import re
import sqlite3
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from inboxd.model import Ending

PAGE = (Path(__file__).parents[2] / "docs" / "handlers.md").read_text(encoding="utf-8")


def example(language, *words):
    """The only block of this language that holds all of the words."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if all(word in block for word in words)]
    return textwrap.dedent(found)


def test_python(handlers):
    opened = handlers.python(example("python", "Retry"))
    assert handlers.run(opened, handlers.file(content=b"a\nb\n")).result == {"lines": 2}
    assert handlers.run(opened, handlers.file(content=b"")).ending is Ending.REJECTED
    retry = handlers.run(opened, handlers.file(content=b"locked\n"))
    assert (retry.ending, retry.after) == (Ending.RETRY, 30.0)


def test_results(handlers):
    file = handlers.file("a.txt", b"abc")
    assert handlers.run(handlers.python(example("python", "file.results")), file).results
    assert Path(file.results, "a.txt.upper").read_text() == "ABC"


def test_database(handlers, tmp_path):
    with closing(sqlite3.connect(tmp_path / "w.db")) as database:
        database.execute("CREATE TABLE orders (line TEXT)")
        handlers.database("warehouse", f"sqlite:///{tmp_path}/w.db")
        opened = handlers.python(example("python", "file.transaction"), database="warehouse")
        file = handlers.file(content=b"a\nb\n")
        for attempt in (file, handlers.repeated(file)):
            assert handlers.run(opened, attempt).ending is Ending.PROCESSED
        assert database.execute("SELECT line FROM orders").fetchall() == [("a",), ("b",)]


def test_the_receipts_table_that_an_administrator_makes_is_the_one_we_use(handlers, tmp_path):
    with closing(sqlite3.connect(tmp_path / "w.db")) as database:
        database.execute(example("sql", "inboxd_receipts"))
        handlers.database("warehouse", f"sqlite:///{tmp_path}/w.db")
        opened = handlers.python("def handle(file):\n    with file.transaction(): pass", database="warehouse")
        file = handlers.file()
        assert handlers.run(opened, file).ending is Ending.PROCESSED
        assert database.execute("SELECT file_id FROM inboxd_receipts").fetchall() == [(file.id,)]


def test_batch(handlers):
    opened = handlers.python(example("python", "list[File]"), batch=True)
    full, empty = handlers.run_batch(opened, [handlers.file(content=b"abc"), handlers.file(content=b"")])
    assert (full.result, empty.ending) == ({"bytes": 3}, Ending.REJECTED)


def test_a_program_for_a_batch(handlers, tmp_path):
    program = handlers.folder / "program"
    program.write_text(example("sh", "INBOXD_OPTION_TO"))
    program.chmod(0o755)
    lake = tmp_path / "lake"
    lake.mkdir()
    opened = handlers.command(str(program), "{files}", batch=True, options={"to": str(lake)})
    a, b = handlers.file("a.csv"), handlers.file("b.csv")
    assert [report.ending for report in handlers.run_batch(opened, [a, b])] == [Ending.PROCESSED] * 2
    (listed,) = lake.glob("list-*.jsonl")
    assert [json.loads(line)["name"] for line in listed.read_text().splitlines()] == ["a.csv", "b.csv"]
    assert {one.name for one in lake.iterdir()} == {Path(a.path).name, Path(b.path).name, listed.name}


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [(b"id,x\n2,b\n1,a\n", Ending.PROCESSED, ""), (b"nothing\n", Ending.REJECTED, "its first line is no header")],
)
def test_a_program(handlers, content, ending, message):
    program = handlers.folder / "program"
    program.write_text(example("sh", "sorted-"))
    program.chmod(0o755)
    file = handlers.file("a.csv", content)
    report = handlers.run(handlers.command(str(program)), file)
    assert (report.ending, report.message) == (ending, message)
    assert Path(file.results, "sorted-a.csv").exists() is (ending is Ending.PROCESSED)
