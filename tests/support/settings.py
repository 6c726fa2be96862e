"""config.yaml as text, loaded or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.config.load import load
from inboxd.config.models import Config
from inboxd.errors import ConfigError

INBOX = "root: inboxes/{name}\n    handler: {{python: handlers:handle}}"


def with_inbox(rules: str = "", *, top: str = "", name: str = "a") -> str:
    """A whole configuration with one inbox: `top` before it, and `rules` (a line each) added to it."""
    lines = "".join(f"\n    {line}" for line in rules.splitlines())
    return f"{top}\ninboxes:\n  {name}:\n    {INBOX.format(name=name)}{lines}\n"


def loaded(folder: Path, text: str) -> Config:
    """What `text` means."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def refused(folder: Path, text: str) -> list[str]:
    """The problems that `text` is refused with, without the path of the file: "LINE: key: what"."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    start = f"{folder / 'config.yaml'}:"
    assert all(problem.startswith(start) for problem in caught.value.problems)
    return [problem.removeprefix(start) for problem in caught.value.problems]
