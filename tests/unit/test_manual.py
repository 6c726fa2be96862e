"""The man pages tell every verb, every option and every key."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path

from inboxd.cli.arguments import commands
from inboxd.config.reference import tables

_MADE = runpy.run_path(str(Path(__file__).parents[2] / "packaging" / "manual.py"))


def test_every_verb_and_option_is_in_the_first() -> None:
    text = _MADE["command"]()
    verbs = next(action for action in commands()._actions if isinstance(action, argparse._SubParsersAction))
    for name, verb in verbs.choices.items():
        assert f"## inboxd {name}" in text
        for action in verb._actions:
            assert action.help, f"{name} {action.dest} has no help"
            assert all(f"`{option}`" in text for option in action.option_strings)


def test_every_key_is_in_the_second() -> None:
    text = _MADE["configuration"]()
    assert "None" not in text
    for table in tables():
        assert f"\n# {table.title.replace('`', '')}\n" in text
        assert all(f"`{key.name}` (" in text for key in table.keys)
