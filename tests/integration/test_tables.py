"""The handler for tables, on real databases: what becomes of every form of CSV and JSON Lines, good or hostile."""

from __future__ import annotations

import csv
import datetime
import io
import json
import resource
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inboxd.model import Ending
from support.handler_rig import HandlerRig


class Table:
    """Loads a file's bytes into the table `t` of a database; says what is there."""

    def __init__(self, handlers, url, **options):
        handlers.database("warehouse", url)
        self.handlers = handlers
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        self.opened = handlers.loaded(
            python="inboxd.handlers.tables:load", database="warehouse", options={"table": "t", **options}
        )

    def load(self, content, name="x.csv"):
        content = content if isinstance(content, bytes) else content.encode()
        return self.handlers.run(self.opened, self.handlers.file(name, content))

    def accepts(self, content, name="x.csv"):
        report = self.load(content, name)
        assert report.ending is Ending.PROCESSED, report.message
        return report.result["rows"]

    def rejects(self, content, name="x.csv"):
        before = self.tables()
        report = self.load(content, name)
        assert report.ending is Ending.REJECTED, report
        assert self.tables() == before
        return report.message

    def tables(self):
        with self.engine.connect() as connection:
            names = [name for name in sa.inspect(connection).get_table_names() if name != "inboxd_receipts"]
            quote = connection.dialect.identifier_preparer.quote
            return {
                name: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one() for name in names
            }

    def rows(self, table="t"):
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(sa.Table(table, sa.MetaData(), autoload_with=connection)))
            return [tuple(row) for row in found]

    def columns(self, table="t"):
        with self.engine.connect() as connection:
            return {column["name"]: str(column["type"]) for column in sa.inspect(connection).get_columns(table)}

    def execute(self, sql):
        with self.engine.begin() as connection:
            connection.exec_driver_sql(sql)


@pytest.fixture
def table(handlers, database_url):
    return Table(handlers, database_url)


@pytest.fixture
def lite(handlers, tmp_path):
    """SQLite alone, where the database makes no difference."""
    return Table(handlers, f"sqlite:///{tmp_path}/lite.db")


# Forms of CSV


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,x\n2,y\n", "a;b\n1;x\n2;y\n", "a\tb\n1\tx\n2\ty\n", "a|b\n1|x\n2|y\n", "a,b\r\n1,x\r\n2,y\r\n",
        "a,b\n1,x\n2,y", "\ufeffa,b\n1,x\n2,y\n", '"a","b"\n"1","x"\n"2","y"\n', "a,b\n1,x\n\n2,y\n\n",
    ],
)  # fmt: skip
def test_delimiters_line_ends_marks_and_quotes(table, text):
    assert table.accepts(text) == 2
    assert table.rows() == [(1, "x"), (2, "y")]


def test_quotes_protect_delimiters_quotes_and_line_breaks(table):
    table.accepts('a,b\n"1,5","say ""yes""\nand no"\n')
    assert table.rows() == [("1,5", 'say "yes"\nand no')]


def test_a_delimiter_and_an_encoding_that_are_given(handlers, tmp_path):
    table = Table(handlers, f"sqlite:///{tmp_path}/x.db", delimiter="^", encoding="latin-1")
    table.accepts("a,x^b\n1^caf\xe9\n".encode("latin-1"))
    assert table.rows() == [(1, "caf\xe9")]


def test_no_value_is_null(table):
    table.accepts("a,b\n1,\n,x\n")
    assert table.rows() == [(1, None), (None, "x")]


def test_names_of_columns_are_made_plain(table):
    table.accepts('"Order No.",ÄRGER,"a ""b"" c; DROP TABLE t",select\n1,2,3,4\n')
    assert table.rows() == [(1, 2, 3, 4)]
    assert list(table.columns()) == ["order_no", "ärger", "a_b_c_drop_table_t", "select"]


# Types


def test_columns_are_typed_by_all_their_values(table):
    table.accepts("i,f,t,m,z,big,e\n1,1.5,x,1,007,9223372036854775808,\n-2,2,1,1.25,7,1,\n")
    assert table.rows() == [
        (1, 1.5, "x", 1.0, "007", "9223372036854775808", None), (-2, 2.0, "1", 1.25, "7", "1", None),
    ]  # fmt: skip


def test_values_go_into_the_types_of_a_table_that_is_there(table):
    table.execute("CREATE TABLE t (n NUMERIC(9,2), at TIMESTAMP, day DATE, yes BOOLEAN, s VARCHAR(9), i INTEGER)")
    table.accepts("i,s,yes,day,at,n\n7,x,yes,2026-02-28,2026-02-28 10:11:12,1.50\n")
    ((number, at, day, yes, text, integer),) = table.rows()
    assert (float(number), day, bool(yes), text, integer) == (1.5, datetime.date(2026, 2, 28), True, "x", 7)
    assert at == datetime.datetime(2026, 2, 28, 10, 11, 12)


@pytest.mark.parametrize(
    ("column", "value"),
    [("i INTEGER", "x"), ("i INTEGER", "1_0"), ("i INTEGER", "1.5"), ("i DATE", "2026-02-30"), ("i BOOLEAN", "maybe"),
     ("i NUMERIC(3,1)", "x"), ("i NUMERIC(3,1)", "1_0")],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_column_is_named_with_its_line(table, column, value):
    table.execute(f"CREATE TABLE t ({column})")
    assert table.rejects(f"i\n\n{value}\n").startswith(f"line 3: i is '{value}', and the column takes")


def test_what_only_the_database_refuses_is_rejected_too(table):
    table.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v VARCHAR(3) NOT NULL)")
    table.execute("INSERT INTO t VALUES (1, 'x')")
    assert "the database refuses it" in table.rejects("k,v\n2,y\n1,z\n")
    assert "the database refuses it" in table.rejects("k,v\n2,\n")
    assert table.rows() == [(1, "x")]


def test_a_long_value(table):
    table.accepts("a\n" + "x" * 500_000 + "\n")
    assert table.rows() == [("x" * 500_000,)]


# Numbers keep their digits

_LONG = "1234567890.123456789"  # no double
_EACH_FORM = pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])


def _column(name, *texts):
    """A file with a column of these numbers."""
    lines = ["a", *texts] if name == "x.csv" else [f'{{"a": {text}}}' for text in texts]
    return "\n".join(lines)


@_EACH_FORM
@pytest.mark.parametrize("text", [_LONG, "123456789012345.123456789012345", "-0.3000000000000000444"])
def test_digits_that_no_double_has_are_text(table, text, name):
    table.accepts(_column(name, text, "2.50"), name)
    assert table.rows() == [(text,), ("2.50",)]


@_EACH_FORM
@pytest.mark.parametrize("text", ["0.1", "2.50", "123456789012345.5"])
def test_digits_that_a_double_has_are_one(table, text, name):
    table.accepts(_column(name, text), name)
    assert table.rows() == [(float(text),)]


def test_what_was_written_from_a_double_is_one_again(table):
    table.accepts(_column("x.jsonl", *map(json.dumps, [0.1 + 0.2, 1e22, 5e-324])), "x.jsonl")
    assert table.rows() == [(0.1 + 0.2,), (1e22,), (5e-324,)]


@_EACH_FORM
def test_an_integer_beside_a_fraction_keeps_its_digits(table, name):
    table.accepts(_column(name, "9007199254740992", "1.5"), name)
    assert table.rows() == [(2.0**53,), (1.5,)]
    table.execute("DROP TABLE t")
    table.accepts(_column(name, "-9007199254740993", "1.5"), name)
    assert table.rows() == [("-9007199254740993",), ("1.5",)]


def test_a_column_of_integers_of_any_size_stays_one(table):
    table.accepts(f"a\n{2**53 + 1}\n1\n")
    assert table.rows() == [(2**53 + 1,), (1,)]


def test_digits_of_json_go_into_columns_that_are_there_as_they_are(table):
    table.execute("CREATE TABLE t (s TEXT, i BIGINT, d DOUBLE PRECISION)")
    table.accepts(f'{{"s": {_LONG}, "i": 9007199254740993.0, "d": 2.50}}\n', "x.jsonl")
    table.accepts('{"s": 2.50, "i": 1e2, "d": 1}\n', "x.jsonl")
    assert table.rows() == [(_LONG, 2**53 + 1, 2.5), ("2.50", 100, 1.0)]
    assert "the column takes BIGINT" in table.rejects('{"i": 1234567890123456789.5}\n', "x.jsonl")


@_EACH_FORM
def test_digits_go_into_an_exact_column(handlers, postgres, name):
    """SQLite has none."""
    with postgres.lend() as database:
        table = Table(handlers, postgres.url(database))
        table.execute("CREATE TABLE t (a NUMERIC(38,18))")
        table.accepts(_column(name, _LONG), name)
        assert table.rows() == [(Decimal(_LONG),)]


def test_a_column_without_a_type_takes_what_no_double_has(lite):
    lite.execute("CREATE TABLE t (a)")
    lite.accepts(f'{{"a": {_LONG}}}\n{{"a": {{"b": {_LONG}}}}}\n', "x.jsonl")
    assert lite.rows() == [(_LONG,), (f'{{"b": {_LONG}}}',)]


def test_digits_within_lists_and_objects(table):
    inner = f'{{"b\\"": [1, {_LONG}, null, true, "x", 2.5]}}'
    table.accepts(f'{{"a": {inner}}}\n', "x.jsonl")
    assert table.rows() == [(inner,)]


@pytest.mark.parametrize("kind", ["JSON", "JSONB"])
def test_digits_within_a_column_of_json(handlers, postgres, kind):
    with postgres.lend() as database:
        table = Table(handlers, postgres.url(database))
        table.execute(f"CREATE TABLE t (a {kind})")
        table.accepts(f'{{"a": {{"b": [{_LONG}]}}}}\n{{"a": "x"}}\n{{"a": null}}\n', "x.jsonl")
        table.accepts("a\ny\n")
        with table.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT a::text FROM t").scalars().all()
        assert found == [f'{{"b": [{_LONG}]}}', '"x"', None, '"y"']


def test_a_column_of_json_in_sqlite(lite):
    lite.execute("CREATE TABLE t (a JSON)")
    lite.accepts('{"a": {"b": [2.5]}}\n{"a": "x"}\n{"a": null}\n', "x.jsonl")
    assert lite.rows() == [({"b": [2.5]},), ("x",), (None,)]


@pytest.mark.parametrize("kind", ["JSON", "JSONB"])
def test_nothing_in_a_column_of_json_that_must_have_something(handlers, postgres, kind):
    with postgres.lend() as database:
        table = Table(handlers, postgres.url(database))
        table.execute(f"CREATE TABLE t (id BIGINT, a {kind} NOT NULL)")
        table.accepts('{"id": 1, "a": null}\n{"id": 2, "a": [1.5]}\n{"id": 3}\n', "x.jsonl")
        with table.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT a::text FROM t ORDER BY id").scalars().all()
        assert found == ["null", "[1.5]", "null"]


def test_digits_too_far_within_are_rejected(lite):
    assert lite.accepts('{"a": ' + "[" * 400 + _LONG + "]" * 400 + "}\n", "x.jsonl") == 1
    assert "line 2" in lite.rejects('\n{"a": ' + "[" * 90_000 + _LONG + "]" * 90_000 + "}\n", "x.jsonl")


def test_a_number_too_small_for_a_double(lite):
    assert "no number that can be kept" in lite.rejects('{"a": 1e-99999999999999999999}\n', "x.jsonl")
    lite.accepts('{"a": 1e-400}\n', "x.jsonl")
    assert lite.rows() == [("1E-400",)]


# What is no table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("\n1,2\n", "first line must name the columns"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 values, the first names 2 columns"),
        ("a,b\n1,2\n\n1\n", "line 4 has 1 values"),
        ("a,b,A\n1,2,3\n", "two columns are named 'a'"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,***\n1,2\n", "column 2 has no name"),
        ("a,b\n1,\x002\n", "line 2 holds a NUL"),
        ('a,b\n1,"2\n3,4\n', "is no CSV"),
        ('a,b\n1,"2"x\n', "line 2 is no CSV"),
        (b"a,b\n1,caf\xe9\n", "is not utf-8"),
        ("a\n" + "x" * (1024 * 1024 + 1) + "\n", "line 2 is too long"),
        ("a\n" + "x" * (3 * 1024 * 1024) + "\n", "line 2 is too long"),
        ('a\n"' + ("x" * 1000 + "\n") * 5000 + '"\n', "is too long"),
        (",".join(f"c{n}" for n in range(1001)), "1001 columns; 1000 at most"),
        (bytes(range(256)) * 10, ""),
        (b"\xff\xfea\x00,\x00b\x00\n\x00", ""),
    ],
)
def test_it_is_rejected_with_the_line_at_fault(lite, content, words):
    assert words in lite.rejects(content)


def test_a_fault_at_the_end_of_a_large_file_leaves_nothing(table):
    assert "line 5002" in table.rejects("a,b\n" + "1,2\n" * 5000 + "1\n")
    assert table.tables() == {}


def test_a_table_without_rows(lite):
    assert lite.accepts("a,b\n") == 0


def test_a_column_that_the_table_does_not_have(table):
    table.execute("CREATE TABLE t (a INTEGER)")
    assert "line 2: table t has no column 'b'" in table.rejects("a,b\n1,2\n")
    assert table.accepts("a\n1\n") == 1


# JSON Lines


def test_json_lines(table):
    lines = [{"a": 1, "b": "x", "c": True, "d": {"e": [1]}}, {"b": None, "a": 2.5}, {"a": 3, "new": "n"}]
    assert table.accepts("\n".join(map(json.dumps, lines)) + "\n\n", "x.jsonl") == 3
    assert table.rows() == [
        (1.0, "x", True, '{"e": [1]}', None), (2.5, None, None, None, None), (3.0, None, None, None, "n"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{\"a\": 1}\n[1]\n", "line 2 is no JSON object, but a list"),
        ("{\"a\": 1}\nnull\n", "line 2 is no JSON object, but a NoneType"),
        ("{\"a\": 1\n", "line 1 is no JSON"),
        ('{"a": NaN}\n', "line 1 is no JSON"),
        ('{"a": 1e999}\n', "line 1 is no JSON"),
        ("[" * 100_000 + "\n", "line 1 is no JSON"),
        ('{"a": ' + "9" * 5000 + "}\n", "line 1 is no JSON"),
        ('{"a": 1, "A": 2}\n', "two columns are named 'a'"),
        ('{"": 1}\n', "has no name"),
        ('{"a": "\\ud800"}\n', ""),
    ],
)  # fmt: skip
def test_lines_that_are_no_json_objects(lite, content, words):
    assert words in lite.rejects(content, "x.jsonl")


@pytest.mark.parametrize("text", [r'{"a": "\u0000"}', r'{"a": "x\u0000y"}'])
def test_a_nul_in_a_json_text_is_taken_or_rejected_never_tried_again(table, text):
    assert table.load(text + "\n", "x.jsonl").ending in (Ending.PROCESSED, Ending.REJECTED)


# Names of tables


@pytest.mark.parametrize("name", ["orders", 'say "hi"', "x; DROP TABLE t", "sel'ect", "select", "ünï", "a.b", "%s"])
def test_a_table_of_any_name_is_quoted(handlers, database_url, name):
    table = Table(handlers, database_url, table=name)
    assert table.accepts("a\n1\n") == 1
    assert table.accepts("a\n2\n") == 1
    assert table.rows(name) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Orders 2026.csv", "orders_2026"), ("'; DROP TABLE x; --.csv", "drop_table_x"), ("---.csv", "rows"),
     ("caf\udce9.csv", "caf"), ("a.b.csv", "a_b")],
)  # fmt: skip
def test_a_table_is_named_after_the_file(handlers, database_url, name, expected):
    table = Table(handlers, database_url, table=None)
    table.accepts("a\n1\n", name)
    assert table.tables() == {expected: 1}


@pytest.mark.parametrize("name", ["inboxd_receipts.csv", "sqlite_master.csv", "pg_class.csv", "INBOXD-receipts.csv"])
def test_an_uploader_names_no_table_of_ours_or_the_databases(handlers, database_url, name):
    assert "is none for files" in Table(handlers, database_url, table=None).rejects("file_id\n1\n", name)


# Size


def test_a_large_file_in_bounded_memory(tmp_path):
    """In a process of its own: its memory is that of its libraries and of some rows."""
    script = """
import resource, sys
from pathlib import Path
from support.handler_rig import HandlerRig
rig = HandlerRig(Path(sys.argv[1]))
rig.database("warehouse", f"sqlite:///{sys.argv[1]}/x.db")
opened = rig.loaded(python="inboxd.handlers.tables:load", database="warehouse", options={"table": "t"})
def load(content):
    report = rig.run(opened, rig.file("x.csv", content))
    assert report.ending == "processed", report
    return report.result["rows"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
line = b"%d," + b"x" * 200 + b"\\n"
_, small = load(b"a,b\\n" + b"".join(line % n for n in range(2000)))
path = rig.folder / "large"
with path.open("wb") as out:
    out.write(b"a,b\\n")
    for n in range(100_000):
        out.write(line % n)
found = path.stat()
file = rig.file()._replace(path=str(path), size=found.st_size, ino=found.st_ino, mtime_ns=found.st_mtime_ns)
report = rig.run(opened, file)
print(report.result["rows"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1])}, preexec_fn=_limit,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, growth = map(int, done.stdout.split())
    assert rows == 100_000
    assert growth < 8 * 1024, f"{growth} KiB more for 100,000 rows (20 MiB) than for 2,000"


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


# Anything at all


def _written(rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.integers().map(str)
_TEXTS = (
    st.text(st.sampled_from('ab1,;\t|"\n\r\0 \ufeff.-_é\u2028'), max_size=60)
    | st.lists(st.lists(_CELLS, min_size=2, max_size=3), max_size=5).map(_written)
)  # fmt: skip
_SIGNS = st.characters(exclude_categories=())  # lone surrogates, too
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(_SIGNS, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_SIGNS, max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def any_table(request, postgres):
    """One for all examples."""
    with tempfile.TemporaryDirectory() as folder:
        rig = HandlerRig(Path(folder))
        url = f"sqlite:///{folder}/any.db" if request.param == "sqlite" else postgres.url(postgres.create())
        yield Table(rig, url, table=None)
        rig.close()


def fate(table, content, name):
    """Only success or Reject, and never anything half done."""
    before = table.tables()
    report = table.load(content, name)
    assert report.ending in (Ending.PROCESSED, Ending.REJECTED), report
    after = table.tables()
    if report.ending is Ending.REJECTED:
        assert after == before
    else:
        assert sum(after.values()) - sum(before.values()) == report.result["rows"]
    for left in after:
        table.execute(f'DROP TABLE "{left}"')


_QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@_QUICK
@given(_TEXTS)
def test_any_text_is_a_table_or_is_rejected(any_table, text):
    fate(any_table, text, "x.csv")


_DIGITS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?", fullmatch=True)


@_QUICK
@given(st.lists(_DIGITS, min_size=1, max_size=3), st.sampled_from(["x.csv", "x.jsonl"]))
def test_any_numbers_are_unchanged(any_table, texts, name):
    report = any_table.load(_column(name, *texts), name)
    assert report.ending is Ending.PROCESSED, report
    found = [Decimal(str(value)) for (value,) in any_table.rows("x")]
    any_table.execute("DROP TABLE x")
    assert found == list(map(Decimal, texts))


@_QUICK
@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_are_rejected(any_table, content):
    fate(any_table, content, "x.csv")


@_QUICK
@given(st.lists(_JSON, max_size=4))
def test_any_json_is_a_table_or_is_rejected(any_table, lines):
    fate(any_table, "\n".join(map(json.dumps, lines)), "x.jsonl")
