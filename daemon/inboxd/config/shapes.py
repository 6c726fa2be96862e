"""What the models look like, for messages, the reference and the schema: keys, units, and how a value is written."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import Secret, SecretStr
from pydantic.fields import FieldInfo

from inboxd.config.models import Config
from inboxd.config.nodes import Where
from inboxd.config.section import Section
from inboxd.config.units import DURATION, SIZE, show_duration, show_size


def is_section(kind: Any) -> bool:
    """A model of ours, and no union or list of some."""
    return isinstance(kind, type) and issubclass(kind, Section)


def sections(kind: Any) -> Iterator[type[Section]]:
    """The models within a type: dict[str, Inbox] -> Inbox."""
    if is_section(kind):
        yield kind
    for part in get_args(kind):
        yield from sections(part)


def keys_at(where: Where) -> list[str]:
    """The keys that the section at this path may have; none if there is no such section."""
    return [key for section in _sections_at(where) for key in section.model_fields]


def examples(where: Where) -> list[str]:
    """How the value of this path may look."""
    key = str(where[-1])
    fields = [section.model_fields[key] for section in _sections_at(where[:-1]) if key in section.model_fields]
    described = [mark for field in fields for mark in (field, *marks(field.annotation)) if isinstance(mark, FieldInfo)]
    return [str(example) for mark in described for example in mark.examples or ()]


def _sections_at(where: Where) -> list[type[Section]]:
    kinds: list[Any] = [Config]
    for part in where:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return [section for kind in kinds for section in _direct(kind)]


def _direct(kind: Any) -> Iterator[type[Section]]:
    """The models that a value of this type can be, not those below it."""
    if get_origin(kind) in (dict, list):
        return
    if is_section(kind):
        yield kind
    for part in get_args(kind):
        yield from _direct(part)


def _below(kind: Any, part: str | int) -> Iterator[Any]:
    """The types that an entry of a value of this type has."""
    if is_section(kind):
        field = kind.model_fields.get(str(part))
        if field is not None:
            yield field.annotation
    elif get_origin(kind) in (dict, list):
        yield get_args(kind)[-1]
    else:
        for one in get_args(kind):
            yield from _below(one, part)


def marks(kind: Any, metadata: tuple[Any, ...] | list[Any] = ()) -> list[Any]:
    """Everything written beside the types in Annotated, at any depth of a union."""
    own = [*metadata, *getattr(kind, "__metadata__", ())]
    described = [inner for mark in own if isinstance(mark, FieldInfo) for inner in mark.metadata]
    return [*own, *described, *(mark for part in get_args(kind) for mark in marks(part) if not is_section(part))]


_HIDDEN = "(not shown)"


def show(field: FieldInfo, value: Any) -> str:
    """A value as one would write it in the file; a secret is not shown."""
    if isinstance(value, SecretStr):
        return value.get_secret_value() if value.get_secret_value() == "sqlite" else _HIDDEN
    if isinstance(value, Secret):
        return _HIDDEN
    if isinstance(value, Section):
        shown = (f"{key}: {show(inner, getattr(value, key))}" for key, inner in type(value).model_fields.items())
        return f"{{{', '.join(shown)}}}"
    if value is None:
        return "none"
    found = marks(field.annotation, field.metadata)
    if any(mark == DURATION for mark in found):
        return show_duration(value)
    if any(mark == SIZE for mark in found):
        return show_size(value)
    return _written(value)


_json = partial(json.dumps, ensure_ascii=False)
_PLAIN = re.compile(r"[\w./][\w./:-]*\Z")


def _written(value: Any) -> str:
    if isinstance(value, str | Path):
        text = str(value)
        return text if _PLAIN.match(text) and text not in ("true", "false", "null") else _json(text)
    return _json(value, default=str)


@cache
def meanings(section: type[Section]) -> dict[str, str]:
    """What stands below each key of a model. Pydantic would read it at every start, which nobody needs then."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if is_section(kind):
            [described] = ast.parse(inspect.getsource(kind)).body
            assert isinstance(described, ast.ClassDef)
            found |= dict(_described(described.body))
    return found


def _described(lines: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for key, text in pairwise(lines):
        match key, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                yield name, inspect.cleandoc(meaning)


def all_sections() -> list[type[Section]]:
    """Every model of the file, in the order in which it describes them."""
    found: dict[type[Section], None] = {}

    def collect(section: type[Section]) -> None:
        found[section] = None
        for field in section.model_fields.values():
            for inner in sections(field.annotation):
                collect(inner)

    collect(Config)
    return list(found)
