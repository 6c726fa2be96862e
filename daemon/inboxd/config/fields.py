"""Types of single values in config.yaml: paths, patterns, layouts, URLs. Each refuses in words, with the remedy.

A validation context {"base": Path} comes with what is read from a file; paths are relative to it.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, WithJsonSchema

from inboxd.config import urls

_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = (
    "aAbBCdeFgGHIjmMpSuUVwWyYzZ%"  # strftime(3), without those whose text holds a slash or depends on the locale
)
_SAMPLES = (0.0, 1_000_000_000.0, 1_735_689_599.0)  # seconds since the epoch
_LONGEST_NAME = 255  # bytes, NAME_MAX of limits.h


def _text(value: str) -> str:
    """Anything the kernel takes as a name or argument."""
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError("write text that UTF-8 can hold") from None
    if b"\0" in encoded:
        raise ValueError("leave the NUL character out")
    if not encoded:
        raise ValueError("write something, or leave the key out")
    return value


def _place(value: Any, info: ValidationInfo) -> Path:
    """Absolute and without `..`, so that what is shown is what is used."""
    if isinstance(value, str):
        _text(value)
        if value.startswith("~"):
            raise ValueError("write the path in full; ~ is not expanded here")
    elif not isinstance(value, Path):
        raise ValueError("write a path, as text")
    if info.context is None:
        return Path(value)
    return Path(os.path.normpath(os.path.join(info.context["base"], value)))


def _pattern(value: str) -> str:
    if "/" in value:
        raise ValueError("leave the / out: patterns are compared with the name alone, see 'recursive' for folders")
    return value


def _layout(value: str) -> str:
    """A relative folder whatever the time: strftime(3) directives and plain text."""
    if not value:
        return value
    _text(value)
    unknown = [letter for letter in _DIRECTIVE.findall(value) if letter not in _DIRECTIVES or not letter]
    if unknown:
        raise ValueError(
            f"%{unknown[0]} is not supported; use strftime directives such as %Y, %m, %d, %H, or %% for a percent sign"
        )
    for sample in _SAMPLES:
        names = time.strftime(value, time.gmtime(sample)).split("/")
        if any(name in ("", ".", "..") for name in names):
            raise ValueError(
                "write a relative folder, without '..' and without an empty name: %Y/%m/%d, or \"\" for none"
            )
        if any(len(os.fsencode(name)) > _LONGEST_NAME for name in names):
            raise ValueError(f"write shorter folder names; a file system takes {_LONGEST_NAME} bytes")
    return value


def _ledger(value: SecretStr, info: ValidationInfo) -> SecretStr:
    return _url(urls.ledger, value, info)


def _database(value: SecretStr, info: ValidationInfo) -> SecretStr:
    return _url(urls.database, value, info)


def _url(check: urls.Check, value: SecretStr, info: ValidationInfo) -> SecretStr:
    if info.context is None:
        return value
    return SecretStr(check(value.get_secret_value(), info.context["base"]))


Text = Annotated[str, AfterValidator(_text)]
Place = Annotated[Path, BeforeValidator(_place), WithJsonSchema({"type": "string", "minLength": 1, "format": "path"})]
Pattern = Annotated[Text, AfterValidator(_pattern)]
Layout = Annotated[str, AfterValidator(_layout)]
LedgerUrl = Annotated[SecretStr, AfterValidator(_ledger)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
FunctionName = Annotated[
    str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", examples=["handlers:handle"])
]
Ending = Annotated[str, Field(min_length=1, pattern=r"^[^/\x00]+$", examples=[".done"])]
