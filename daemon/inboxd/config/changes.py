"""What a reload would change, in words. Secrets and options are not shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from inboxd.config.models import Config
from inboxd.config.section import Section
from inboxd.config.shapes import show


def describe(old: Config, new: Config) -> list[str]:
    """One line for each key that differs, in the order of the models; empty when nothing does."""
    return list(_in_section("", old, new))


def _in_section(prefix: str, old: Section, new: Section) -> Iterator[str]:
    for key, field in type(old).model_fields.items():
        before, after = getattr(old, key), getattr(new, key)
        where = f"{prefix}{key}"
        if before == after:
            continue
        if isinstance(before, Section) and type(before) is type(after):
            yield from _in_section(f"{where}.", before, after)
        elif isinstance(before, dict) and key != "options":
            yield from _in_names(where, before, after)
        elif key in ("ledger", "options") or isinstance(before, SecretStr) or isinstance(after, SecretStr):
            yield f"{where} changed"
        else:
            yield f"{where} was {show(field, before)}, now {show(field, after)}"


def _in_names(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in {**old, **new}:
        if name not in new:
            yield f"{where}.{name} removed"
        elif name not in old:
            yield f"{where}.{name} added"
        elif old[name] != new[name]:
            yield from _in_entry(f"{where}.{name}", old[name], new[name])


def _in_entry(where: str, old: Any, new: Any) -> Iterator[str]:
    """A section that has a name, or a value that a user named, which may be secret."""
    if isinstance(old, Section):
        yield from _in_section(f"{where}.", old, new)
    else:
        yield f"{where} changed"
