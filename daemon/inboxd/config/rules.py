"""What no single value can tell: names that lead nowhere, and folders that would swallow each other.

Asked of the plain values, not of the models, so that it is told together with everything else that is wrong; what has
the wrong type is left to the models. By path alone: links and mounts are looked at when the folders are there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from inboxd.config.models import FOLDERS
from inboxd.config.nodes import Document, Problem, Where

_STATE = "var/state"  # the default of Config.state


class Folder(NamedTuple):
    """A folder that has a purpose; `where` is the key that names it."""

    parts: tuple[str, ...]
    purpose: str
    where: Where
    takes_inbounds: bool = False  # an inbound that is not looked through below its own level


def problems(document: Document, file: str) -> Iterator[Problem]:
    """Every contradiction between values. `file` is the absolute path of the configuration."""
    inboxes = {name: inbox for name, inbox in _section(document.values, "inboxes").items() if isinstance(inbox, dict)}
    found = [*_databases(document.values, inboxes), *_sources(document, inboxes), *_overlaps(document, inboxes, file)]
    yield from (Problem(document.line(where), where, text) for where, text in found if not document.is_spoiled(where))


def _section(values: Any, key: str) -> dict[str, Any]:
    found = values.get(key) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def _databases(values: Any, inboxes: dict[str, Any]) -> Iterator[tuple[Where, str]]:
    known = list(_section(values, "databases"))
    for name, inbox in inboxes.items():
        wanted = _section(inbox, "handler").get("database")
        if isinstance(wanted, str) and wanted not in known:
            close = difflib.get_close_matches(wanted, known, 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"add it there (known: {', '.join(known) or 'none'})"
            yield ("inboxes", name, "handler", "database"), f"there is no {wanted!r} below 'databases'; {remedy}"


def _sources(document: Document, inboxes: dict[str, Any]) -> Iterator[tuple[Where, str]]:
    """A source or destination is known by its name alone, in the ledger, in the log and on the command line."""
    first: dict[str, Where] = {}
    for inbox, rules in inboxes.items():
        for kind in ("sources", "destinations"):
            for name in _section(rules, kind):
                where = ("inboxes", inbox, kind, name)
                if name in first:
                    _, other, key, _ = first[name]
                    there = f"inbox {other} has a {str(key)[:-1]} of this name already"
                    line = document.line(first[name])
                    yield where, f"{there} (line {line}); give each source and destination a name of its own"
                first.setdefault(name, where)


def _overlaps(document: Document, inboxes: dict[str, Any], file: str) -> Iterator[tuple[Where, str]]:
    """No folder serves two purposes or lies in another: files would be found twice, or be open to the wrong hands."""
    around: list[Folder] = []
    told: set[Where] = set()  # a shared `root` clashes seven times
    order = {where: number for number, where in enumerate(document.lines)}
    for folder in sorted(_folders(document.values, inboxes, file)):
        while around and folder.parts[: len(around[-1].parts)] != around[-1].parts:
            around.pop()
        clash = next((outer for outer in reversed(around) if not _harmless(outer, folder)), None)
        if clash is not None:
            second = max(clash, folder, key=lambda one: order.get(one.where, -1))
            if second.where not in told:
                yield second.where, _told(clash, folder, second)
            told.add(second.where)
        if folder.where:
            around.append(folder)


def _folders(values: Any, inboxes: dict[str, Any], file: str) -> Iterator[Folder]:
    base = os.path.dirname(file)
    yield Folder(_parts(base, file), "the configuration", ())
    state = values.get("state", _STATE) if isinstance(values, dict) else _STATE
    if _is_path(state):
        yield Folder(_parts(base, state), "state", ("state",))
    for name, inbox in inboxes.items():
        root = inbox.get("root")
        for which in FOLDERS:
            path, key = (inbox[which], which) if inbox.get(which) is not None else (root, "root")
            if _is_path(path):
                parts = _parts(base, path if key == which else os.path.join(path, which))
                flat = which == "inbound" and inbox.get("recursive") is not True
                yield Folder(parts, f"{which} of inbox {name}", ("inboxes", name, key), flat)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _parts(base: str, path: str) -> tuple[str, ...]:
    return tuple(filter(None, os.path.normpath(os.path.join(base, path)).split(os.sep)))


def _harmless(outer: Folder, inner: Folder) -> bool:
    """An inbound below one that is not looked through; and the configuration anywhere but where uploaders write."""
    if not inner.where:
        return outer.where[:1] != ("inboxes",)
    return outer.takes_inbounds and inner.takes_inbounds and outer.parts != inner.parts


def _told(outer: Folder, inner: Folder, second: Folder) -> str:
    path = os.sep + os.sep.join(inner.parts)
    if outer.parts == inner.parts:
        return f"{path} is {outer.purpose} and {inner.purpose} at once; give each a folder of its own"
    place = f"{path} ({inner.purpose}) lies inside {os.sep}{os.sep.join(outer.parts)} ({outer.purpose})"
    return f"{place}; move {second.purpose} elsewhere"
