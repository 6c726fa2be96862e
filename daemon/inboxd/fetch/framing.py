"""Where a body ends, as its head says (RFC 9112, 6.3). Where that makes no sense, nobody guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_LENGTH = re.compile("[0-9]{1,18}")
_FIELD = re.compile(rb"[!-9;-~]+:[^\r]*\r?\n|\r?\n")  # what email's parser takes for one, or the end of the head
_MORE = re.compile(rb"[\t ][^\r]*\r?\n")  # of the field before it (RFC 9112, 5.2)
_OF_THE_BODY = re.compile(rb"content.?(length|encoding|range)|transfer.?encoding", re.IGNORECASE)
_BROKEN = "Broken-Line"  # a field of ours
_MOST_TOLD = 20  # characters


class Framing(NamedTuple):
    """Without a length, chunks or a flaw, a body ends with its connection."""

    length: int | None = None  # bytes on the wire
    is_chunked: bool = False
    flaw: str = ""  # words to go on with after "it was sent"


def framing(headers: Mapping[str, str]) -> Framing:
    """Headers that stand there several times are to be one, with commas. Chunks win over a length."""
    if broken := headers.get(_BROKEN, "").strip(", "):
        return Framing(flaw=f"with a head that is broken at {broken[:_MOST_TOLD]!r}")
    coding = headers.get("Transfer-Encoding", "")
    if coding.lower() == "chunked":  # in any other spelling http.client takes the chunks for the body
        return Framing(is_chunked=True)
    if coding.strip().lower() not in ("", "identity"):
        return Framing(flaw=f"in the transfer coding {coding[:_MOST_TOLD]!r}, which nobody asked for")
    told = headers.get("Content-Length")
    if told is None:
        return Framing()
    length = length_of(told)
    return Framing(length, flaw="" if length is not None else f"with the length {told[:_MOST_TOLD]!r}, which is none")


def marked(line: bytes, *, is_alone: bool) -> bytes:
    """A line of a head after its status. Of a broken one email's parser would take what comes after it for the body,
    be it a length or a coding: it becomes a field that nobody asks for, or one that says so where it was of the body.
    `is_alone`: it can't go on with the one before, of which there is none, or a broken one.
    """
    if _FIELD.fullmatch(line) or (not is_alone and _MORE.fullmatch(line)):
        return line
    found = _OF_THE_BODY.search(line)
    told = line[found.start() :][:_MOST_TOLD].replace(b"\r", b" ").strip() if found else b""
    return b"%s: %s\r\n" % (_BROKEN.encode(), told)


def length_of(told: str) -> int | None:
    """Of a Content-Length, which may say the same several times; None where it says no length."""
    said = {one.strip() for one in told.split(",")}
    one = said.pop()
    return int(one) if not said and _LENGTH.fullmatch(one) else None
