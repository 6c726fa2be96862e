"""config.yaml as plain values with the line of each. YAML that people trip over is refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inboxd.errors import ConfigError

_LARGEST = 1 << 20  # bytes
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Where = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """The values, the line of each by its path, and what was wrong with the YAML itself: (line, path, text)."""

    values: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[tuple[int, Where, str]] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """The line of a path, or of the nearest parent that stands in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def read(path: Path) -> Document:
    """Read and parse. Raises ConfigError for a file that can't be read or is no YAML at all."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}; `inboxd init DIR` makes a new one"]) from error
    if len(data) > _LARGEST:
        raise ConfigError([f"{path}: is larger than 1 MiB; is it really a configuration?"])
    try:
        root = yaml.compose(data.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8; save it as UTF-8"]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{path}:{line}: is no YAML: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([f"{path}:1: is no YAML: {' '.join(str(error).split())}"]) from error
    document = Document()
    if root is None:
        raise ConfigError([f"{path}:1: is empty; `inboxd init DIR` makes an example"])
    document.values = _value(root, (), document, set())
    return document


def _value(node: Any, where: Where, document: Document, seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    document.lines.setdefault(where, line)
    if id(node) in seen:
        document.problems.append((line, where, "aliases (*name) are not supported; write the value out"))
        return None
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, where, document, seen)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*where, number), document, seen) for number, item in enumerate(node.value)]
    return _scalar(node, where, document)


def _mapping(node: Any, where: Where, document: Document, seen: set[int]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key, str) or key_node.tag == "tag:yaml.org,2002:merge":
            document.problems.append((line, where, "a key must be plain text"))
        elif key in values:
            first = document.lines[(*where, key)]
            document.problems.append((line, (*where, key), f"stands twice (first in line {first}); remove one"))
        else:
            document.lines[(*where, key)] = line
            values[key] = _value(value_node, (*where, key), document, seen)
    return values


def _scalar(node: Any, where: Where, document: Document) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "bool" and node.value.lower() not in ("true", "false"):
        return node.value  # `on`, `no` and the like are words to people
    if kind in ("str", "timestamp"):
        return node.value
    if kind == "null":
        return None
    try:
        return _READERS[kind](node.value)
    except (KeyError, ValueError):
        if kind in ("int", "float"):
            return node.value
        line = node.start_mark.line + 1
        document.problems.append((line, where, f"the tag {node.tag} is not supported; write a plain value"))
        return None


def _bool(text: str) -> bool:
    return text.lower() == "true"


def _int(text: str) -> int:
    return int(text.replace("_", ""), 10)


_READERS: dict[str, Callable[[str], Any]] = {"bool": _bool, "int": _int, "float": float}
