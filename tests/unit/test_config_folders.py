"""No folder serves two purposes, and none lies in another, by path."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.config.models import FOLDERS
from support.settings import loaded, refused


def _text(state: str = "state", **inboxes: str) -> str:
    """Inboxes with one line of rules each."""
    lines = [f"  {name}: {{{rules}, handler: {{python: 'a:b'}}}}" for name, rules in inboxes.items()]
    return "\n".join([f"state: {state}", "inboxes:", *lines])


@pytest.mark.parametrize("which", FOLDERS[1:])
def test_nothing_of_ours_in_inbound(tmp_path: Path, which: str) -> None:
    for path in ("a/inbound/x", "a/inbound/x/y", "./a//inbound/z/../x"):
        (problem,) = refused(tmp_path, _text(a=f"root: a, {which}: {path}"))
        assert problem.startswith(f"3: inboxes.a.{which}: {tmp_path}/a/inbound/x")
        assert f"({which} of inbox a) lies inside {tmp_path}/a/inbound (inbound of inbox a); move {which}" in problem
    (problem,) = refused(tmp_path, _text(a=f"root: a, {which}: a/inbound"))
    assert "at once; give each a folder of its own" in problem


@pytest.mark.parametrize("outer", FOLDERS)
def test_an_inbound_in_a_folder_of_another(tmp_path: Path, outer: str) -> None:
    text = _text(a="root: a, recursive: true", b=f"root: b, inbound: a/{outer}/b")
    (problem,) = refused(tmp_path, text)
    assert problem.startswith(f"4: inboxes.b.inbound: {tmp_path}/a/{outer}/b (inbound of inbox b) lies inside")


def test_an_inbound_in_an_inbound_that_is_not_recursive(tmp_path: Path) -> None:
    config = loaded(tmp_path, _text(a="root: a", b="root: b, inbound: a/inbound/b"))
    assert config.inboxes["b"].folder("inbound") == tmp_path / "a/inbound/b"


def test_what_lies_between_two_inbounds_is_seen(tmp_path: Path) -> None:
    text = _text(a="root: a, recursive: true", b="root: b, inbound: a/inbound/b", c="root: c, inbound: a/inbound/b/c")
    problems = refused(tmp_path, text)
    assert [problem.split(": ")[1] for problem in problems] == ["inboxes.b.inbound", "inboxes.c.inbound"]


def test_two_inboxes_with_one_root(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, _text(a="root: a", b="root: ./a/"))
    assert problem.startswith("4: inboxes.b.root: ")


def test_two_inboxes_share_one_folder(tmp_path: Path) -> None:
    for which in FOLDERS:
        (problem,) = refused(tmp_path, _text(a=f"root: a, {which}: shared", b=f"root: b, {which}: shared"))
        assert problem.startswith(f"4: inboxes.b.{which}: {tmp_path}/shared is {which} of inbox ")


@pytest.mark.parametrize("state", ["a/inbound", "a/inbound/state", "a/work/state", "a/processed"])
def test_state_in_a_folder(tmp_path: Path, state: str) -> None:
    (problem,) = refused(tmp_path, _text(state, a="root: a"))
    assert "(state)" in problem or "is state and" in problem or "and state at once" in problem


def test_the_default_state_is_looked_at_too(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, "inboxes:\n  a: {root: a, inbound: var, handler: {python: 'a:b'}}\n")
    assert problem.startswith("2: inboxes.a.inbound: ")
    assert "var/state (state) lies inside" in problem


def test_an_inbox_in_state(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, _text("var", a="root: var/a"))
    assert problem.startswith("3: inboxes.a.root: ")


@pytest.mark.parametrize("inbound", [".", "..", "/"])
def test_the_configuration_where_uploaders_write(tmp_path: Path, inbound: str) -> None:
    text = _text("/elsewhere/state", a=f"root: /elsewhere/a, inbound: {inbound}")
    problems = refused(tmp_path, text)
    assert problems[0].startswith("3: inboxes.a.inbound: ")


def test_the_configuration_may_lie_in_state(tmp_path: Path) -> None:
    assert loaded(tmp_path, _text(".", a="root: /elsewhere/a")).state == tmp_path


def test_similar_names_are_different(tmp_path: Path) -> None:
    loaded(tmp_path, _text(a="root: a", ab="root: ab", b="root: b, inbound: a/inbound2, errors: a/errors.b"))


def test_roots_within_roots(tmp_path: Path) -> None:
    loaded(tmp_path, _text(a="root: a", b="root: a/b"))
