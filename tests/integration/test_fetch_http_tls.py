"""Connections that end without TLS's closing alert: whether that was their end, or somebody cut them, is told by more."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, RemoteError, Unfit
from inboxd.fetch.http import HttpSource
from support.certificates import Authority
from support.faults import fault
from support.http_rig import HttpRig, failure, ordered
from support.partner import Handler, Offer, Partner, raw, serve_file

_DATA = b"payment\n" * 20_000
_DIGEST = base64.b64encode(hashlib.sha256(_DATA).digest()).decode()
_SILENT = {"size": None, "sha256": None}  # the listing gives nothing to compare it with
_OPEN = "Connection: close"  # a body that ends with the connection, where nothing says its length
_CUT = "hung up after 80000 bytes without TLS's closing alert"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path, "ca")
    made.certify("server")
    return made


@pytest.fixture
def partner(authority: Authority) -> Iterator[Partner]:
    """With TLS; its connections end without an alert if not said otherwise, for Python's own servers send none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = authority.file.parent
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with Partner(tls=context) as one:
        yield one


@pytest.fixture
def source(partner: Partner, rig: HttpRig, authority: Authority) -> HttpSource:
    return rig.partner(partner.url, authority=str(authority.file))


def _sends(body: bytes, *lines: str) -> Callable[..., None]:
    """A body as it is, and the end of its connection."""

    def serve(handler: Handler, offer: Offer) -> None:
        raw([_head(200, f"ETag: {offer.etag}", *lines), body])(handler)

    return serve


def _head(status: int, *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} x", *lines, "", "")).encode()


def _alerting(serve: Callable[..., None]) -> Callable[..., None]:
    """The same, with TLS's closing alert after it."""

    def both(handler: Handler, *rest: Any) -> None:
        serve(handler, *rest)
        with contextlib.suppress(OSError):  # the other side answers with none
            handler.connection.unwrap()  # type: ignore[attr-defined]

    return both


def _charged(source: HttpSource, rig: HttpRig, kind: type[RemoteError], words: str) -> None:
    """What becomes of its item at the second try."""
    (item,) = source.list()
    failure(kind, lambda: source.fetch(ordered(item)._replace(attempt=2), rig.part()), words)


def test_a_closing_alert_ends_a_body(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    partner.add("a.csv", _DATA, listed=_SILENT, serve=_alerting(_sends(_DATA, _OPEN)))
    (item,) = source.list()
    assert rig.take(source, item) == _DATA


@fault("Sources and destinations", "a body without a length is cut off", how="TLS ends without its closing alert",
       shows="not accepted; from the second try on it is laid to the item")  # fmt: skip
def test_without_one_nobody_knows(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    partner.add("a.csv", _DATA, listed=_SILENT, serve=_sends(_DATA[:80_000], _OPEN))
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), _CUT)
    _charged(source, rig, Unfit, "hung up")


def test_an_option_that_python_may_set_changes_nothing(
    partner: Partner, rig: HttpRig, source: HttpSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lenient(**values: Any) -> ssl.SSLContext:
        context = default(**values)
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # as Python 3.11.2 does
        return context

    default = ssl.create_default_context
    monkeypatch.setattr("inboxd.fetch.web.ssl.create_default_context", lenient)
    partner.add("a.csv", _DATA, listed=_SILENT, serve=_sends(_DATA[:80_000], _OPEN))
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), _CUT)


def test_what_came_before_the_cut_is_gone_on_from(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    partner.add("a.csv", _DATA, listed=_SILENT, serve=_sends(_DATA[:80_000], _OPEN))
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), _CUT)
    partner.offers["a.csv"].serve = None
    assert rig.take(source, item) == _DATA
    assert partner.log("/files")[-1].headers["Range"] == "bytes=80000-"


@pytest.mark.parametrize(
    ("listed", "line"),
    [({"sha256": None}, ""), ({"size": None}, ""),
     (_SILENT, f"Repr-Digest: sha-256=:{_DIGEST}:")],
)  # fmt: skip
def test_a_size_or_digest_tells_as_well(
    partner: Partner, rig: HttpRig, source: HttpSource, listed: dict[str, Any], line: str
) -> None:
    lines = [_OPEN, *filter(None, [line])]
    offer = partner.add("a.csv", _DATA, listed=listed, serve=_sends(_DATA, *lines))
    (item,) = source.list()
    assert rig.take(source, item) == _DATA
    offer.serve = _sends(_DATA[:80_000], *lines)
    words = _CUT if item.size else "sha256 is .* was announced"
    failure(Away if item.size else Unfit, lambda: rig.take(source, item, "2"), words)


def test_a_range_tells_as_well(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    def serve(handler: Handler, offer: Offer) -> None:
        first = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"Content-Range: bytes {first}-{len(_DATA) - 1}/{len(_DATA)}"
        raw([_head(206, f"ETag: {offer.etag}", span, _OPEN), _DATA[first : first + 50_000]])(handler)

    offer = partner.add("a.csv", _DATA, listed=_SILENT, serve=serve)
    part = rig.part()
    part.restart(offer.etag)
    part.write(_DATA[:80_000])
    part.close()
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), "ended it after 130000 of 160000 bytes")
    assert rig.take(source, item) == _DATA


@pytest.mark.parametrize(
    ("body", "line"),
    [(_DATA, f"Content-Length: {len(_DATA)}"), (b"%x\r\n%s\r\n0\r\n\r\n" % (len(_DATA), _DATA), "Transfer-Encoding: chunked")],
    ids=["length", "chunks"],
)  # fmt: skip
def test_a_body_with_an_end_of_its_own_needs_none(
    partner: Partner, rig: HttpRig, source: HttpSource, body: bytes, line: str
) -> None:
    offer = partner.add("a.csv", _DATA, listed=_SILENT, serve=_sends(body, line))
    (item,) = source.list()
    assert rig.take(source, item) == _DATA
    offer.serve = _sends(body[:80_000], line)
    failure(Away, lambda: rig.take(source, item, "2"), "broke off after")
    _charged(source, rig, Away, "broke off after")


def test_a_listing_that_may_be_cut_off_is_none(partner: Partner, source: HttpSource) -> None:
    listing = raw([_head(200, _OPEN), b'{"files": [], "links": {}}'])
    partner.listing = listing
    failure(Away, lambda: list(source.list()), "hung up after 26 bytes")
    partner.listing = _alerting(listing)
    assert list(source.list()) == []


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"])
@pytest.mark.parametrize("with_alert", [True, False])
def test_a_head_has_an_end_of_its_own(
    partner: Partner, rig: HttpRig, source: HttpSource, head: bytes, with_alert: bool
) -> None:
    cut = _alerting(raw([head])) if with_alert else raw([head])
    partner.add("a.csv", _DATA, listed=_SILENT, serve=cut)
    partner.acking = cut
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item, "2"), "it hung up in the middle of its answer")
    failure(Away, lambda: source.ack(ordered(item)), "it hung up in the middle of its answer")
    assert partner.acked() == ["a.csv"]


# Between two requests


def test_a_connection_that_ended_meanwhile_is_made_again(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    has_ended = threading.Event()

    def serve(handler: Handler, offer: Offer) -> None:
        serve_file(handler, offer)  # which says nothing of an end
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        has_ended.set()

    partner.add("a.csv", _DATA, serve=serve)
    (item,) = source.list()
    for number in range(4):
        has_ended.clear()
        assert rig.take(source, item, str(number)) == _DATA
        assert has_ended.wait(10)
    source.ack(ordered(item))
    assert partner.acked() == ["a.csv"]
    assert len(partner.log()) == 6, "none of them was said twice"


def test_one_that_ends_in_place_of_an_answer_is_made_again(partner: Partner, rig: HttpRig, source: HttpSource) -> None:
    times: list[int] = []

    def serve(handler: Handler, offer: Offer) -> None:
        times.append(1)
        if len(times) > 1:
            serve_file(handler, offer)
        handler.close_connection = True  # without a reset, for all that was sent has been read

    partner.add("a.csv", _DATA, serve=serve)
    (item,) = source.list()
    assert rig.take(source, item) == _DATA
    assert len(times) == 2


def test_an_ack_without_an_answer_is_not_said_twice(partner: Partner, source: HttpSource) -> None:
    partner.add("a.csv", _DATA)
    (item,) = source.list()
    partner.acking = lambda handler, _: setattr(handler, "close_connection", True)
    failure(Away, lambda: source.ack(ordered(item)), "it was closed without an answer")
    assert partner.acked() == ["a.csv"]
