"""docs/cli.md knows every verb, option and key."""

from __future__ import annotations

import re
from pathlib import Path

from inboxd.model import Outcome, State
from inboxd.verbs import VERBS
from support.answering import (
    COMMANDS,
    destination,
    download,
    examined,
    expected,
    failure,
    inbox,
    item,
    looked_at,
    row,
    send,
    source,
    status,
)

TEXT = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")


def test_every_verb_has_its_section() -> None:
    assert sorted(re.findall("^### `inboxd ([a-z]+)`", TEXT, re.MULTILINE)) == sorted(COMMANDS)
    assert VERBS.keys() - {"ping"} <= set(COMMANDS)


def test_every_key_is_told() -> None:
    worker = status()["workers"][0]
    keys = {
        *status(),
        *status()["resources"],
        *inbox(),
        *source(),
        *download(),
        *expected(),
        *item(),
        *examined(),
        *destination(),
        *send(),
        *looked_at(),
        *row(),
        *failure(1),
        *worker,
    }
    assert [key for key in sorted(keys) if f"`{key}`" not in TEXT and f"`{key}[]`" not in TEXT] == []


def test_every_word_for_states_and_outcomes_is_told() -> None:
    assert [word for word in (*State, *Outcome) if f"`{word.lower()}`" not in TEXT] == []
