"""Where a body ends, as its head says (RFC 9112, 6.3). Where that makes no sense, nobody guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Framing(NamedTuple):
    """Without a length, chunks or a flaw, a body ends with its connection."""

    length: int | None = None  # bytes on the wire
    is_chunked: bool = False
    flaw: str = ""  # words to go on with after "it was sent"


def framing(headers: Mapping[str, str]) -> Framing:
    """Headers that stand there several times are to be one, with commas."""
    coding = headers.get("Transfer-Encoding", "")
    if coding.lower() == "chunked":  # in any other spelling http.client takes the chunks for the body
        return Framing(is_chunked=True)
    if coding.strip().lower() not in ("", "identity"):
        return Framing(flaw=f"in the transfer coding {coding[:20]!r}, which nobody asked for")
    length = headers.get("Content-Length", "")
    return Framing(int(length) if length.isascii() and length.isdigit() else None)
