"""A server that takes results on HTTP, writes down what it was sent, and can be told to do it badly.

with Receiver() as receiver:
    ...                                  # a destination sends to receiver.url + "/in/NAME"
    assert receiver.taken() == [b"..."]
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_READ = 64 * 1024  # bytes


class Sent(NamedTuple):
    """One request, with as much of its body as was read."""

    method: str
    path: str
    headers: dict[str, str]  # names Written-Like-This
    body: bytes
    port: int  # the other side's: the same for requests of one connection


class Receiver:
    """The server, in a thread. `take` serves a request; it may be changed while the server runs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.take: Callable[[Taking], None] = accept()
        self.ending = threading.Event()
        self._sent: list[Sent] = []
        self._server = _Server(("127.0.0.1", 0), Taking)
        self._server.receiver = self
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Of the loopback address."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def log(self) -> list[Sent]:
        """All requests so far, in their order."""
        return list(self._sent)

    def taken(self) -> list[bytes]:
        """Their bodies."""
        return [one.body for one in self._sent]

    def note(self, sent: Sent) -> None:
        """Remember it."""
        self._sent.append(sent)


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side hung up: that is what many of the tests want."""


class Taking(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60
    disable_nagle_algorithm = True  # else each answer in two writes takes 40 ms (tcp(7))

    @property
    def receiver(self) -> Receiver:
        """Whose it is."""
        return self.server.receiver

    def log_message(self, *_: object) -> None:
        """receiver.log() has it."""

    def do_PUT(self) -> None:
        """A result, or the look at whether one could be sent."""
        self.receiver.take(self)

    do_POST = do_HEAD = do_PUT  # noqa: N815 - the library's names

    def read(self, most: int | None = None) -> bytes:
        """The body, or its first `most` bytes."""
        left = int(self.headers.get("Content-Length") or 0)
        left, found = left if most is None else min(most, left), []
        while left and (data := self.rfile.read1(min(left, _READ))):
            found.append(data)
            left -= len(data)
        return b"".join(found)

    def note(self, body: bytes) -> None:
        """For receiver.log()."""
        headers = {name.title(): value for name, value in self.headers.items()}
        self.receiver.note(Sent(self.command, self.path, headers, body, self.client_address[1]))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer, written at once."""
        lines = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
        head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        self.wfile.write(head.encode() + b"\r\n" + (b"" if self.command == "HEAD" else body))

    def hang_up(self) -> None:
        """With a reset, not an end (SO_LINGER of socket(7))."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


# What `take` may be


def accept(status: int = 201, body: bytes = b"", **headers: str) -> Callable[[Taking], None]:
    """Take all of it, and answer so."""

    def take(taking: Taking) -> None:
        taking.note(taking.read())
        taking.answer(status, body, **headers)

    return take


def refuse(status: int, after: int = 0, *, hang_up: bool = True) -> Callable[[Taking], None]:
    """Answer after so many bytes, and read no more; then hang up, or sit there."""

    def take(taking: Taking) -> None:
        taking.note(taking.read(after))
        taking.answer(status, b"no", Connection="close")
        taking.close_connection = True
        if not hang_up:
            taking.receiver.ending.wait(30)

    return take


def lose_the_answer(taking: Taking) -> None:
    """Take all of it, and hang up without a word."""
    taking.note(taking.read())
    taking.hang_up()


def break_off(after: int) -> Callable[[Taking], None]:
    """A reset after so many bytes."""

    def take(taking: Taking) -> None:
        taking.note(taking.read(after))
        taking.hang_up()

    return take


def stall(after: int) -> Callable[[Taking], None]:
    """Take so many bytes, then nothing, and say nothing."""

    def take(taking: Taking) -> None:
        taking.note(taking.read(after))
        taking.receiver.ending.wait(60)
        taking.close_connection = True

    return take


def dawdle(taking: Taking) -> None:
    """Take a little now and then."""
    with contextlib.suppress(OSError):
        while taking.read(2048) and not taking.receiver.ending.wait(0.02):
            pass
    taking.close_connection = True
