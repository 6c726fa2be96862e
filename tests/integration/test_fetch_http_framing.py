"""Where a body ends, its head says: what it says wrongly is not guessed at."""

from __future__ import annotations

import itertools
from http import HTTPStatus
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Gone, Unfit
from support.faults import fault
from support.http_rig import HttpRig, failure, ordered
from support.partner import Handler, Offer, Partner, raw, serve_file, serve_listing

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


@pytest.mark.parametrize("second", ["chunked", "Chunked"])
def test_chunks_may_be_told_of_twice(partner: Partner, rig: HttpRig, second: str) -> None:
    """By an application, and by what stands before it."""
    sent = _sends(_CHUNKS, "Transfer-Encoding: chunked", f"Transfer-Encoding: {second}")
    partner.add("a.csv", b"hello", listed=_SILENT, serve=sent)
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"


def test_nor_of_what_an_error_says(partner: Partner, rig: HttpRig) -> None:
    head = b"HTTP/1.1 422 x\r\nContent-Type: text/plain\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    partner.add("a.csv", b"hello", serve=raw([head, b"2\r\nno\r\n0\r\n\r\n"]))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), f"422 {HTTPStatus(422).phrase}$")


@pytest.mark.parametrize("lines", [["Transfer-Encoding: Identity"], ["Transfer-Encoding: identity", "Content-Length: 5"],
                                   ["Transfer-Encoding:"]])  # fmt: skip
def test_no_coding_is_none(partner: Partner, rig: HttpRig, lines: list[str]) -> None:
    partner.add("a.csv", b"hello", listed=_SILENT, serve=_sends(b"hello", *lines))
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"


_LENGTHS = ["5x", "-1", "+5", "0x5", "5.0", "5_0", "5 5", "", "five", "5\xb2", "9" * 5000, "5, 6", "5\r\nContent-Length: 6",
            "5, 5x", "5x\r\nContent-Length: 5", "3, -3", "5,"]  # fmt: skip


@fault("Sources and destinations", "a length that is none", how="Content-Length", shows="not accepted")
@pytest.mark.parametrize("length", _LENGTHS)
def test_a_length_that_is_none_does_not_mean_up_to_the_end(partner: Partner, rig: HttpRig, length: str) -> None:
    sent = _sends(b"hel", f"Content-Length: {length}")
    partner.add("a.csv", b"hello", listed=_SILENT, serve=sent)
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "sent it with the length .*, which is none")
    partner.acking = sent
    source.ack(ordered(item))  # its status says all
    partner.listing = sent
    failure(Unfit, lambda: list(source.list()), "sent it with the length")


def test_a_no_with_such_a_length_is_still_that_no(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"hello")
    source = rig.partner(partner.url)
    (item,) = source.list()
    for status, kind in ((404, Gone), (503, Away)):
        partner.offers["a.csv"].serve = raw([f"HTTP/1.1 {status} x\r\nContent-Length: 5, 6\r\n\r\nhello".encode()])
        failure(kind, lambda: rig.take(source, item), str(status))


@pytest.mark.parametrize("length", ["{}, {}", "{} ,{}, {}", "{}\r\nContent-Length: {}", " {} ", "00{}"])
@pytest.mark.parametrize("body", [b"hello", b""])
def test_a_length_may_be_repeated(partner: Partner, rig: HttpRig, length: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length.format(*[len(body)] * 3)}\r\n\r\n".encode()

    def serve(handler: Handler, _: Offer) -> None:
        handler.wfile.write(head + body)  # the connection does not end

    partner.add("a.csv", b"hello", listed=_SILENT, serve=serve)
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == body
    partner.offers["a.csv"].serve = raw([head, body + b"more"])
    assert rig.take(source, item) == body
    if body:
        partner.offers["a.csv"].serve = raw([head, body[:3]])
        failure(Away, lambda: rig.take(source, item), "broke off after 3 of 5 bytes")


@pytest.mark.parametrize("length", ["3", "99", *_LENGTHS])
def test_chunks_win_over_any_length(partner: Partner, rig: HttpRig, length: str) -> None:
    sent = _sends(_CHUNKS, "Transfer-Encoding: chunked", f"Content-Length: {length}")
    partner.add("a.csv", b"hello", listed=_SILENT, serve=sent)
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"


_BROKEN = ["Content-Length 5", "Content-Length : 5", "content length: 5", " Content-Length: 5", "X: y\rContent-Length: 3",
           "Transfer-Encoding : chunked", "Content-Encoding : gzip", "\xfcContent-Range: bytes 0-2/3", f"{' ' * 25}Content-Length: 5",
           ", , , , , , , , , , Content-Length 5", "X Y: z\r\n Content-Length: 5"]  # fmt: skip
_UNREADABLE = [
    "no colon",
    "X Y: z",
    "HTTP/1.1 200 OK",
    "\xfc: x",
    ": x",
    "X: y\r",
    "X: y\rz",
    "\tX",
    "X Y: z\r\n more",
    "Warning broken thing\r\n  at somewhere\r\n\tand there",
]
_ANY_LENGTH = ["Content-Length: 5", "Transfer-Encoding: chunked", "Content-Type: multipart/x-zip\r\nContent-Length: 5",
               "Content-Type: message/rfc822\r\nContent-Length: 5", "X: y"]  # fmt: skip


def _broken(line: str, length: str, body: bytes) -> Any:
    return raw([f"HTTP/1.1 200 OK\r\n{line}\r\n{length}\r\n\r\n".encode("latin-1"), body])


@fault(
    "Sources and destinations",
    "a broken line in the head of an answer",
    how="of its length or coding",
    shows="not accepted",
)
@pytest.mark.parametrize("line", _BROKEN)
@pytest.mark.parametrize("length", _ANY_LENGTH)
def test_a_length_behind_a_broken_line_is_not_overlooked(
    partner: Partner, rig: HttpRig, line: str, length: str
) -> None:
    sent = _broken(line, length, b"hel")
    partner.add("a.csv", b"hello", listed=_SILENT, serve=sent)
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "sent it with a head that is broken at '.*'$")
    partner.acking = sent
    source.ack(ordered(item))  # its status says all
    partner.listing = sent
    failure(Unfit, lambda: list(source.list()), "with a head that is broken")


def test_the_other_lines_of_such_a_head_are_read(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"hello")
    source = rig.partner(partner.url)
    (item,) = source.list()
    partner.offers["a.csv"].serve = raw([b"HTTP/1.1 503 x\r\nContent-Length 5\r\nRetry-After: 77\r\n\r\n"])
    assert failure(Away, lambda: rig.take(source, item), "503").after == 77
    partner.listing = raw([b"HTTP/1.1 200 OK\r\nContent-Length 5\r\nContent-Type: text/html\r\n\r\n"])
    failure(Unfit, lambda: list(rig.partner(partner.url, form="index").list()), "broken at 'Content-Length 5'")


@pytest.mark.parametrize("length", _ANY_LENGTH)
@pytest.mark.parametrize("line", _UNREADABLE)
def test_a_broken_line_of_something_else_hides_no_length(
    partner: Partner, rig: HttpRig, line: str, length: str
) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n" if "chunked" in length else b"hello"
    partner.add("a.csv", b"hello", listed=_SILENT, serve=_broken(line, length, body))
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"
    if length != "X: y":
        partner.offers["a.csv"].serve = _broken(line, length, body[:6] if "chunked" in length else b"hel")
        failure(Away, lambda: rig.take(source, item), "broke off")


@pytest.mark.parametrize("line", ["X:", "X:\ty", "X: y\r\n z: 1\r\n\t", "X: \xfc: \x00", "(x): y", "X: y\nZ: 1",
                                  "Content-Type: multipart/x-zip", "Content-Type: message/rfc822"])  # fmt: skip
def test_an_odd_line_is_not_broken(partner: Partner, rig: HttpRig, line: str) -> None:
    partner.add("a.csv", b"hello", listed=_SILENT, serve=_broken(line, "Content-Length: 5", b"hello"))
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"hello"
    partner.offers["a.csv"].serve = _broken(line, "Content-Length: 5", b"hel")
    failure(Away, lambda: rig.take(source, item), "broke off after 3 of 5 bytes")


_EARLY = [b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\nContent-Length: 9\r\n\r\n",
          b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\nno colon\r\n\r\n", b"HTTP/1.1 199\r\n\r\n"]  # fmt: skip


@fault("Sources and destinations", "interim answers", how="103 and others before the final one", shows="skipped")
@pytest.mark.parametrize("before", [*_EARLY, b"".join(_EARLY) * 20])
def test_an_interim_answer_is_not_the_final_one(partner: Partner, rig: HttpRig, before: bytes) -> None:
    def serve(handler: Handler, offer: Offer) -> None:
        handler.wfile.write(before)
        serve_file(handler, offer)

    def listing(handler: Handler) -> None:
        handler.wfile.write(before)
        serve_listing(handler)

    partner.add("a.csv", b"hello", listed=_SILENT, serve=serve)
    partner.listing = listing
    source = rig.partner(partner.url)
    (item,) = source.list()
    for _ in range(2):  # on one connection
        assert rig.take(source, item) == b"hello"
    partner.acking = raw([before, b"HTTP/1.1 503 x\r\n\r\n"])
    failure(Away, lambda: source.ack(ordered(item)), "503")
    partner.offers["a.csv"].serve = raw([before, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])
    failure(Away, lambda: rig.take(source, item), "broke off after 3 of 5 bytes")
    partner.offers["a.csv"].serve = raw([before])
    failure(Away, lambda: rig.take(source, item), "hung up in the middle of its answer")


def test_a_switch_that_nobody_asked_for_is_no_interim_answer(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"hello", serve=raw([b"HTTP/1.1 101 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello"]))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "101")


@fault("Sources and destinations", "interim answers", how="without end", shows="away, soon or at timeout.total")
@pytest.mark.parametrize("one", [_EARLY[0], b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_interim_answers_come_to_an_end(partner: Partner, rig: HttpRig, one: bytes) -> None:
    partner.add("a.csv", b"hello", serve=raw(itertools.repeat(one)))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), "sent 1000 interim answers, and no final one$")
    assert len(partner.log("/files")) == 1
    partner.listing = raw(itertools.repeat(one), every=0.05)
    slow = rig.partner(partner.url, {"total": 0.5})
    failure(Away, lambda: list(slow.list()), "did not answer in time")
