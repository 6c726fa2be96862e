"""Writes systemd/inboxd.catalog and docs/events.md from events.py. Run by `./dev docs`; a test holds them together."""

import re
import sys
from pathlib import Path

from inboxd.events import Event, all_events

_HEAD = """\
# Message catalog of inboxd (journalctl -x), drawn from daemon/inboxd/events.py by `./dev docs`.
# https://www.freedesktop.org/wiki/Software/systemd/catalog/
"""
_PAGE = """\
# Events

Drawn from [events.py](../daemon/inboxd/events.py) by `./dev docs`. Each event is one record of the journal: its name
is in `INBOXD_EVENT`, its number in `MESSAGE_ID`, and what its text names stands in fields of its own (`{file_id}` in
`INBOXD_FILE_ID`): `journalctl -u inboxd INBOXD_EVENT=file.error`, `journalctl -u inboxd INBOXD_INBOX=acme -p warning`.

| event | level | text | what it means | what to do |
|---|---|---|---|---|
"""


def catalog() -> str:
    """The catalog, as journalctl --update-catalog reads it."""
    return _HEAD + "".join(_entry(event) for event in all_events())


def _entry(event: Event) -> str:
    subject = re.sub(r"\{(\w+)[^}]*\}", lambda found: f"@INBOXD_{found[1].upper()}@", event.text)
    return (
        f"\n-- {event.message_id}\nSubject: {subject}\nDefined-By: inboxd\nDocumentation: man:inboxd(1)\n"
        f"\n{event.meaning}\n\n{event.remedy}\n"
    )


def page() -> str:
    """The same for people."""
    return _PAGE + "".join(_row(event) for event in all_events())


def _row(event: Event) -> str:
    text = re.sub(r"\{(\w+)[^}]*\}", r"{\1}", event.text).replace("`", "'")
    return f"| {event.name} | {event.level} | `{text}` | {event.meaning} | {event.remedy} |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(catalog(), encoding="utf-8")
    Path(sys.argv[2]).write_text(page(), encoding="utf-8")
