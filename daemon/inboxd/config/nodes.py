"""config.yaml as plain values, with the line of each. The YAML that people trip over is refused here, or made plain.

Read from the parser's events: nothing is expanded, so a small file can't become a large one, and depth is bounded
before memory is. Only `true` and `false` are booleans and only decimal numbers are numbers; `on`, `no`, `010`, `1:30`
or a date stay the text they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from inboxd.errors import ConfigError

Where = tuple[str | int, ...]

_LARGEST = 1 << 20  # bytes
_DEEPEST = 32  # levels of sections in sections
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # YAML 1.1, 4.2
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,30}\Z")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Problem(NamedTuple):
    """Something wrong: in which line, with which key, what and what to do."""

    line: int
    where: Where
    text: str


@dataclass(slots=True)
class Document:
    """The values, the line of each by its path, and what is wrong so far."""

    values: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[Where] = field(default_factory=set)  # refused already; their value is a placeholder
    references: dict[Where, str] = field(default_factory=dict)  # values that stand elsewhere, as they were written
    environment: set[str] = field(default_factory=set)  # names of the variables among them

    def line(self, where: Where) -> int:
        """The line of a path, or of the nearest parent that stands in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def refuse(self, where: Where, text: str, line: int = 0) -> None:
        """Note a problem with a value, which nobody shall look at any more."""
        self.problems.append(Problem(line or self.line(where), where, text))
        self.spoiled.add(where)

    def is_spoiled(self, where: Where) -> bool:
        """It, or what holds it, was refused."""
        return any(where[:length] in self.spoiled for length in range(len(where) + 1))


def read(path: Path) -> Document:
    """Read and parse. Raises ConfigError for a file that can't be read or is no YAML at all."""
    text = _text(path, _bytes(path))
    try:
        document = _Reader(yaml.parse(text, Loader=_Loader)).document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(filter(None, (error.problem, error.context)))
        line = mark.line + 1 if mark else 1
        raise _refusal(path, line, f"this is no YAML: {words}; mind indentation and quotes") from error
    except yaml.YAMLError as error:
        raise _refusal(path, 1, f"this is no YAML: {type(error).__name__}") from error
    except _TooDeepError as error:
        raise _refusal(path, error.args[0], f"sections lie more than {_DEEPEST} deep; write it flatter") from error
    if document.values is None and not document.problems:
        raise _refusal(path, 1, "there is nothing in it; `inboxd init DIR` makes a configuration to begin with")
    return document


def _refusal(path: Path, line: int, text: str) -> ConfigError:
    return ConfigError([f"{path}:{line}: {text}"])


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        hint = "; `inboxd init DIR` makes a new one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([f"{path}: can't be read: {error.strerror}{hint}"]) from error
    if len(data) > _LARGEST:
        raise ConfigError([f"{path}: is larger than 1 MiB; is this really the configuration?"])
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _refusal(path, line, "this is not UTF-8; save the file as UTF-8") from error
    strange = _UNPRINTABLE.search(text)
    if strange:
        line = len(_LINE_BREAK.findall(text, 0, strange.start())) + 1
        raise _refusal(path, line, f"there is a character U+{ord(strange[0]):04X}, which no one sees; remove it")
    return text


class _TooDeepError(Exception):
    """The line where it becomes too deep."""


class _Reader:
    """Turns events into a Document."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self.document = Document()
        self._depth = 0
        first = self._after(yaml.StreamStartEvent, yaml.DocumentStartEvent)
        if not isinstance(first, yaml.StreamEndEvent):
            self.document.values = self._value(first, ())
            second = self._after(yaml.DocumentEndEvent)
            if not isinstance(second, yaml.StreamEndEvent):
                self.document.refuse((), "a second document (---) begins; write one", _line(second))

    def _after(self, *kinds: type) -> Any:
        """The first event of another kind."""
        return next(event for event in self._events if not isinstance(event, kinds))

    def _value(self, event: Any, where: Where) -> Any:
        self.document.lines.setdefault(where, _line(event))
        if isinstance(event, yaml.AliasEvent):
            text = f"aliases (*{event.anchor}) are not supported; write the value out"
            self.document.refuse(where, text, _line(event))
            return None
        if event.tag not in _PLAIN_TAGS:
            self.document.refuse(where, f"the tag {event.tag} is not supported; write a plain value", _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        return self._deeper(event, where)

    def _deeper(self, event: Any, where: Where) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _TooDeepError(_line(event))
        values = self._mapping(where) if isinstance(event, yaml.MappingStartEvent) else self._sequence(where)
        self._depth -= 1
        return values

    def _sequence(self, where: Where) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*where, len(values))))
        return values

    def _mapping(self, where: Where) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, where)
            path = (*where, key) if key is not None else (*where, -1)  # -1 is no key and no entry: never looked up
            if key is not None and key in values:
                first = self.document.lines[path]
                text = f"stands here a second time (first in line {first}); keep one"
                self.document.problems.append(Problem(_line(event), path, text))
                path = (*where, -1)
            self.document.lines.setdefault(path, _line(event))
            value = self._value(next(self._events), path)
            if key is not None:
                values.setdefault(key, value)
        return values

    def _key(self, event: Any, where: Where) -> str | None:
        """A key that is text; anything else is noted and gives None."""
        key = self._value(event, (*where, -1))
        if isinstance(key, str):
            return key
        shown = f'; put it in quotes: "{event.value}"' if isinstance(event, yaml.ScalarEvent) else ""
        self.document.problems.append(Problem(_line(event), where, f"a key must be text{shown}"))
        return None


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _scalar(event: Any) -> Any:
    text = event.value
    if not event.implicit[0]:  # quoted, or tagged as text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text
