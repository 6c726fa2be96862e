"""The journal's catalog says of every event what it means and what to do, and is not older than events.py."""

from __future__ import annotations

import runpy
import string
from pathlib import Path

import pytest

from inboxd.events import Event, all_events

ROOT = Path(__file__).parents[2]
_MADE = runpy.run_path(str(ROOT / "packaging" / "catalog.py"))


def test_the_files_are_the_events() -> None:
    assert (ROOT / "systemd" / "inboxd.catalog").read_text(encoding="utf-8") == _MADE["catalog"](), "run `./dev docs`"
    assert (ROOT / "docs" / "events.md").read_text(encoding="utf-8") == _MADE["page"](), "run `./dev docs`"


@pytest.mark.parametrize("event", all_events(), ids=lambda event: event.name)
def test_every_event_can_be_explained(event: Event) -> None:
    assert event.meaning.endswith(".")
    assert event.remedy.endswith((".", ")"))
    assert "|" not in event.text + event.meaning + event.remedy
    assert all(name is None or name.islower() for _text, name, _form, _way in string.Formatter().parse(event.text))


def test_names_and_numbers_are_their_own() -> None:
    events = all_events()
    assert len({event.name for event in events}) == len({event.message_id for event in events}) == len(events)


@pytest.mark.parametrize("event", all_events(), ids=lambda event: event.name)
def test_a_text_is_shown_whole(event: Event) -> None:
    """Every field with its braces, without its format; every word between them."""
    row = next(line for line in _MADE["page"]().splitlines() if line.startswith(f"| {event.name} |"))
    parts = list(string.Formatter().parse(event.text.replace("`", "'")))
    assert row.split("`")[1] == "".join(text + (f"{{{name}}}" if name else "") for text, name, _form, _way in parts)
