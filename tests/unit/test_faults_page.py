"""The table of docs/faults.md has a row for each fault that a test says it produces, and no other."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("faults_page", _ROOT / "packaging" / "faults.py")
assert _spec is not None
assert _spec.loader is not None
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)


def _declared() -> set[tuple[str, str, str]]:
    return {one for path in (_ROOT / "tests").rglob("test_*.py") for one in _declared_in(path)}


def _declared_in(path: Path) -> Iterator[tuple[str, str, str]]:
    """Words stand in the call, or in constants of the module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "fault":
            how = next(keyword.value for keyword in call.keywords if keyword.arg == "how")
            section, what, how = (
                eval(compile(ast.Expression(word), str(path), "eval"), {}, constants) for word in (*call.args, how)
            )
            yield section, what, how


def test_the_page_has_a_row_for_each_fault() -> None:
    found = {tuple(key) for key in page.read((_ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))}
    assert _declared() - found == set(), "run `./dev faults FILE` with the tests that produce them"
    assert found - _declared() == set(), "no test produces these any more: remove their rows"


def test_no_row_says_that_a_test_failed() -> None:
    assert "failed**" not in (_ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_rows_stay_until_they_are_made_anew() -> None:
    one = {
        "section": "Clocks",
        "what": "a",
        "how": "b",
        "shows": "c",
        "rounds": 1200,
        "result": "passed",
        "test": "t.py",
    }
    empty = "before\n<!-- the table: written by ./dev faults -->\n<!-- the table ends -->\nafter\n"
    first = page.written(empty, page.made([one]))
    assert "| a | b | 1,200 | c | `t.py` |" in first
    second = page.written(first, {**page.read(first), **page.made([{**one, "what": "z", "result": "failed"}])})
    assert "| a | b | 1,200 | c | `t.py` |" in second
    assert "| z | b | 1,200 | **1 of 1 tests failed** | `t.py` |" in second
    assert second.startswith("before\n")
    assert second.endswith("after\n")
