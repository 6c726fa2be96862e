"""Where a body ends, its head says: what it says wrongly is not guessed at."""

from __future__ import annotations

from typing import Any

import pytest

from inboxd.fetch.errors import Unfit
from support.faults import fault
from support.http_rig import HttpRig, failure, ordered
from support.partner import Partner, raw

_SILENT = {"size": None, "sha256": None}  # the listing gives nothing to compare it with
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def _sends(body: bytes, *lines: str) -> Any:
    """A body as it is, and the end of its connection."""
    return raw(["\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode(), body])


_CODINGS = ["gzip, chunked", "gzip", "chunked, gzip", "chunked, chunked", "chunked\r\nTransfer-Encoding: gzip",
            "gzip\r\nTransfer-Encoding: chunked", "x", "chunked ", "identity, chunked"]  # fmt: skip


@fault(
    "Sources and destinations", "a body in a coding that nobody knows", how="Transfer-Encoding", shows="not accepted"
)
@pytest.mark.parametrize("coding", _CODINGS)
@pytest.mark.parametrize("more", [[], ["Content-Length: 15"]])
def test_the_framing_of_a_coding_is_no_part_of_a_file(
    partner: Partner, rig: HttpRig, coding: str, more: list[str]
) -> None:
    sent = _sends(_CHUNKS, f"Transfer-Encoding: {coding}", *more)
    partner.add("a.csv", b"hello", listed=_SILENT, serve=sent)
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "sent it in the transfer coding .*, which nobody asked for")
    partner.acking = sent
    source.ack(ordered(item))  # its status says all
    partner.listing = sent
    failure(Unfit, lambda: list(source.list()), "sent it in the transfer coding")


def test_nor_of_what_an_error_says(partner: Partner, rig: HttpRig) -> None:
    head = b"HTTP/1.1 422 x\r\nContent-Type: text/plain\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    partner.add("a.csv", b"hello", serve=raw([head, b"2\r\nno\r\n0\r\n\r\n"]))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "422 Unprocessable Entity$")


@pytest.mark.parametrize("lines", [["Transfer-Encoding: Identity"], ["Transfer-Encoding: identity", "Content-Length: 5"],
                                   ["Transfer-Encoding:"]])  # fmt: skip
def test_no_coding_is_none(partner: Partner, rig: HttpRig, lines: list[str]) -> None:
    partner.add("a.csv", b"hello", listed=_SILENT, serve=_sends(b"hello", *lines))
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"
