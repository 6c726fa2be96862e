"""A Content-Encoding undone, in pieces. What ends in the middle is not whole, nor what goes on after its end.

urllib3 decodes as well, but takes as much as there is of a gzip or deflate for all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

ENCODINGS = ("gzip", "x-gzip", "deflate")
_PIECE = 256 * 1024  # bytes of content at once, from however few they come
_PADDING = b"\0\r\n\t "  # no member begins so
_GZIP, _ZLIB, _RAW = 31, 15, -15  # the wbits of zlib


class Malformed(Exception):
    """It does not decode to anything whole. The message is what it does: "ends before its gzip does"."""


def decoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """What they hold in one of ENCODINGS. Raises Malformed, when it is cut off only after all that has come."""
    decoder = _Decoder(encoding)
    for block in blocks:
        yield from decoder.content(block)
    decoder.check_end()


class _Decoder:
    """A gzip may have several members; after the last come zeros at most, as gzip(1) has it, or the line break that a
    script has at its end.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._member: zlib._Decompress | None = None
        self._is_padded = False

    def content(self, data: bytes) -> Iterator[bytes]:
        """Of the next bytes."""
        while data:
            if self._has_ended and data[0] in _PADDING:
                self._is_padded = True
            if self._is_padded:
                self._check_padding(data)
                return
            if self._member is None or self._member.eof:
                self._member = self._begun(data)
            yield from self._pieces(self._member, data)
            data = self._member.unused_data

    @property
    def _has_ended(self) -> bool:
        return self._member is not None and self._member.eof

    def _check_padding(self, data: bytes) -> None:
        if data.strip(_PADDING):
            raise self._too_long()

    def _too_long(self) -> Malformed:
        return Malformed(f"goes on after its {self._encoding} has ended")

    def _begun(self, data: bytes) -> zlib._Decompress:
        if self._encoding != "deflate":
            return zlib.decompressobj(_GZIP)
        if self._member is not None:
            raise self._too_long()
        # RFC 9110 means zlib's form; some send the raw one, which does not begin like that: its padding is zero.
        return zlib.decompressobj(_ZLIB if data[0] & 0x0F == zlib.DEFLATED else _RAW)

    def _pieces(self, member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
        """Until it has taken all of `data`, or has ended."""
        while not member.eof:
            try:
                piece = member.decompress(data, _PIECE)
            except zlib.error:
                raise Malformed(f"is not encoded as it says ({self._encoding})") from None
            if piece:
                yield piece
            data = member.unconsumed_tail
            if not data and len(piece) < _PIECE:  # after a full piece it may hold more, of bytes that it has taken
                return

    def check_end(self) -> None:
        """No more bytes come."""
        if not self._has_ended:
            raise Malformed(f"ends before its {self._encoding} does")
