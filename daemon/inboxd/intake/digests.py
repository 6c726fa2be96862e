"""What a checksum file says, as sha256sum(1), md5sum(1) and openssl(1) write it, or by a digest alone. Pure."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_DIGESTS = {"sha256": "[0-9a-f]{64}", "md5": "[0-9a-f]{32}"}
_TAGS = {"sha256": "SHA(?:2-)?256", "md5": "MD5"}
_LINES = {
    kind: (
        re.compile(rf"(?P<digest>{digest})(?:\s+\*?(?P<name>\S.*))?", re.IGNORECASE),
        re.compile(rf"{_TAGS[kind]} ?\((?P<name>.+)\) ?= ?(?P<digest>{digest})", re.IGNORECASE),
    )
    for kind, digest in _DIGESTS.items()
}
_MOST_NAMED = 3  # names in an explanation


class Line(NamedTuple):
    """One that bears a digest."""

    name: str  # with the folders that it was made in, or ""
    digest: str


def read_lines(text: str, kind: str) -> list[Line]:
    """Those with a digest of this kind; others are passed over."""
    stripped = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    found = [form.fullmatch(line) for line in stripped for form in _LINES[kind]]
    return [Line((one["name"] or "").removeprefix("./"), one["digest"].lower()) for one in found if one is not None]


def digest_of(name: str, lines: list[Line]) -> str | None:
    """The one for the file of this name, whatever folder it was made in; one that names no file is for any."""
    its = [line for line in lines if not line.name or os.path.basename(line.name) == name]
    its.sort(key=lambda line: "/" in line.name)  # one of its own folder comes before those of others
    return its[0].digest if its else None


def why_wrong(name: str, companion: str, lines: list[Line], kind: str) -> str:
    """Why a file whose content is known is not complete by its checksum file."""
    if digest_of(name, lines) is not None:
        return f"its content does not match {companion}; it waits until one of the two changes"
    if not lines:
        return f"{companion} has no {kind} digest; it waits until that is put right"
    others = list(dict.fromkeys(line.name for line in lines))
    named = ", ".join(others[:_MOST_NAMED]) + (", …" if len(others) > _MOST_NAMED else "")
    return f"{companion} has no line for {name}, only for {named}; it waits until that is put right"
