"""A partner with an outbox on HTTP: lists, serves and takes acknowledgements, and can be told to do it badly.

    with Partner() as partner:
        partner.add("a.csv", b"...")
        ...                               # a source reads partner.url + "/api/outbox", as `acme` with partner.password
        assert partner.acked() == ["a.csv"]

By itself: `python tests/support/partner.py --port 0 --folder DIR [--log FILE]` serves the files of DIR, those that come later, too, and
prints its URL.
Everything it is asked stands in `log()`, with the time, so that tests can prove an order.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

USER = "acme"
PASSWORD = "canary-p4ss-Xq7"  # must never be seen in a message, a log or a row
ITEMS = "files[].{id: id, name: name, url: links.self, size: size, sha256: sha256, version: etag}"


class Asked(NamedTuple):
    """One request, as it was answered."""

    at: float  # seconds since 1970
    method: str
    path: str
    status: int
    headers: dict[str, str]  # names Written-Like-This
    body: bytes


@dataclass
class Offer:
    """One item of the outbox. What is listed of it can be changed, and so can the way it is served."""

    id: str
    name: str
    data: bytes
    listed: dict[str, Any] = field(default_factory=dict)  # laid over what the listing says of it; None removes a key
    headers: dict[str, str] = field(default_factory=dict)  # laid over those of its body
    serve: Callable[[Handler, Offer], None] | None = None  # a fault of below, or anything else
    changed: float = field(default_factory=lambda: time.time() - 3600)

    @property
    def etag(self) -> str:
        """Strong."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:16]}"'


class Partner:
    """The server, in a thread. All that it offers may be changed while it runs."""

    def __init__(self, port: int = 0, log: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.offers: dict[str, Offer] = {}
        self.password = PASSWORD
        self.page_size = 0  # items; 0: all in one page, with no next link
        self.listing: Callable[[Handler], None] | None = None  # serves /api/outbox instead
        self.acking: Callable[[Handler, str], None] | None = None  # answers an ack that is recorded already
        self.guarded = True
        self._log: list[Asked] = []
        self._acked: list[str] = []
        self._file = log
        self._lock = threading.Lock()
        self.ending = threading.Event()
        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.partner = self
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Partner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, data: bytes, id: str = "", **values: Any) -> Offer:
        """Offer one more; its id is its name if not said otherwise."""
        offer = Offer(id or name, name, data, **values)
        self.offers[offer.id] = offer
        return offer

    def log(self, path: str = "") -> list[Asked]:
        """What was asked so far, in its order; only of paths that begin so."""
        with self._lock:
            return [asked for asked in self._log if asked.path.startswith(path)]

    def acked(self) -> list[str]:
        """The ids that were acknowledged, in their order, and as often as they were."""
        with self._lock:
            return list(self._acked)

    def note(self, asked: Asked) -> None:
        """Remember it."""
        with self._lock:
            self._log.append(asked)
            if self._file:
                with self._file.open("a") as stream:
                    stream.write(json.dumps([asked.at, asked.method, asked.path, asked.status]) + "\n")

    def record(self, id: str) -> None:
        """It was acknowledged."""
        with self._lock:
            self._acked.append(id)


class _Server(ThreadingHTTPServer):
    partner: Partner
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side hung up: that is what many of the tests want."""


class Handler(BaseHTTPRequestHandler):
    """One connection. `send` and `begin` are for faults, too."""

    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60
    disable_nagle_algorithm = True  # else the second write of each answer waits 40 ms for an acknowledgement (tcp(7))

    @property
    def partner(self) -> Partner:
        """Whose it is."""
        return self.server.partner

    def log_message(self, *_: object) -> None:
        """partner.log() has it."""

    def do_GET(self) -> None:
        """The listing, or an item."""
        self.body = b""
        path = urlsplit(self.path).path
        if not self._is_known():
            return
        if path == "/api/outbox":
            (self.partner.listing or serve_listing)(self)
        elif path.startswith("/files/"):
            self._file(unquote(path.removeprefix("/files/")))
        else:
            self.send(404)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self) -> None:
        """An acknowledgement."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._is_known():
            return
        parts = urlsplit(self.path).path.split("/")
        if parts[:3] != ["", "api", "outbox"] or parts[4:] != ["ack"] or unquote(parts[3]) not in self.partner.offers:
            self.send(404)
            return
        id = unquote(parts[3])
        self.partner.record(id)
        if self.partner.acking:
            self.partner.acking(self, id)
        else:
            self.send(200, b'{"ok": true}', **{"Content-Type": "application/json"})

    def _is_known(self) -> bool:
        pair = base64.b64encode(f"{USER}:{self.partner.password}".encode()).decode()
        if self.partner.guarded and self.headers.get("Authorization") != f"Basic {pair}":
            self.send(401, b"who are you?", **{"WWW-Authenticate": "Basic"})
            return False
        return True

    def _file(self, id: str) -> None:
        offer = self.partner.offers.get(id)
        if offer is None:
            self.send(404)
        else:
            (offer.serve or serve_file)(self, offer)

    def note(self, status: int) -> None:
        """For partner.log()."""
        headers = {name.title(): value for name, value in self.headers.items()}
        self.partner.note(Asked(time.time(), self.command, self.path, status, headers, self.body))

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers; what follows is yours to write to `wfile`."""
        self.note(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.begin(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        """With a reset, not an end (SO_LINGER of socket(7))."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def serve_listing(handler: Handler) -> None:
    """All items, or the page that ?page= names."""
    partner = handler.partner
    offers = list(partner.offers.values())
    number = int(parse_qs(urlsplit(handler.path).query).get("page", ["1"])[0])
    following = None
    if partner.page_size:
        first = (number - 1) * partner.page_size
        following = f"/api/outbox?page={number + 1}" if first + partner.page_size < len(offers) else None
        offers = offers[first : first + partner.page_size]
    document = {"files": [_listed(offer) for offer in offers], "links": {"next": following}}
    handler.send(200, json.dumps(document).encode(), **{"Content-Type": "application/json"})


def _listed(offer: Offer) -> dict[str, Any]:
    told = {
        "id": offer.id, "name": offer.name, "size": len(offer.data), "etag": offer.etag,
        "sha256": hashlib.sha256(offer.data).hexdigest(), "links": {"self": f"/files/{quote(offer.id, safe='')}"},
    }  # fmt: skip
    return {key: value for key, value in {**told, **offer.listed}.items() if value is not None}


def serve_file(handler: Handler, offer: Offer) -> None:
    """Its bytes, or those of the range that is asked for."""
    data, status = offer.data, 200
    headers = {
        "ETag": offer.etag, "Last-Modified": formatdate(offer.changed, usegmt=True), "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }  # fmt: skip
    headers.update(offer.headers)
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range", headers["ETag"]) in (headers["ETag"], headers["Last-Modified"]):
        first = int(wanted.removeprefix("bytes=").partition("-")[0])
        if first >= len(data):
            handler.send(416, b"", **{"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        data, status = data[first:], 206
    handler.send(status, data, **headers)


# Faults: what `Offer.serve` may be


def drip(every: float = 0.05) -> Callable[[Handler, Offer], None]:
    """One byte now and then."""

    def serve(handler: Handler, offer: Offer) -> None:
        handler.begin(200, {"Content-Length": str(len(offer.data)), "ETag": offer.etag})
        for byte in offer.data:
            handler.wfile.write(bytes([byte]))
            if handler.partner.ending.wait(every):
                return

    return serve


def raw(pieces: Iterator[bytes] | Callable[[Handler], Iterator[bytes]], every: float = 0.0) -> Callable[..., None]:
    """Exactly these bytes on the wire, status line and all; then the connection ends."""

    def serve(handler: Handler, *_: Any) -> None:
        handler.note(0)
        handler.close_connection = True
        for piece in pieces(handler) if callable(pieces) else pieces:
            handler.wfile.write(piece)
            if every and handler.partner.ending.wait(every):
                return

    return serve


def endless(handler: Handler, offer: Offer) -> None:
    """A body without a length that never ends."""
    handler.begin(200, {"Connection": "close"})
    handler.close_connection = True
    while not handler.partner.ending.is_set():
        handler.wfile.write(b"x" * 65536)


def broken_off(share: float = 0.99, *, reset: bool = True, times: int = 1) -> Callable[[Handler, Offer], None]:
    """A reset, or a silent end, after this share of the body; after `times` times all is well."""
    left = [times]

    def serve(handler: Handler, offer: Offer) -> None:
        if left[0] <= 0:
            serve_file(handler, offer)
            return
        left[0] -= 1
        headers = {"Content-Length": str(len(offer.data)), "ETag": offer.etag, **offer.headers}
        handler.begin(200, headers)
        handler.wfile.write(offer.data[: int(len(offer.data) * share)])
        if reset:
            handler.partner.ending.wait(0.1)  # a reset that overtakes them would destroy the bytes before it
            handler.hang_up()
        handler.close_connection = True

    return serve


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[..., None]:
    """Always this; `_` in names of headers means `-`."""

    def serve(handler: Handler, *_: Any) -> None:
        handler.send(status, body, **{name.replace("_", "-"): value for name, value in headers.items()})

    return serve


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield listener.getsockname()[1]


def main() -> None:
    """Serve what lies in a folder, and what is put there later, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--password", default=PASSWORD)
    chosen = parser.parse_args()
    with Partner(chosen.port, chosen.log) as partner:
        partner.password = chosen.password
        for turn in itertools.count():
            for path in sorted(chosen.folder.iterdir()):
                if path.name not in partner.offers and not path.name.startswith("."):
                    partner.add(path.name, path.read_bytes())
            if turn == 0:
                print(partner.url, flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    main()
