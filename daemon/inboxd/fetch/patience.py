"""Sockets that keep to a deadline. A library's timeout starts anew with every byte; ours is looked at before each read.

So one byte a second, be it of the headers, of a chunk's length or of the body, holds nobody longer than `total`. The
same holds for what we send. A server that says no in the middle of it is not sent the rest. And to a library the end of
a connection is the end of whatever it reads; to ours it is none of a line, or of an answer's head.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from inboxd.fetch.framing import length_of, marked


class _Patience(NamedTuple):
    idle: float  # seconds
    deadline: float  # monotonic seconds


_USUAL = 60.0  # seconds for a byte, where nobody has said otherwise
_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patient(idle: float, deadline: float) -> Iterator[None]:
    """What this thread reads meanwhile waits `idle` seconds for a byte, and no longer than until `deadline`."""
    token = _patience.set(_Patience(idle, deadline))
    try:
        yield
    finally:
        _patience.reset(token)


@contextlib.contextmanager
def hurried(seconds: float) -> Iterator[None]:
    """What is read in here, within patient(), takes no longer than that altogether."""
    idle, deadline = _patience.get() or (seconds, math.inf)
    with patient(min(idle, seconds), min(deadline, time.monotonic() + seconds)):
        yield


def _limit(one: socket.socket) -> None:
    if _patience.get() is not None:
        one.settimeout(_left())


def _left() -> float:
    """Seconds that the next byte may take."""
    patience = _patience.get()
    if patience is None:
        return _USUAL
    left = patience.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the total time is over")
    return min(patience.idle, left)


_NO = re.compile(rb"HTTP/1\.[01] [345]")  # of an answer that comes before we are done; a yes can wait until we are
_EARLY = 64 * 1024  # bytes read of one
_INTERIM = {*range(100, 200)} - {101}  # the final answer comes after it (RFC 9110, 15.2); http.client knows 100 alone
_MOST_HEADS = 1000  # of one answer: who works for long may say so again and again (102)
_BROKEN = (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_LENIENT = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # of OpenSSL 3; Python 3.11.2 sets it
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Unannounced(ConnectionResetError):
    """A connection ended without TLS's closing alert: anybody on its way may have ended it (RFC 9112, 9.8)."""


class CutOff(ConnectionResetError):
    """A connection ended in the middle of an answer's head, or of a line."""


class Undecided(ConnectionError):
    """Interim answers came, and no final one."""


def is_unannounced(error: ssl.SSLError) -> bool:
    """That is what it says; in Python 3.11.2 by its reason alone."""
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


class _PlainSocket(socket.socket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)

    def sendall(self, data: Any, flags: int = 0) -> None:
        left = memoryview(data).cast("B")
        while left:
            with _at_once(self):
                _wait_to_send(self, self._is_refused)
                sent = _tried(super().send, left)
            left = left[sent:]

    def _is_refused(self) -> bool:
        try:
            early = super().recv(16, socket.MSG_PEEK)
        except _NOT_NOW:
            return False
        return not early or _NO.match(early) is not None


class _SecureSocket(ssl.SSLSocket):
    _early = b""  # what was read while we were still sending

    def do_handshake(self, block: bool = False) -> None:
        """Called once, before anything is read."""
        self.suppress_ragged_eofs = False  # it would give an end without the closing alert as a good one
        super().do_handshake(block)

    def recv_into(self, buffer: Any = None, nbytes: int | None = None, flags: int = 0) -> int:
        if self._early:
            count = min(len(self._early), nbytes or len(buffer))
            buffer[:count], self._early = self._early[:count], self._early[count:]
            return count
        _limit(self)
        try:
            return super().recv_into(buffer, nbytes, flags)
        except ssl.SSLError as error:
            if not is_unannounced(error):
                raise
        raise Unannounced("it hung up")  # not from within: as an error of TLS itself it would be told of

    def send(self, data: Any, flags: int = 0) -> int:
        with _at_once(self):
            while True:
                _wait_to_send(self, self._is_refused)
                if sent := _tried(super().send, data):
                    return sent

    def _is_refused(self) -> bool:
        """What can be read may also be the protocol's own, such as tickets of TLS 1.3."""
        try:
            found = b"" if self._early else self.read(_EARLY)
        except _NOT_NOW:
            return False
        except ssl.SSLError as error:
            if not is_unannounced(error):
                raise
            found = b""
        self._early += found
        return not self._early or _NO.match(self._early) is not None


@contextlib.contextmanager
def _at_once(one: socket.socket) -> Iterator[None]:
    """What is asked of the socket in here waits for nothing."""
    timeout = one.gettimeout()
    one.settimeout(0.0)
    try:
        yield
    finally:
        one.settimeout(timeout)


def _wait_to_send(one: socket.socket, is_refused: Callable[[], bool]) -> None:
    """Raises TimeoutError; BrokenPipeError when the server has said no or hung up, which makes urllib3 read on."""
    wanted = select.POLLIN | select.POLLOUT
    while True:
        poll = select.poll()
        poll.register(one, wanted)
        found = dict(poll.poll(_left() * 1000)).get(one.fileno(), 0)
        if not found:
            raise TimeoutError("it took nothing for too long")
        if found & ~select.POLLOUT and is_refused():
            raise BrokenPipeError("the server has answered already")
        if found & ~select.POLLIN:  # an error, too, is for send(2) to tell
            return
        if found & select.POLLIN:
            wanted &= ~select.POLLIN  # an early yes: nothing more to look at


def _tried(send: Callable[[Any], int], data: Any) -> int:
    """Bytes that went. A reset hides what the server said before it: that is still to be read."""
    try:
        return send(data)
    except _NOT_NOW:
        return 0
    except _BROKEN as error:
        raise BrokenPipeError("it was reset") from error


class _Reader(io.BufferedReader):
    """What http.client reads an answer from."""

    is_in_head = False
    _begins = True  # the next line is a status
    _is_alone = True  # the next line can't go on with the one before
    _heads = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        """Raises CutOff. After chunks the empty line may be missing: it says nothing, and some servers forget it."""
        line = super().readline(size)
        if not line.endswith(b"\n"):
            if len(line) != size and (line or self.is_in_head):
                raise CutOff("it hung up")
            return line
        return self._of_head(line) if self.is_in_head else line

    def _of_head(self, line: bytes) -> bytes:
        begins, self._begins = self._begins, line in (b"\r\n", b"\n")
        if not begins:
            told = marked(line, is_alone=self._is_alone)
            self._is_alone = told is not line
            return told
        self._is_alone = True
        self._heads += 1
        if self._heads > _MOST_HEADS:
            raise Undecided(f"sent {_MOST_HEADS} interim answers, and no final one")
        return line


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = self._reader = _Reader(self.fp.detach())

    def begin(self) -> None:
        """Called by http.client, to read the head. Raises CutOff, Undecided."""
        self._reader.is_in_head = bool(self._reader.peek())  # of no answer at all http.client tells
        try:
            super().begin()
            while self.status in _INTERIM:
                self.headers = None  # type: ignore[assignment]  # so that http.client reads the next one
                super().begin()
        except Unannounced:
            raise CutOff("it hung up") from None
        self._reader.is_in_head = False
        if self.chunked:
            self._see_codings([value.lower() for value in self.headers.get_all("Transfer-Encoding", [])])
        else:
            self._see_lengths(", ".join(self.headers.get_all("Content-Length", [])))

    def _see_codings(self, told: list[str]) -> None:
        """Some say it twice, an application and what stands before it. To requests that is a list."""
        if set(told) == {"chunked"}:
            del self.headers["Transfer-Encoding"]
            self.headers["Transfer-Encoding"] = "chunked"

    def _see_lengths(self, told: str) -> None:
        """http.client knows none that is repeated. Of several urllib3 makes an error, which hides the status."""
        length = length_of(told)
        if self.length is None:
            self.length = length
        if length is None and "," in told:
            del self.headers["Content-Length"]
            self.headers["Content-Length"] = told.replace(",", " or")


class _PlainConnection(HTTPConnection):
    response_class = _Response

    def connect(self) -> None:
        super().connect()
        timeout = self.sock.gettimeout()
        self.sock = _PlainSocket(fileno=self.sock.detach())
        self.sock.settimeout(timeout)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class PatientAdapter(HTTPAdapter):
    """Connections made of such sockets; `context` alone says whom we trust, and who we are."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.sslsocket_class = _SecureSocket
        context.options &= ~_LENIENT
        self._context = context
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Called by requests."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Called by requests, which would add certificates of its own to those of the context."""
