"""docs/handlers.md names everything that a handler's author meets."""

from __future__ import annotations

import re
from pathlib import Path

import inboxd
from inboxd.custody.sidecar import content
from inboxd.model import InboxFile

PAGE = (Path(__file__).parents[2] / "docs" / "handlers.md").read_text(encoding="utf-8")


def test_every_attribute_and_every_key_of_the_sidecar_is_told():
    attributes = {name for name in vars(inboxd.File) if not name.startswith("_")}
    keys = set(content(InboxFile("id", "inbox", "", "name", 1, 2, 3, 4), ()))
    told = set(re.findall(r"`(?:file\.)?(\w+)", PAGE))
    assert sorted((attributes | keys) - told) == []
