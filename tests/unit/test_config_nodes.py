"""YAML: what is read, what is refused, and in which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inboxd.config.nodes import read
from inboxd.errors import ConfigError


def _read(folder: Path, text: str | bytes) -> Any:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def _values(folder: Path, text: str) -> Any:
    document = _read(folder, text)
    assert document.problems == []
    return document.values


def _refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        _read(folder, text)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{folder}/config.yaml:")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("True", "True"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("'null'", "null"), ("'true'", "true"),
        ("0", 0), ("12", 12), ("-3", -3), ("010", "010"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("1:30", "1:30"), ("1e3", "1e3"),
        ("1.5", 1.5), (".5", ".5"), (".inf", ".inf"), ("'7'", "7"), ("!!str 7", "7"), ("9" * 30, "9" * 30),
        ("2026-01-31", "2026-01-31"), ("=", "="), ("\"\\u00e9\"", "é"), ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_it_looks_like(tmp_path: Path, text: str, value: object) -> None:
    found = _values(tmp_path, f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_lines_are_those_of_the_keys_and_entries(tmp_path: Path) -> None:
    document = _read(tmp_path, "a:\n  b:\n    c\nlist:\n  - x\n  -\n    y: 1\n")
    assert document.values == {"a": {"b": "c"}, "list": ["x", {"y": 1}]}
    wheres = [
        ("a",),
        ("a", "b"),
        ("list",),
        ("list", 0),
        ("list", 1),
        ("list", 1, "y"),
        ("a", "b", "no", "such"),
        ("none",),
    ]
    assert [document.line(where) for where in wheres] == [1, 2, 4, 5, 7, 7, 2, 1]


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    assert _values(tmp_path, "\ufeffa: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1", 3, "no YAML"), ("a: 1\nb: c: d", 2, "no YAML"), ("a: 1\n\tb: 2", 2, "no YAML"), ("a: 'x", 1, "no YAML"),
        ("a: 1\nb: \x07", 2, "U+0007"), ("a: 1\r\nb: \u200b\x00", 2, "U+0000"), (b"a: 1\n\nb: \xff", 3, "UTF-8"),
        ("", 1, "inboxd init"), ("# nothing\n", 1, "inboxd init"), ("---\n", 1, "inboxd init"), ("~", 1, "inboxd init"),
        ("a:\n- " + "[" * 40 + "]" * 40, 2, "deep"), ("[" * 500_000, 1, "deep"), ("{a: " * 5000, 1, "deep"), ("- " * 5000, 1, "deep"),
    ],
)  # fmt: skip
def test_what_is_no_yaml(tmp_path: Path, text: str | bytes, line: int, words: str) -> None:
    problem = _refusal(tmp_path, text)
    assert problem.startswith(f"{line}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("text", "line", "where", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, ("a",), "first in line 1"),
        ("a:\n  x: 1\n  x: 2", 3, ("a", "x"), "first in line 2"),
        ("a: &x 1\nb: *x", 2, ("b",), "aliases"),
        ("a: &x {k: 1}\nb:\n  <<: *x", 3, ("b", "<<"), "aliases"),
        ("a: &x [*x]", 1, ("a", 0), "aliases"),
        ("a: !!python/object/apply:os.system ['true']", 1, ("a",), "tag"),
        ("a: !custom 1", 1, ("a",), "tag"),
        ("a: !!binary aGk=", 1, ("a",), "tag"),
        ("x: 1\n5: 1", 2, (), 'in quotes: "5"'),
        ("x: 1\ntrue: 1", 2, (), 'in quotes: "true"'),
        ("x: 1\n~: 1", 2, (), "a key must be text"),
        ("x: 1\n? [a, b]\n: 1", 2, (), "a key must be text"),
        ("a: 1\n---\nb: 1", 2, (), "second document"),
    ],
)
def test_yaml_that_surprises(tmp_path: Path, text: str, line: int, where: tuple[object, ...], words: str) -> None:
    (problem,) = _read(tmp_path, text).problems
    assert (problem.line, problem.where) == (line, where)
    assert words in problem.text


def test_the_first_of_two_is_kept_and_all_is_looked_at(tmp_path: Path) -> None:
    document = _read(tmp_path, "a: {k: 1}\na: {j: *x}\n7: {j: *y}\n")
    assert document.values == {"a": {"k": 1}}
    assert [problem.line for problem in document.problems] == [2, 2, 3, 3]


def test_a_bomb_of_aliases_is_small(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 50)]
    assert len(_read(tmp_path, "\n".join(lines)).problems) == 490


def test_a_file_that_is_too_large_or_not_there(tmp_path: Path) -> None:
    assert "1 MiB" in _refusal(tmp_path, "# " + "x" * (1 << 20))
    for path, words in ((tmp_path / "none.yaml", "inboxd init"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
