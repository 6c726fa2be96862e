"""The JSON Schema accepts what the loader accepts, and refuses what an editor can know to be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from test_config_load import EVERYTHING

from inboxd.config.schema import schema
from inboxd.config.template import init
from support.settings import loaded, with_inbox

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def _complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_examples(tmp_path: Path) -> None:
    config_file = init(tmp_path)[0]
    assert _complaints(config_file.read_text()) == []
    assert _complaints(EVERYTHING) == []


@pytest.mark.parametrize(
    "text",
    [
        with_inbox("settle: renamed"),
        with_inbox("settle: {checksum: md5}"),
        with_inbox("duplicates: skip"),
        with_inbox("duplicates: {policy: error, window: 1d}"),
        with_inbox("sources: {}\nparallel: 3"),
        with_inbox(top="workers: {processes: 4}"),
        with_inbox(top="ledger: postgresql+psycopg://h/d"),
        with_inbox(top="ledger: {file: ledger-url}\nrescan: {env: RESCAN}"),
    ],
)
def test_what_both_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RESCAN", "5s")
    (tmp_path / "ledger-url").write_text("sqlite")
    loaded(tmp_path, text)
    assert _complaints(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "state: x",
        "inboxes: {}",
        "inboxes: {a: {root: x}}",
        "inboxes: {a: {handler: {python: 'a:b'}}}",
        "inboxes: {a: {root: x, handler: {}}}",
        "inboxes: {a: {root: x, handler: {python: 'a:b', command: [c]}}}",
        "inboxes: {a: {root: x, handler: {python: a}}}",
        "inboxes: {'a b': {root: x, handler: {python: 'a:b'}}}",
        with_inbox("setle: renamed"),
        with_inbox("settle: quiet"),
        with_inbox("settle: {quiet: 1}"),
        with_inbox("match: []"),
        with_inbox("sources: {s: {}}"),
        with_inbox("duplicates: maybe"),
        with_inbox(top="rescan: 30"),
        with_inbox(top="min_free_space: 1GB"),
        with_inbox(top="ledger: {vault: x}"),
        with_inbox(top="ledger: {env: A, file: b}"),
        with_inbox(top="workers: {processes: many}"),
    ],
)
def test_what_an_editor_can_know(text: str) -> None:
    assert _complaints(text)


def test_defaults_are_written_as_in_the_file() -> None:
    top: dict[str, Any] = SCHEMA["properties"]
    assert {key: top[key].get("default") for key in ("state", "ledger", "rescan", "min_free_space", "min_free_inodes")} == {
        "state": "var/state", "ledger": "sqlite", "rescan": "30s", "min_free_space": "1GiB", "min_free_inodes": 1000,
    }  # fmt: skip
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in part.get("properties", {}).items():
            if "default" in value:
                assert (
                    list(Draft202012Validator({**value, "$defs": SCHEMA["$defs"]}).iter_errors(value["default"])) == []
                ), key
