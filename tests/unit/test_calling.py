"""The commands that inboxd tells people to type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd import calling


@pytest.fixture(autouse=True)
def nothing_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    calling.program.cache_clear()
    yield
    calling.program.cache_clear()


def _script(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    script = folder / "inboxd"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_the_short_name_where_the_shell_knows_it(tmp_path: Path) -> None:
    _script(tmp_path)
    assert calling.command("retry 1", Path("/etc/inboxd/config.yaml")) == "inboxd retry 1"
    assert calling.command("retry 1", Path("/srv/in box.yaml")) == "inboxd retry 1 -c '/srv/in box.yaml'"


def test_the_script_that_started_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _script(tmp_path / "bin")
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    assert calling.command("retry 1", None) == f"{script} retry 1"


def test_the_interpreter_where_there_is_no_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "__main__.py"), "run"])
    assert calling.command("retry 1", None) == f"{sys.executable} -m inboxd retry 1"
