"""What may stand in config.yaml, told from the models: docs/configuration.md, and tables for other pages.

`python -m inboxd.config.reference docs/configuration.md` writes the page anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from inboxd.config.models import TEMPORARY_NAMES, Config, Quiet
from inboxd.config.section import Section
from inboxd.config.shapes import is_section, marks, meanings, sections, show
from inboxd.config.units import DURATION, SIZE

_HEAD = """\
# config.yaml

<!-- Made by `./dev docs` from daemon/inboxd/config/models.py; change it there. -->

"""
INTRODUCTION = """\
One file describes everything. `inboxd init DIR` writes one to begin with, `inboxd check` tells everything that is wrong
with it (line, key, remedy), and `inboxd schema` prints a JSON Schema for editors. A running daemon reads it again on
`inboxd reload` or SIGHUP: all or nothing. `state`, `ledger` and `durability` can't change while it runs.

- **Paths** are relative to the folder of this file, and so is the file in a `sqlite:///` URL; `~` is not expanded.
- **Durations** are a number with a unit: `250ms`, `10s`, `5m`, `2h`, `1d`.
- **Sizes** are a number with a unit: `100B`, `64KiB`, `512MiB`, `1GiB`, `2TiB`.
- **Booleans** are `true` and `false`. `yes`, `on` and their kin are text, as are numbers like `010`, `1_000` or `0x1F`.
- **Text** may stand elsewhere: `{credential: NAME}` is read from systemd's credentials (`LoadCredential=`),
  `{file: PATH}` from a file (one line break at its end is left out), `{env: NAME}` from the environment. A secret
  belongs there; inboxd shows it nowhere. Below `options` and `headers` this holds from the second level on, and in a
  `command` not at all, since every user can see the arguments of a program.
- Aliases and merge keys of YAML are refused, and so are all tags but those of text (`!`, `!!str`), unknown keys, and
  keys that stand twice. An anchor has no use.
- The folders of all inboxes and `state` must be different, and none may lie in another. One exception: an inbound may
  lie in the inbound of an inbox that is not `recursive`.
"""


class Key(NamedTuple):
    """One key, its cells in Markdown."""

    name: str
    type: str
    default: str  # empty for none
    meaning: str


class Table(NamedTuple):
    """The keys of one section."""

    title: str  # such as `inboxes.NAME.handler`
    about: str
    keys: list[Key]


def tables(section: type[Section] = Config, path: str = "", title: str = "Top level") -> Iterator[Table]:
    """A table for this section, and for each below it."""
    keys = [
        Key(key, _type(field), _default(field), _flat(_meaning(section, key)))
        for key, field in section.model_fields.items()
    ]
    yield Table(title, _flat(section.__doc__ or ""), keys)
    for key, field in section.model_fields.items():
        for inner in sections(field.annotation):
            below = f"{path}{key}.NAME" if get_origin(field.annotation) is dict else f"{path}{key}"
            several = len(list(sections(field.annotation))) > 1
            kind = f": {inner.__name__.lower()}" if several else ""
            yield from tables(inner, f"{below}.", f"`{below}`{kind}")


def reference() -> str:
    """The whole page."""
    lines = [_HEAD + INTRODUCTION]
    for table in tables():
        lines += [f"## {table.title}", "", table.about, ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{name}` | {kind} | {default} | {_cell(meaning)} |" for name, kind, default, meaning in table.keys
        ]
        lines += [""]
    lines += ["## Temporary names", "", "What `ignore_temporary` leaves alone:"]
    lines += [f"{', '.join(f'`{name}`' for name in TEMPORARY_NAMES)}.", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _meaning(section: type[Section], key: str) -> str:
    """Of a section that is not described where it stands, what it says of itself."""
    inner = next(sections(section.model_fields[key].annotation), None)
    return meanings(section).get(key) or (inner.__doc__ if inner else None) or ""


def _flat(text: str) -> str:
    return " ".join(text.split())


def _type(field: FieldInfo) -> str:
    found = marks(field.annotation, field.metadata)
    if DURATION in found:
        return "duration"
    if SIZE in found:
        return "size"
    least, most = (next((getattr(mark, name) for mark in found if hasattr(mark, name)), None) for name in ("ge", "le"))
    bounds = f", {least} to {most}" if most is not None else f", at least {least}" if least is not None else ""
    *others, last = _kinds(field.annotation)
    return (f"{', '.join(others)} or {last}" if others else last) + bounds


def _kinds(kind: Any) -> list[str]:
    """What one would call a type of Python: `auto`, whole number, list of text, a section."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return [f"`{choice}`" for choice in inner]
    if origin is dict:
        return ["sections by name" if any(sections(inner[1])) else "section"]
    if origin is list:
        return [f"list of {' or '.join(_kinds(inner[0]))}"]
    if is_section(kind):
        return ["section"]
    if inner:
        parts = inner if origin in (Union, type(int | str)) else inner[:1]
        return list(dict.fromkeys(name for part in parts if part is not NoneType for name in _kinds(part)))
    return [_NAMES.get(kind, kind.__name__)]


_NAMES = {int: "whole number", str: "text", bool: "`true` or `false`", Path: "path", SecretStr: "text, secret"}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, Section) and not isinstance(field.default, Quiet):
        return "see below"
    return f"`{show(field, field.default)}`" if field.default not in ({}, []) else ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
