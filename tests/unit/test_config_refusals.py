"""Every refusal names line, key, value and remedy; all of them come at once; no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.settings import loaded, refused, with_inbox

#: (what stands in the file, the key that is blamed, words of the message)
IN_TOP = [
    ("colour: blue", "colour", "unknown key; known here: state, ledger"),
    ("rescann: 1s", "rescann", "unknown key; did you mean 'rescan'?"),
    ("state: 5", "state", "write a path, as text (given: 5)"),
    ("state: ~", "state", "(given: nothing)"),
    ("state: ''", "state", "write something"),
    ("state: ~/state", "state", "~ is not expanded"),
    ("state: \"a\\0b\"", "state", "NUL"),
    ("state: a?b", "state", "a SQLite ledger can't lie in"),
    ("durability: ful", "durability", 'expected full or process (given: "ful")'),
    ("workers: 5", "workers", "expected a section, that is keys and values below it (given: 5)"),
    ("workers: [5]", "workers", "(given: a list)"),
    ("workers: {processes: none}", "workers.processes", 'expected a whole number or auto (given: "none")'),
    ("workers: {processes: 0}", "workers.processes", "expected at least 1 or auto (given: 0)"),
    ("workers: {processes: 999999999999999999}", "workers.processes", "expected at most 1024 or auto (given: 99"),
    ("workers: {processes: '4'}", "workers.processes", 'a whole number or auto (given: "4")'),
    ("workers: {processes: true}", "workers.processes", "a whole number or auto (given: true)"),
    ("workers: {batch_size: 1.0}", "workers.batch_size", "a whole number (given: 1.0)"),
    ("workers: {batch_size: 010}", "workers.batch_size", 'a whole number (given: "010")'),
    ("workers: {batch_size: 99999}", "workers.batch_size", "at most 10000"),
    ("workers: {timeout: 10}", "workers.timeout", "250ms, 10s, 5m, 2h or 1d (given: 10)"),
    ("workers: {timeout: 10.5}", "workers.timeout", "(given: 10.5)"),
    ("workers: {timeout: 0s}", "workers.timeout", "longer than zero"),
    ("workers: {max_memory: 512MB}", "workers.max_memory", '64KiB, 512MiB or 1GiB (given: "512MB")'),
    ("workers: {max_memory: 5000}", "workers.max_memory", "(given: 5000)"),
    ("min_free_inodes: -1", "min_free_inodes", "at least 0"),
    ("ledger: 5", "ledger", "expected text, so put it in quotes"),
    ("ledger: mysql+pymysql://h/d", "ledger", "SQLite or PostgreSQL"),
    ("ledger: 'sqlite://'", "ledger", "in memory"),
    ("ledger: postgresql+asyncpg://h/d", "ledger", "asyncio"),
    ("ledger: somewhere", "ledger", "this is no database URL"),
    ("databases: {d: sqlite:///x}", "databases.d", "expected a section"),
    ("databases: {d: {}}", "databases.d.url", "is missing; add it"),
    ("databases: {d: {url: 'x://h'}}", "databases.d.url", "not known here"),
    ("databases: {d: {url: 'postgresql://h:port/d'}}", "databases.d.url", "this is no database URL"),
    ("databases: {d: {url: 'sqlite:///:memory:'}}", "databases.d.url", "in memory"),
    ("databases: {d: {url: 'sqlite:///file:x?uri=true'}}", "databases.d.url", "without file:"),
    ("databases: {d: {url: 'sqlite:///100%25.db'}}", "databases.d.url", "can't hold ? or %"),
    ("databases: {'a b': {url: 'sqlite:///x'}}", "databases.a b", "is no good name"),
]  # fmt: skip

IN_INBOX = [
    ("setle: renamed", "setle", "did you mean 'settle'?"),
    ("match: '*.csv'", "match", 'expected a list, written [first, second] (given: "*.csv")'),
    ("match: []", "match", "at least 1 entry"),
    ("match: ['']", "match[0]", "write something"),
    ("match: ['*', 'in/*.csv']", "match[1]", "leave the / out"),
    ("ignore: [1]", "ignore[0]", "expected text, so put it in quotes (given: 1)"),
    ("recursive: yes", "recursive", 'expected true or false (given: "yes")'),
    ("recursive: 1", "recursive", "true or false"),
    ("settle: quiet", "settle", 'write one of {quiet: 1s}, renamed, {marker: ".done"} or {checksum: sha256} (given: "quiet")'),
    ("settle: {}", "settle", "write one of"),
    ("settle: [renamed]", "settle", "write one of"),
    ("settle: 5", "settle", "write one of"),
    ("settle: {quite: 1s}", "settle", "write one of"),
    ("settle: {quiet: 1s, marker: .x}", "settle", "write one of"),
    ("settle: {quiet: 1}", "settle.quiet", "(given: 1)"),
    ("settle: {quiet: 1s, xyz: 1}", "settle.xyz", "unknown key; known here: quiet, marker, checksum"),
    ("settle: {marker: a/b}", "settle.marker", 'expected text such as .done (given: "a/b")'),
    ("settle: {marker: ''}", "settle.marker", "text that is not empty"),
    ("settle: {checksum: crc}", "settle.checksum", "expected sha256 or md5"),
    ("order: size", "order", "expected arrival, name or none"),
    ("retry: {first: 10m}", "retry", "'first' (10m) is longer than 'longest' (5m)"),
    ("retry: {max_failures: 11}", "retry", "'max_failures' (11) is above 'max_attempts' (10)"),
    ("retry: {max_failures: 0}", "retry.max_failures", "at least 1"),
    ("duplicates: maybe", "duplicates", "expected process, skip or error"),
    ("duplicates: {window: 1d}", "duplicates", "has no use with 'policy: process'"),
    ("duplicates: {policy: skip, window: 0s}", "duplicates.window", "longer than zero"),
    ("layout: 2024", "layout", "put it in quotes"),
    ("layout: /%Y", "layout", "relative folder"),
    ("layout: '%Y/../x'", "layout", "relative folder"),
    ("layout: '%Y//%m'", "layout", "relative folder"),
    ("layout: '%Y/'", "layout", "relative folder"),
    ("layout: '.'", "layout", "relative folder"),
    ("layout: '%Q'", "layout", "%Q is not supported"),
    ("layout: '%D'", "layout", "%D is not supported"),
    ("layout: '100%'", "layout", "is not supported"),
    (f"layout: '{'x' * 256}'", "layout", "255 bytes"),
    ("layout: \"a\\0\"", "layout", "NUL"),
    ("parallel: 0", "parallel", "at least 1"),
    ("priority: high", "priority", "a whole number"),
    ("sources: {s3: {}}", "sources.s3", "give exactly one of 'http', 'sftp', 'ftp' and 'store'"),
    ("sources: {s3: s3://b}", "sources.s3", "expected a section"),
    ("sources: [s3]", "sources", "expected a section"),
    ("sources: {'a b': {ftp: {host: h}}}", "sources.a b", "is no good name"),
    ("processed: [a]", "processed", "write a path, as text"),
]  # fmt: skip

IN_HANDLER = [
    ("{}", "", "give exactly one of 'python' and 'command'"),
    ("{python: 'a:b', command: [c]}", "", "give exactly one of"),
    ("handlers:handle", "", 'expected a section, that is keys and values below it (given: "handlers:handle")'),
    ("{python: handlers}", ".python", 'expected text such as handlers:handle (given: "handlers")'),
    ("{python: 'a/b:c'}", ".python", "expected text such as handlers:handle"),
    ("{python: 'a..b:c'}", ".python", "expected text such as handlers:handle"),
    ("{command: prog}", ".command", "expected a list"),
    ("{command: []}", ".command", "at least 1 entry"),
    ("{command: [prog, 5]}", ".command[1]", "put it in quotes (given: 5)"),
    ('{command: ["a\\0"]}', ".command[0]", "NUL"),
    ("{python: 'a:b', database: warehous}", ".database", "no 'warehous' below 'databases'; did you mean 'warehouse'?"),
    ("{python: 'a:b', database: x}", ".database", "add it there (known: warehouse)"),
    ("{python: 'a:b', options: [1]}", ".options", "expected a section"),
    ("{python: 'a:b', bach: true}", ".bach", "did you mean 'batch'?"),
]


@pytest.mark.parametrize(("text", "key", "words"), IN_TOP)
def test_top_level(tmp_path: Path, text: str, key: str, words: str) -> None:
    (problem,) = refused(tmp_path, with_inbox(top=f"# a comment\n{text}"))
    assert problem.startswith(f"2: {key}: ")
    assert words in problem


@pytest.mark.parametrize(("text", "key", "words"), IN_INBOX)
def test_inbox(tmp_path: Path, text: str, key: str, words: str) -> None:
    (problem,) = refused(tmp_path, with_inbox(f"# a comment\n{text}"))
    assert problem.startswith(f"7: inboxes.a.{key}: ")
    assert words in problem


@pytest.mark.parametrize(("text", "key", "words"), IN_HANDLER)
def test_handler(tmp_path: Path, text: str, key: str, words: str) -> None:
    top = "databases: {warehouse: {url: 'sqlite:///w.db'}}"
    (problem,) = refused(tmp_path, f"{top}\ninboxes:\n  a:\n    root: a\n    handler: {text}\n")
    assert problem.startswith(f"5: inboxes.a.handler{key}: ")
    assert words in problem


@pytest.mark.parametrize("layout", ["", "%Y-%m-%d", "%Y/%m/%d", "%G-W%V", "plain", "100%%", "%H.%M", "é %B"])
def test_layouts_that_are_fine(tmp_path: Path, layout: str) -> None:
    assert loaded(tmp_path, with_inbox(f'layout: "{layout}"')).inboxes["a"].layout == layout


@pytest.mark.parametrize("name", ["b c", "-b", "é", "../b", "b" * 65, "''"])
def test_inbox_names(tmp_path: Path, name: str) -> None:
    (problem,) = refused(tmp_path, f"inboxes:\n  {name}: {{root: x, handler: {{python: 'a:b'}}}}\n")
    assert problem.startswith("2: inboxes.")
    assert "is no good name" in problem


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("state: x", "1: inboxes: is missing"),
        ("state: x\ninboxes: {}", "2: inboxes: expected at least 1 entry"),
        ("inboxes:", "1: inboxes: expected a section"),
        ("inboxes: {a: }", "1: inboxes.a: expected a section"),
        ("[]", "1: expected a section"),
        ("text", "1: expected a section"),
        ("inboxes:\n  a: {root: x}", "2: inboxes.a.handler: is missing"),
        ("inboxes:\n  a: {inbound: x, handler: {python: 'a:b'}}", "2: inboxes.a: give 'root', or name every folder; missing: processed, "),
    ],
)  # fmt: skip
def test_what_must_be_there(tmp_path: Path, text: str, start: str) -> None:
    (problem,) = refused(tmp_path, text)
    assert problem.startswith(start)


def test_all_at_once_in_file_order(tmp_path: Path) -> None:
    text = """\
state: state
colour: blue
workers:
  processes: none
  timeout: 10
databases:
  d: {url: {env: NOT_SET_ANYWHERE}}
inboxes:
  a:
    root: inboxes/a
    setle: renamed
    handler: {python: "h:h", database: e}
  b:
    root: inboxes/b
    errors: inboxes/b/inbound/errors
    handler: {python: "h:h", command: [prog]}
  a:
    root: inboxes/c
  5: {}
  c: *alias
"""
    problems = refused(tmp_path, text)
    starts = [
        "2: colour", "4: workers.processes", "5: workers.timeout", "7: databases.d.url", "11: inboxes.a.setle",
        "12: inboxes.a.handler.database", "15: inboxes.b.errors", "16: inboxes.b.handler", "17: inboxes.a",
        "19: inboxes", "20: inboxes.c",
    ]  # fmt: skip
    assert len(problems) == len(starts)
    assert all(problem.startswith(f"{start}: ") for problem, start in zip(problems, starts, strict=True)), problems


def test_what_follows_from_a_refusal_is_not_told(tmp_path: Path) -> None:
    text = "inboxes:\n  a:\n    root: {env: NOT_SET_ANYWHERE}\n    handler: {python: *x, database: {file: none}}\n"
    assert [problem.partition(": ")[2].partition(": ")[0] for problem in refused(tmp_path, text)] == [
        "inboxes.a.root", "inboxes.a.handler.python", "inboxes.a.handler.database",
    ]  # fmt: skip


def test_a_flood_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    problems = refused(tmp_path, "".join(f"key{number}: 1\n" for number in range(300)))
    assert len(problems) == 101
    assert problems[-1].endswith("and 201 more")
    assert path.exists()


CANARY = "canary-7c1f"


@pytest.mark.parametrize(
    "top",
    [
        f"ledger: 'mysql://u:{CANARY}@h/d'",
        f"ledger: 'postgresql://u:{CANARY}@h:{CANARY}/d'",
        f"ledger: ['postgresql://u:{CANARY}@h/d']",
        f"ledgr: 'postgresql://u:{CANARY}@h/d'",
        f"state: 'postgresql://u:{CANARY}@h/d'\nrescan: 'postgresql://u:{CANARY}@h/d'",
        f"databases: {CANARY}",
        f"databases: {{d: '{CANARY}'}}",
        f"databases: {{d: {{url: '{CANARY}'}}}}",
        f"databases: {{d: {{url: 'x://u:{CANARY}@h'}}}}",
        f"databases: {{d: {{url: {{password: {CANARY}}}}}}}",
        f"databases: {{d: {{url: 'sqlite:///x', connect_timeout: {CANARY}}}}}",
        f"databases: {{d: {{url: 'sqlite:///x', password: {CANARY}}}}}",
        "ledger: {env: CANARY}",
        "durability: {env: CANARY}",
        "rescan: {file: canary}",
        "workers: {processes: {file: canary}}",
        "databases: {d: {url: {file: canary}}}",
    ],
)
def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    (tmp_path / "canary").write_text(CANARY)
    assert CANARY not in "\n".join(refused(tmp_path, with_inbox(top=top)))


def test_a_reference_is_shown_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    (problem,) = refused(tmp_path, with_inbox(top="durability: {env: CANARY}"))
    assert problem == "1: durability: expected full or process (given: {env: CANARY})"


def test_strange_keys_stay_on_one_line(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, with_inbox(top='"a\\nb\\e[31m": 1'))
    assert problem.startswith(r"1: a\nb\x1b[31m: unknown key")
