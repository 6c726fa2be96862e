"""Bodies that end before their end, and look whole: to the framing of HTTP all is well, or there is none."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Unfit
from support.faults import fault
from support.http_rig import HttpRig, failure, ordered
from support.partner import Handler, Offer, Partner, answer, raw, serve_file

_DATA = b"".join(b"%d,payment,%d\n" % (number, number * 7919 % 100_000) for number in range(20_000))
_SILENT = {"size": None, "sha256": None}  # the listing gives nothing to compare it with


def _chunked(body: bytes, *lines: str) -> Any:
    """An answer in chunks, which end as they should."""
    head = "\r\n".join(("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *lines, "", "")).encode()
    blocks = [body[first : first + 10_000] for first in range(0, len(body), 10_000)]
    return raw([head, *(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks), b"0\r\n\r\n"])


# The head

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n"
_HEADS = {
    "in its status": b"HTTP/1.1 200 O", "after its status": b"HTTP/1.1 200 OK\r\n", "in a name": _HEAD[:-20], "in a value": _HEAD[:-6],
    "in its last line": _HEAD[:-1], "before its last line": _HEAD[:-2], "after an interim one": b"HTTP/1.1 100 Continue\r\n\r\n",
}  # fmt: skip
_IN_THE_MIDDLE = "it hung up in the middle of its answer"


@fault("Sources and destinations", "the head of an answer is cut off", how="in any of its lines", shows="not accepted")
@pytest.mark.parametrize("where", _HEADS)
def test_a_head_that_is_cut_off_is_no_empty_file(partner: Partner, rig: HttpRig, where: str) -> None:
    partner.add("a.csv", _DATA, listed=_SILENT, serve=raw([_HEADS[where]]))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), _IN_THE_MIDDLE)
    assert len(partner.log("/files")) == 3, "as one that has not answered at all"
    partner.offers["a.csv"].serve = raw([_HEAD])
    assert rig.take(source, item) == b"", "all of it has come"


@pytest.mark.parametrize("form", ["json", "index", "file"])
def test_nor_is_it_a_listing(partner: Partner, rig: HttpRig, form: str) -> None:
    partner.listing = raw([b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: "1"\r\n'])
    source = rig.partner(partner.url, form=form, items=None, next=None)
    failure(Away, lambda: list(source.list()), _IN_THE_MIDDLE)


def test_wherever_it_is_cut_an_ack_was_not_heard(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", _DATA)
    source = rig.partner(partner.url)
    (item,) = source.list()
    for length in range(len(_HEAD)):
        partner.acking = raw([_HEAD[:length]])
        words = _IN_THE_MIDDLE if length else "it was closed without an answer"
        failure(Away, lambda: source.ack(ordered(item)), words)
    assert partner.acked() == ["a.csv"] * len(_HEAD), "none was said twice"
    partner.acking = raw([_HEAD])
    source.ack(ordered(item))


# Chunks


@pytest.mark.parametrize("padding", [b"", b"000"])
def test_the_length_of_a_chunk_that_is_cut_off_is_not_the_last(partner: Partner, rig: HttpRig, padding: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [head, b"%s5\r\nhello\r\n" % padding, b"0" + padding]
    partner.add("a.csv", _DATA, listed=_SILENT, serve=raw(pieces))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), "broke off after 5 bytes")
    for end in (b"\r\n", b"\r\n\r\n", b"\r\nx: y\r\n\r\n"):
        partner.offers["a.csv"].serve = raw([*pieces, end])
        assert rig.take(source, item) == b"hello"


# Encoded

_GZIP, _ZLIB = gzip.compress(_DATA), zlib.compress(_DATA)
_CUT = {
    "half of a gzip": ("gzip", _GZIP[: len(_GZIP) // 2], "ends before its gzip does"),
    "a gzip without its checksum": ("gzip", _GZIP[:-8], "ends before its gzip does"),
    "nothing": ("gzip", b"", "ends before its gzip does"),
    "half of a second member": ("gzip", _GZIP + _GZIP[: len(_GZIP) // 2], "ends before its gzip does"),
    "a broken second member": ("gzip", _GZIP + _GZIP[:5] + b"\xff" * 100, "not encoded as it says"),
    "an error page after it": ("gzip", _GZIP + b"<h1>502</h1>", "not encoded as it says"),
    "half of a deflate": ("deflate", _ZLIB[: len(_ZLIB) // 2], "ends before its deflate does"),
    "half of a raw deflate": ("deflate", _ZLIB[2 : len(_ZLIB) // 2], "ends before its deflate does"),
    "something after a deflate": ("deflate", _ZLIB + b"<h1>502</h1>", "goes on after its deflate has ended"),
}


@fault("Sources and destinations", "a compressed body is cut off", how="its framing is whole", shows="not accepted")
@pytest.mark.parametrize("what", _CUT)
@pytest.mark.parametrize("chunked", [False, True])
def test_an_encoded_body_has_an_end_of_its_own(partner: Partner, rig: HttpRig, what: str, chunked: bool) -> None:
    encoding, body, words = _CUT[what]
    said = _chunked(body, f"Content-Encoding: {encoding}") if chunked else answer(200, body, Content_Encoding=encoding)
    partner.add("a.csv", _DATA, listed=_SILENT, serve=said)
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), words)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", _GZIP), ("X-GZip", _GZIP), ("gzip", gzip.compress(_DATA[:999]) + gzip.compress(_DATA[999:]) + bytes(512)),
     ("deflate", _ZLIB), ("deflate", _ZLIB[2:-4])],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_a_whole_one_is_taken(partner: Partner, rig: HttpRig, encoding: str, body: bytes, chunked: bool) -> None:
    said = _chunked(body, f"Content-Encoding: {encoding}") if chunked else answer(200, body, Content_Encoding=encoding)
    partner.add("a.csv", _DATA, listed=_SILENT, serve=said)
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == _DATA


def test_a_connection_that_breaks_off_is_told_of_as_such(partner: Partner, rig: HttpRig) -> None:
    said = answer(200, _GZIP[: len(_GZIP) // 2], Content_Encoding="gzip", Content_Length=str(len(_GZIP)),
                  Connection="close")  # fmt: skip
    partner.add("a.csv", _DATA, listed=_SILENT, serve=said)
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), f"broke off after {len(_GZIP) // 2} of {len(_GZIP)} bytes")


@pytest.mark.parametrize("form", ["json", "index"])
def test_a_listing_is_no_different(partner: Partner, rig: HttpRig, form: str) -> None:
    ids = [f"{number}.csv" for number in range(1000)]
    page = "".join(f'<a href="{one}">{one}</a>\n' for one in ids).encode()
    listing = json.dumps([{"id": one, "url": f"/files/{one}"} for one in ids]).encode() if form == "json" else page
    kind = "text/html" if form == "index" else "application/json"
    source = rig.partner(partner.url, form=form, items=None, next=None)
    body = gzip.compress(listing)
    partner.listing = answer(200, body, Content_Encoding="gzip", Content_Type=kind)
    assert [item.name for item in source.list()] == ids
    partner.listing = answer(200, body[:-8], Content_Encoding="gzip", Content_Type=kind)
    failure(Unfit, lambda: list(source.list()), "ends before its gzip does")


# Ranges

_BEGUN = 50_000  # bytes that an earlier try has left


def _ranged(rig: HttpRig, partner: Partner, body: bytes, *lines: str, last: int = len(_DATA) - 1) -> tuple[Any, Any]:
    """A source and its item, half of which is here; the rest of it is answered for by `body`."""
    span = f"Content-Range: bytes {_BEGUN}-{last}/{len(_DATA)}"

    def serve(handler: Handler, offer: Offer) -> None:
        if handler.headers.get("Range"):
            head = "\r\n".join(("HTTP/1.1 206 Partial Content", f"ETag: {offer.etag}", span, *lines, "", ""))
            raw([head.encode(), body])(handler)
        else:
            serve_file(handler, offer)

    offer = partner.add("a.csv", _DATA, listed=_SILENT, serve=serve)
    part = rig.part()
    part.restart(offer.etag)
    part.write(_DATA[:_BEGUN])
    part.close()
    source = rig.partner(partner.url)
    (item,) = source.list()
    return source, item


def _chunk(data: bytes) -> bytes:
    return (b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"


_FRAMINGS = {"chunked": (_chunk, "Transfer-Encoding: chunked"), "by its connection": (bytes, "Connection: close")}


@fault(
    "Sources and destinations", "the rest of a file is cut off", how="a range without a length", shows="gone on from"
)
@pytest.mark.parametrize("framing", _FRAMINGS)
def test_a_range_ends_where_it_says(partner: Partner, rig: HttpRig, framing: str) -> None:
    framed, line = _FRAMINGS[framing]
    source, item = _ranged(rig, partner, framed(_DATA[_BEGUN:70_000]), line)
    failure(Away, lambda: rig.take(source, item), f"ended it after 70000 of {len(_DATA)} bytes")
    partner.offers["a.csv"].serve = None
    assert rig.take(source, item) == _DATA
    assert partner.log("/files")[-1].headers["Range"] == "bytes=70000-", "what came was good"


@pytest.mark.parametrize("framing", _FRAMINGS)
def test_a_range_that_is_all_of_the_rest_is_taken(partner: Partner, rig: HttpRig, framing: str) -> None:
    framed, line = _FRAMINGS[framing]
    source, item = _ranged(rig, partner, framed(_DATA[_BEGUN:]), line)
    assert rig.take(source, item) == _DATA
    assert len(partner.log("/files")) == 1


@pytest.mark.parametrize("framing", _FRAMINGS)
def test_a_range_that_brings_nothing_is_charged(partner: Partner, rig: HttpRig, framing: str) -> None:
    framed, line = _FRAMINGS[framing]
    source, item = _ranged(rig, partner, framed(b""), line)
    failure(Unfit, lambda: rig.take(source, item), f"gives no more than {_BEGUN}")


@pytest.mark.parametrize("framing", _FRAMINGS)
def test_a_range_goes_no_further_than_it_says(partner: Partner, rig: HttpRig, framing: str) -> None:
    framed, line = _FRAMINGS[framing]
    source, item = _ranged(rig, partner, framed(_DATA[_BEGUN - 1 :]), line)
    failure(Unfit, lambda: rig.take(source, item), f"more came than the {len(_DATA)} bytes that it has")
    assert rig.part().size == 0, "nobody knows which of them are right"
    assert rig.take(source, item) == _DATA


@pytest.mark.parametrize("framing", [*_FRAMINGS, "with a length"])
def test_a_server_that_gives_less_than_asked_for_is_asked_for_all_of_it(
    partner: Partner, rig: HttpRig, framing: str
) -> None:
    framed, line = {**_FRAMINGS, "with a length": (bytes, "Content-Length: 20000")}[framing]
    source, item = _ranged(rig, partner, framed(_DATA[_BEGUN:70_000]), line, last=69_999)
    assert rig.take(source, item) == _DATA
    assert len(partner.log("/files")) == 2
