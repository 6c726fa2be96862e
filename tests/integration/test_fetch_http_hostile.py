"""A partner that does not behave: slow, endless, lying. Nothing of it costs more than was allowed."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Refused, RemoteError, TooLarge, Unfit
from support.certificates import Authority
from support.faults import fault
from support.http_rig import HttpRig, failure, ordered
from support.partner import (
    Handler,
    Partner,
    answer,
    broken_off,
    drip,
    endless,
    raw,
    serve_file,
    silent_port,
)

_HASTY = {"idle": 0.4, "total": 1.0}
_MIB = 1 << 20


def _fetching(partner: Partner, rig: HttpRig, kind: type[RemoteError], words: str = ".", **bounds: Any) -> RemoteError:
    """How the one item of `partner` fails, soon."""
    source = rig.partner(partner.url, _HASTY)
    (item,) = source.list()
    began = time.monotonic()
    error = failure(kind, lambda: rig.take(source, item, **{"total": 1.0, **bounds}), words)
    assert time.monotonic() - began < 8
    return error


# Slow


def _headers(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode()


def _bytewise(data: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in data)


_SLOW = {
    "status": lambda _: _bytewise(b"HTTP/1.1 200 " + b"O" * 1000),
    "headers": lambda _: _bytewise(_headers("X: " + "x" * 1000)),
    "continue": lambda _: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": lambda _: itertools.chain([_headers("Content-Length: 1000")], _bytewise(b"x" * 1000)),
    "body without length": lambda _: itertools.chain([_headers()], _bytewise(b"x" * 1000)),
    "chunks": lambda _: itertools.chain([_headers("Transfer-Encoding: chunked")], itertools.repeat(b"1\r\nx\r\n")),
    "length of a chunk": lambda _: itertools.chain([_headers("Transfer-Encoding: chunked")], itertools.repeat(b"0")),
    "trailers": lambda _: itertools.chain([_headers("Transfer-Encoding: chunked"), b"0\r\n"], itertools.repeat(b"a: b\r\n")),
}  # fmt: skip


@fault(
    "Sources and destinations", "a server drips bytes", how="one byte now and then", shows="left at the total deadline"
)
@pytest.mark.parametrize("where", _SLOW)
def test_a_byte_now_and_then_is_not_enough(partner: Partner, rig: HttpRig, where: str) -> None:
    partner.add("a.csv", b"x" * 1000, serve=raw(_SLOW[where], every=0.02))
    began = time.monotonic()
    _fetching(partner, rig, Away)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("where", ["headers", "body", "length of a chunk"])
def test_a_byte_now_and_then_is_not_enough_with_tls(rig: HttpRig, tmp_path: Path, where: str) -> None:
    authority = Authority(tmp_path, "ca")
    authority.certify("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with Partner(tls=context) as partner:
        partner.add("a.csv", b"x" * 1000, serve=raw(_SLOW[where], every=0.02))
        source = rig.partner(partner.url, _HASTY, authority=str(authority.file))
        (item,) = source.list()
        began = time.monotonic()
        failure(Away, lambda: rig.take(source, item, total=1.0))
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("where", ["headers", "body", "length of a chunk"])
def test_a_listing_has_a_deadline_too(partner: Partner, rig: HttpRig, where: str) -> None:
    partner.listing = raw(_SLOW[where], every=0.02)
    began = time.monotonic()
    failure(Away, lambda: list(rig.partner(partner.url, _HASTY).list()), "in time|too slow")
    assert time.monotonic() - began < 3


def test_an_ack_has_a_deadline_too(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url, _HASTY)
    (item,) = source.list()
    partner.acking = raw(_SLOW["headers"], every=0.02)
    began = time.monotonic()
    failure(Away, lambda: source.ack(ordered(item)))
    assert time.monotonic() - began < 3


def test_a_slow_body_after_an_ack_changes_nothing(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url, _HASTY)
    (item,) = source.list()
    partner.acking = raw(_SLOW["body"], every=0.02)
    source.ack(ordered(item))


def test_a_drip_is_stopped_and_its_bytes_are_kept(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x" * 1000, serve=drip(0.02))
    _fetching(partner, rig, Away)
    assert 0 < rig.part().size < 1000


def test_silence_is_not_waited_out(partner: Partner, rig: HttpRig) -> None:
    def serve(handler: Handler, offer: Any) -> None:
        handler.begin(200, {"Content-Length": "1000", "ETag": offer.etag})
        handler.wfile.write(b"x" * 500)
        handler.partner.ending.wait(30)

    partner.add("a.csv", b"x" * 1000, serve=serve)
    _fetching(partner, rig, Away, "stopped sending", total=20.0)
    assert rig.part().size == 500


def test_a_silence_at_the_end_is_not_waited_out_either(partner: Partner, rig: HttpRig) -> None:
    pieces = itertools.chain([_headers("Content-Length: 1000")], [b"x"] * 60)

    def serve(handler: Handler, *_: Any) -> None:
        raw(pieces, every=0.02)(handler)
        handler.partner.ending.wait(30)

    partner.add("a.csv", b"x" * 1000, serve=serve)
    source = rig.partner(partner.url, {"idle": 20.0, "total": 20.0})
    (item,) = source.list()
    began = time.monotonic()
    failure(Away, lambda: rig.take(source, item, total=1.6), "too slow")
    assert time.monotonic() - began < 2.5, "1.2 s of drops, then no more than what is left of 1.6 s"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing_is_away(rig: HttpRig, scheme: str) -> None:
    with silent_port() as port:
        source = rig.source(f"{scheme}://127.0.0.1:{port}/", {"connect": 0.4, "idle": 0.4})
        began = time.monotonic()
        failure(Away, lambda: list(source.list()), "timeout")
        assert time.monotonic() - began < 3


def test_nobody_there_is_away(rig: HttpRig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failure(Away, lambda: list(rig.source(f"http://127.0.0.1:{port}/").list()), "connection refused")
    failure(Away, lambda: list(rig.source("http://nowhere.invalid/").list()), "can't be resolved")


def test_a_dropped_connection_is_made_again_at_once(partner: Partner, rig: HttpRig) -> None:
    tries = []

    def serve(handler: Handler, offer: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            handler.hang_up()
        else:
            serve_file(handler, offer)

    partner.add("a.csv", b"x", serve=serve)
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"x"
    tries.clear()
    partner.offers["a.csv"].serve = lambda handler, _: (tries.append(1), handler.hang_up())  # type: ignore[assignment, return-value]
    failure(Away, lambda: rig.take(source, item))
    assert len(tries) == 3, "few tries, then it is somebody else's turn"


def test_an_ack_is_not_said_twice_by_the_connection(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url)
    (item,) = source.list()
    partner.acking = lambda handler, _: handler.hang_up()
    failure(Away, lambda: source.ack(ordered(item)))
    assert partner.acked() == ["a.csv"]


# Endless


@fault("Sources and destinations", "an endless body", how="bytes without end", shows="left at max_size")
def test_an_endless_body_ends_at_max_size(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", serve=endless)
    _fetching(partner, rig, TooLarge, total=20.0, max_size=5 * _MIB)
    assert Path(rig.path()).stat().st_size <= 5 * _MIB


def test_an_endless_listing_ends(partner: Partner, rig: HttpRig) -> None:
    partner.listing = lambda handler: endless(handler, None)  # type: ignore[arg-type]
    failure(Refused, lambda: list(rig.partner(partner.url).list()), "more than 67108864 bytes")


def test_an_endless_redirect_is_not_read(partner: Partner, rig: HttpRig) -> None:
    def serve(handler: Handler, *_: Any) -> None:
        handler.begin(302, {"Location": "/files/b.csv", "Connection": "close"})
        handler.close_connection = True
        while not handler.partner.ending.is_set():
            handler.wfile.write(b"x" * 65536)

    partner.add("a.csv", b"x", serve=serve)
    partner.add("b.csv", b"x")
    for redirects, fits in (("none", False), ("same-origin", True)):
        source = rig.partner(partner.url, _HASTY, redirects=redirects)
        item = next(iter(source.list()))
        if fits:
            assert rig.take(source, item) == b"x"
        else:
            failure(Unfit, lambda source=source, item=item: rig.take(source, item), "302")


@fault(
    "Sources and destinations", "a listing of a million items", how="many pages", shows="left at max_items, memory flat"
)
def test_a_listing_of_a_million_items(partner: Partner, rig: HttpRig) -> None:
    def serve(handler: Handler) -> None:
        handler.begin(200, {"Connection": "close", "Content-Type": "application/json"})
        handler.close_connection = True
        handler.wfile.write(b'[{"id": 0}')
        for first in range(1, 1_000_000, 10_000):
            handler.wfile.write("".join(f',{{"id":{number}}}' for number in range(first, first + 10_000)).encode())
        handler.wfile.write(b"]")

    partner.listing = serve
    source = rig.partner(partner.url, {"max_items": 1000}, items="@", url=f"{partner.url}/files/{{id}}", next=None)
    items = list(source.list())
    assert (len(items), items[-1].url) == (1001, f"{partner.url}/files/1000")


def test_an_endless_index_is_left_early(partner: Partner, rig: HttpRig) -> None:
    def serve(handler: Handler) -> None:
        handler.begin(200, {"Connection": "close", "Content-Type": "text/html"})
        handler.close_connection = True
        for number in itertools.count():
            if handler.partner.ending.is_set():
                return
            handler.wfile.write("".join(f'<a href="{number}-{one}">x</a>\n' for one in range(1000)).encode())

    partner.listing = serve
    source = rig.partner(partner.url, {"max_items": 5000}, items=None)
    assert len(list(source.list())) == 5001


# Lying


@fault(
    "Sources and destinations", "a body shorter than announced", how="Content-Length that lies", shows="not accepted"
)
def test_a_body_shorter_than_it_said_is_not_the_end(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x" * 100, headers={"Content-Length": "1000"}, serve=broken_off(1.0, reset=False),
                listed={"size": None, "sha256": None})  # fmt: skip
    _fetching(partner, rig, Away, "broke off after 100 of 1000")
    assert rig.part().size == 100


def test_a_broken_chunk_is_not_the_end(partner: Partner, rig: HttpRig) -> None:
    pieces = [_headers("Transfer-Encoding: chunked"), b"5\r\nhello\r\n", b"5\r\nwo"]
    partner.add("a.csv", b"hello", serve=raw(lambda _: iter(pieces)), listed={"size": None, "sha256": None})
    _fetching(partner, rig, Away, "broke off after")


def test_a_body_longer_than_it_said_is_cut_and_found_out(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x" * 1000, serve=raw(lambda _: iter([_headers("Content-Length: 10"), b"x" * 1000])))
    _fetching(partner, rig, Unfit, "10 bytes came, 1000 were announced")


def test_other_bytes_of_the_same_length_are_found_out(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"right", serve=answer(200, b"wrong"))
    _fetching(partner, rig, Unfit, "sha256")
    assert rig.part().size == 0


@fault("Sources and destinations", "an error page with status 200", how="HTML in place of a file", shows="not accepted")
def test_an_error_page_with_200_is_no_file(partner: Partner, rig: HttpRig) -> None:
    page = answer(200, b"<h1>Sorry</h1>", Content_Type="text/html; charset=utf-8")
    silent = {"size": None, "sha256": None}
    partner.add("a.csv", b"x", serve=page, listed=silent)
    partner.add("b.html", b"x", serve=page, listed=silent)
    partner.add("c.csv", b"x", serve=page)
    source = rig.partner(partner.url)
    bare, right, announced = source.list()
    failure(Unfit, lambda: rig.take(source, bare), "HTML page")
    assert rig.take(source, right, "2") == b"<h1>Sorry</h1>"
    failure(Unfit, lambda: rig.take(source, announced, "3"), "14 bytes came, 1 were announced")


def test_an_item_that_changed_since_it_was_listed(partner: Partner, rig: HttpRig) -> None:
    offer = partner.add("a.csv", b"old", listed={"size": None, "sha256": None})
    source = rig.partner(partner.url)
    (item,) = source.list()
    offer.data = b"new"
    failure(Unfit, lambda: rig.take(source, item), "changed")
    offer.headers["ETag"] = f"W/{item.version}"
    assert rig.take(source, item) == b"new", "compared weakly: the tag is the same"


@pytest.mark.parametrize(
    "sent",
    [b"hello\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 70_000, b"", _headers(*["a: b"] * 200),
     _headers("Transfer-Encoding: chunked") + b"no\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_away(partner: Partner, rig: HttpRig, sent: bytes) -> None:
    partner.add("a.csv", b"x", serve=raw(lambda _: iter([sent])))
    _fetching(partner, rig, Away)


# Encoded


def _packed(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)  # gzip, without a time
    return b"".join([*(packer.compress(bytes(min(_MIB, size))) for _ in range(max(1, size // _MIB))), packer.flush()])


@fault(
    "Sources and destinations", "a compressed bomb", how="Content-Encoding", shows="left at max_size of decoded bytes"
)
def test_a_bomb_goes_off_within_max_size(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"", serve=answer(200, _packed(300 * _MIB), Content_Encoding="gzip"))
    tracemalloc.start()
    try:
        _fetching(partner, rig, TooLarge, total=20.0, max_size=10 * _MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * _MIB, "unpacked in small pieces"
    finally:
        tracemalloc.stop()
    assert Path(rig.path()).stat().st_size <= 10 * _MIB


def test_a_bomb_for_a_listing(partner: Partner, rig: HttpRig) -> None:
    partner.listing = answer(200, _packed(300 * _MIB), Content_Encoding="gzip")
    failure(Refused, lambda: list(rig.partner(partner.url).list()), "67108864")


def test_a_server_that_encodes_all_the_same(partner: Partner, rig: HttpRig) -> None:
    data = b"hello world " * 1000
    listed = {"size": len(data), "sha256": None}
    partner.add(
        "a.csv", b"", listed=listed, serve=answer(200, gzip.compress(data), Content_Encoding="gzip", ETag='"1"')
    )
    partner.offers["a.csv"].listed["etag"] = '"1"'
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == data
    partner.offers["a.csv"].serve = broken_off(0.5)
    partner.offers["a.csv"].data = gzip.compress(data)
    partner.offers["a.csv"].headers = {"Content-Encoding": "gzip", "ETag": '"1"'}
    failure(Away, lambda: rig.take(source, item, "2"))
    assert rig.part("2").size == 0, "decoded bytes have no place in a range of encoded ones"


def test_a_packed_file_stays_packed(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv.gz", _packed(100), headers={"Content-Encoding": "x-gzip"})
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == _packed(100)


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"x"), ("gzip", b"no gzip"), ("gzip, gzip", b"x"), ("\x01", b"x")]
)
def test_other_encodings_are_unfit(partner: Partner, rig: HttpRig, encoding: str, body: bytes) -> None:
    partner.add("a.csv", b"x", serve=answer(200, body, Content_Encoding=encoding))
    _fetching(partner, rig, Unfit, "encod")
