"""Values that stand elsewhere: {credential: NAME}, {file: PATH}, {env: NAME}. Read here, and shown nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inboxd.config.nodes import Document, Where

_LARGEST = 64 * 1024  # bytes
#: Sections that are no references whatever their one key is: users choose it, or it is called `file` by right.
_FREE = ("databases", "inboxes", "options", "sources", "destinations", "headers", "certificate")


def fill_in(document: Document, base: Path) -> None:
    """Replace every reference by its text. What can't be found is noted as a problem."""
    document.values = _filled(document.values, (), document, base)


def _filled(value: Any, where: Where, document: Document, base: Path) -> Any:
    if isinstance(value, list):
        return [_filled(item, (*where, number), document, base) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not _is_reference(value, where):
        return {key: _filled(item, (*where, key), document, base) for key, item in value.items()}
    ((kind, name),) = value.items()
    document.references[where] = f"{{{kind}: {name}}}"
    if kind == "env":
        document.environment.add(name)
    try:
        return _fetch(kind, name, where, base)
    except ValueError as error:
        document.refuse(where, str(error))
        return ""


def _is_reference(value: dict[str, Any], where: Where) -> bool:
    if len(value) != 1 or not where or where[-1] in _FREE:
        return False
    ((kind, name),) = value.items()
    return kind in _KINDS and isinstance(name, str)


def _fetch(kind: str, name: str, where: Where, base: Path) -> str:
    if where[2:4] == ("handler", "command"):
        raise ValueError("every user can see the arguments of a command; let the program read the value itself")
    text = _KINDS[kind](name, base)
    if not text or "\0" in text:
        raise ValueError(f"{{{kind}: {name}}} is empty, or holds a NUL character; write the value there")
    return text


def _credential(name: str, base: Path) -> str:
    """LoadCredential= and its kin of systemd.exec(5)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            f"there are no credentials ($CREDENTIALS_DIRECTORY is not set); write LoadCredential={name}:… in the unit, "
            "or use {file: PATH}; by hand, while the service runs: "
            "CREDENTIALS_DIRECTORY=/run/credentials/inboxd.service inboxd check"
        )
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(f"{name!r} is no name of a credential; write the part before the : in LoadCredential=")
    return _read(Path(folder, name), f"name it in LoadCredential={name}:…")


def _file(name: str, base: Path) -> str:
    if "\0" in name:
        raise ValueError("write a path without a NUL character")
    return _read(base / name, "make it, readable by the daemon's user alone")


def _environment(name: str, _base: Path) -> str:
    text = os.environ.get(name) if name else None
    if text is None:
        raise ValueError(f"the environment variable {name!r} is not set; set it where inboxd is started")
    return text


def _read(path: Path, remedy: str) -> str:
    """The text of a file, without the line break that editors put at its end."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}; {remedy}") from None
    except UnicodeError:
        raise ValueError(f"{path} holds no UTF-8 text; save it as UTF-8") from None
    if len(data) > _LARGEST:
        raise ValueError(f"{path} is larger than 64 KiB; is it the right file?")
    return text.removesuffix("\n").removesuffix("\r")


_KINDS: dict[str, Callable[[str, Path], str]] = {"credential": _credential, "file": _file, "env": _environment}
