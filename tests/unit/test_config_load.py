"""config.yaml -> Config: values, paths, references; what a child is told; what a reload changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboxd.config.load import database_specs, describe, handler_specs, load
from inboxd.config.models import FOLDERS, Checksum, Config, Marker, Quiet
from inboxd.errors import ConfigError
from inboxd.wire import DatabaseSpec, HandlerSpec
from support.settings import loaded, refused, with_inbox

EVERYTHING = """\
state: var/state
ledger: sqlite
durability: full
workers:
  processes: auto
  batch_size: 100
  max_memory: 512MiB
  max_files: 5000
  timeout: 10m
min_free_space: 1GiB
min_free_inodes: 1000
rescan: 30s
stop_grace: 30s
resources: {every: 60s}
databases:
  warehouse: {url: "sqlite:///var/warehouse.db", connect_timeout: 300s}
inboxes:
  tables:
    root: var/tables
    match: ["*.csv", "*.jsonl"]
    recursive: true
    settle: {quiet: 1s}
    order: arrival
    handler: {python: "inboxd.handlers.tables:load", database: warehouse, options: {deep: [1, {a: b}]}}
    retry: {max_failures: 3, first: 1s, longest: 5m}
    duplicates: process
    layout: "%Y-%m-%d"
    retention: {processed: 90d, errors: 365d}
    priority: 0
    parallel: 4
  commands:
    root: var/commands
    inbound: /srv/uploads
    settle: {marker: ".done"}
    handler: {command: [prog, "{path}"]}
    duplicates: {policy: skip, window: 30d}
    layout: ""
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return loaded(tmp_path_factory.mktemp("site"), EVERYTHING)


def test_values_are_in_base_units(config: Config) -> None:
    assert (config.workers.timeout, config.workers.max_memory, config.min_free_space) == (600.0, 512 << 20, 1 << 30)
    tables = config.inboxes["tables"]
    assert tables.settle == Quiet(quiet=1.0)
    assert (tables.retry.limits.max_failures, tables.retry.limits.longest) == (3, 300.0)
    assert tables.retention.processed == 90 * 86400.0
    assert tables.handler.options == {"deep": [1, {"a": "b"}]}
    assert config.workers.count == len(os.sched_getaffinity(0))


def test_paths_are_absolute(config: Config) -> None:
    assert config.file == config.base / "config.yaml"
    assert config.state == config.base / "var/state"
    assert config.ledger_url == f"sqlite:///{config.base}/var/state/ledger.sqlite"
    tables, commands = config.inboxes.values()
    assert [tables.folder(which) for which in FOLDERS] == [config.base / "var/tables" / which for which in FOLDERS]
    assert commands.folder("inbound") == Path("/srv/uploads")
    assert commands.folder("work") == config.base / "var/commands/work"


def test_defaults_are_absolute_too(tmp_path: Path) -> None:
    assert loaded(tmp_path, with_inbox()).state == tmp_path / "var/state"


def test_a_path_may_lead_upwards(tmp_path: Path) -> None:
    config = loaded(tmp_path, with_inbox(top="state: ../elsewhere/./state/"))
    assert config.state == tmp_path.parent / "elsewhere/state"


def test_a_relative_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(with_inbox())
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.yaml")).file == tmp_path / "config.yaml"


def test_short_and_long_forms(tmp_path: Path) -> None:
    for rules, policy, window in (
        ("duplicates: error", "error", None),
        ("duplicates: {policy: skip, window: 1d}", "skip", 86400.0),
    ):
        found = loaded(tmp_path, with_inbox(rules)).inboxes["a"].duplicates
        assert (found.policy, found.window) == (policy, window)
    for rules, settle in (
        ("settle: renamed", "renamed"),
        ('settle: {marker: ".ok"}', Marker(marker=".ok")),
        ("settle: {checksum: md5}", Checksum(checksum="md5")),
        ("settle: {quiet: 0s}", Quiet(quiet=0.0)),
    ):
        assert loaded(tmp_path, with_inbox(rules)).inboxes["a"].settle == settle


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    config = loaded(tmp_path, 'inboxes:\n  "2024": {root: x, handler: {command: [no, on, "5", null.sh]}}\n')
    assert config.inboxes["2024"].handler.command == ["no", "on", "5", "null.sh"]


def test_what_children_are_told(config: Config) -> None:
    assert handler_specs(config) == {
        "tables": HandlerSpec(
            python="inboxd.handlers.tables:load", database="warehouse", options={"deep": [1, {"a": "b"}]}
        ),
        "commands": HandlerSpec(command=("prog", "{path}")),
    }
    assert database_specs(config) == {"warehouse": DatabaseSpec(f"sqlite:///{config.base}/var/warehouse.db", 300.0)}


def test_no_database_library_is_loaded_for_plain_urls(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EVERYTHING)
    program = (
        "import sys, pathlib\n"
        "from inboxd.config.load import load\n"
        "load(pathlib.Path(sys.argv[1]))\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'jsonschema') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "config.yaml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


# References


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "db").write_text("postgresql+psycopg://u:fromcredential@h/d\n")
    (tmp_path / "secret").write_text("sqlite:///x.db\r\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("WHERE", "somewhere")
    monkeypatch.setenv("GRACE", "7s")
    top = (
        "stop_grace: {env: GRACE}\nledger: {file: secret}\ndatabases: {d: {url: {credential: db}}}\nstate: {env: WHERE}"
    )
    rules = "settle: {marker: {env: WHERE}}"
    config = loaded(tmp_path, with_inbox(rules, top=top))
    assert config.ledger_url == f"sqlite:///{tmp_path}/x.db"
    assert database_specs(config)["d"].url == "postgresql+psycopg://u:fromcredential@h/d"
    assert config.state == tmp_path / "somewhere"
    assert config.stop_grace == 7.0
    assert config.inboxes["a"].settle == Marker(marker="somewhere")
    assert "fromcredential" not in repr(config)


def test_references_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "p")
    rules = "inbound: {file: where}"
    (tmp_path / "where").write_text("/srv/there")
    text = with_inbox(rules).replace(
        "handlers:handle}", "handlers:handle, options: {password: {env: PASSWORD}, list: [{env: PASSWORD}]}}"
    )
    config = loaded(tmp_path, text)
    assert config.inboxes["a"].handler.options == {"password": "p", "list": ["p"]}
    assert config.inboxes["a"].folder("inbound") == Path("/srv/there")


def test_the_options_themselves_are_no_reference(tmp_path: Path) -> None:
    text = with_inbox().replace("handlers:handle}", "handlers:handle, options: {file: a.csv}}")
    assert loaded(tmp_path, text).inboxes["a"].handler.options == {"file": "a.csv"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{env: NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE' is not set"),
        ("{env: ''}", "not set"),
        ("{env: EMPTY}", "empty"),
        ("{file: none.txt}", "none.txt can't be read: No such file"),
        ("{file: .}", "Is a directory"),
        ("{file: binary}", "UTF-8"),
        ("{file: large}", "64 KiB"),
        ("{file: zero}", "NUL"),
        ("{credential: db}", "LoadCredential=db"),
    ],
)
def test_a_reference_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("EMPTY", "")
    for name, content in {"binary": b"\xff", "large": b"x" * 70_000, "zero": b"a\0b"}.items():
        (tmp_path / name).write_bytes(content)
    (problem,) = refused(tmp_path, with_inbox(top=f"ledger: {reference}"))
    assert problem.startswith("1: ledger: ")
    assert words in problem


def test_a_credential_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("../config.yaml", "..", "/etc/passwd"):
        (problem,) = refused(tmp_path, with_inbox(top=f"ledger: {{credential: {name}}}"))
        assert "no name of a credential" in problem
    (problem,) = refused(tmp_path, with_inbox(top="ledger: {credential: none}"))
    assert "can't be read" in problem


def test_no_reference_in_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "canary")
    text = "inboxes: {command: {root: {env: PASSWORD}, handler: {command: [prog, {env: PASSWORD}]}}}"
    (problem,) = refused(tmp_path, text)
    assert "inboxes.command.handler.command[1]: every user can see" in problem


# Reload


def test_what_a_reload_changes(tmp_path: Path) -> None:
    old = loaded(tmp_path, EVERYTHING)
    assert describe(old, loaded(tmp_path, EVERYTHING)) == []
    text = (
        EVERYTHING.replace("timeout: 10m", "timeout: 20m")
        .replace("512MiB", "1GiB")
        .replace("warehouse.db", "other.db")
        .replace("settle: {quiet: 1s}", "settle: renamed")
        .replace("deep: [1, {a: b}]", "deep: hidden")
        .replace("errors: 365d", "errors: 100d")
        .replace("    parallel: 4\n", "")
        .replace("  commands:", "  programs:")
    )
    assert describe(old, loaded(tmp_path, text)) == [
        "workers.max_memory was 512MiB, now 1GiB",
        "workers.timeout was 10m, now 20m",
        "databases.warehouse.url changed",
        "inboxes.tables.settle was {quiet: 1s}, now renamed",
        "inboxes.tables.handler.options changed",
        "inboxes.tables.retention.errors was 365d, now 100d",
        "inboxes.tables.parallel was 4, now none",
        "inboxes.commands removed",
        "inboxes.programs added",
    ]


# Anything at all

_WORDS = st.sampled_from([
    "state", "ledger", "workers", "inboxes", "databases", "handler", "settle", "root", "inbound", "url", "options", "sources",
    "python", "command", "quiet", "renamed", "retry", "first", "layout", "match", "duplicates", "env", "file", "credential",
    "1s", "5", "true", "~", "*x", "&x a", "!t", "<<", "%Y/..", "sqlite:///a%b", "postgresql://u:p@h:x/d", "/", "..", "'\\0'", '"\\0"', "é",
])  # fmt: skip
_VALUES = st.recursive(
    _WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(_WORDS, inner), max_size=4).map(
            lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        ),
    ),
    max_leaves=12,
)
_FILES = st.lists(st.tuples(_WORDS, _VALUES), max_size=5).map(
    lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs)
)
_INBOXES = st.lists(st.tuples(_WORDS, _VALUES), max_size=4).map(
    lambda pairs: with_inbox("\n".join(f"{key}: {value}" for key, value in pairs))
)


_SOURCE_WORDS = st.sampled_from([
    "http", "sftp", "ftp", "store", "list", "items", "next", "url", "auth", "headers", "ack", "certificate", "after", "move", "cron", "zone",
    "every", "expect", "by", "timeout", "quota", "bytes", "host", "user", "known_hosts", "file", "options", "origins", "link", "page", "basic",
    "https://h/x", "http://h:x/", "https://[h/{id}", "'a[].{id: x}'", "'a['", "'* * * * *'", "UTC", "'06:30'", "1s", "5", "~", "leave", '"\\0"', "é",
])  # fmt: skip
_SOURCE_VALUES = st.recursive(
    _SOURCE_WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(_SOURCE_WORDS, inner), max_size=5).map(
            lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        ),
    ),
    max_leaves=15,
)
_SOURCES = _SOURCE_VALUES.map(lambda value: with_inbox(f"sources: {{s: {value}}}"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anything")


@given(text=st.one_of(st.text(), st.text("[]{}:,-&*!#|>'\"% \nab1"), _FILES, _INBOXES, _SOURCES))
@settings(max_examples=400, deadline=None)
def test_any_text_is_loaded_or_refused(folder: Path, text: str) -> None:
    path = folder / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path)
    except ConfigError as error:
        assert error.problems
        assert all(problem.startswith(f"{path}:") and len(problem.splitlines()) == 1 for problem in error.problems)


@given(data=st.binary())
@settings(deadline=None)
def test_any_bytes_are_refused(folder: Path, data: bytes) -> None:
    path = folder / "config.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        load(path)
