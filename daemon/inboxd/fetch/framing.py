"""Where a body ends, as its head says (RFC 9112, 6.3). Where that makes no sense, nobody guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_LENGTH = re.compile("[0-9]{1,18}")


class Framing(NamedTuple):
    """Without a length, chunks or a flaw, a body ends with its connection."""

    length: int | None = None  # bytes on the wire
    is_chunked: bool = False
    flaw: str = ""  # words to go on with after "it was sent"


def framing(headers: Mapping[str, str]) -> Framing:
    """Headers that stand there several times are to be one, with commas. Chunks win over a length."""
    coding = headers.get("Transfer-Encoding", "")
    if coding.lower() == "chunked":  # in any other spelling http.client takes the chunks for the body
        return Framing(is_chunked=True)
    if coding.strip().lower() not in ("", "identity"):
        return Framing(flaw=f"in the transfer coding {coding[:20]!r}, which nobody asked for")
    told = headers.get("Content-Length")
    if told is None:
        return Framing()
    length = length_of(told)
    return Framing(length, flaw="" if length is not None else f"with the length {told[:20]!r}, which is none")


def length_of(told: str) -> int | None:
    """Of a Content-Length, which may say the same several times; None where it says no length."""
    said = {one.strip() for one in told.split(",")}
    one = said.pop()
    return int(one) if not said and _LENGTH.fullmatch(one) else None
