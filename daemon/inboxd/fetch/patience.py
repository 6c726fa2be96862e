"""Sockets that keep to a deadline. A library's timeout starts anew with every byte; ours is looked at before each read.

So one byte a second, be it of the headers, of a chunk's length or of the body, holds nobody longer than `total`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection


class _Patience(NamedTuple):
    idle: float  # seconds
    deadline: float  # monotonic seconds


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patient(idle: float, deadline: float) -> Iterator[None]:
    """What this thread reads meanwhile waits `idle` seconds for a byte, and no longer than until `deadline`."""
    token = _patience.set(_Patience(idle, deadline))
    try:
        yield
    finally:
        _patience.reset(token)


def _limit(one: socket.socket) -> None:
    patience = _patience.get()
    if patience is not None:
        left = patience.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the total time is over")
        one.settimeout(min(patience.idle, left))


class _PlainSocket(socket.socket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)


class _SecureSocket(ssl.SSLSocket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)


class _PlainConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        timeout = self.sock.gettimeout()
        self.sock = _PlainSocket(fileno=self.sock.detach())
        self.sock.settimeout(timeout)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class PatientAdapter(HTTPAdapter):
    """Connections made of such sockets; `context` alone says whom we trust, and who we are."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.sslsocket_class = _SecureSocket
        self._context = context
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Called by requests."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": HTTPSConnectionPool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Called by requests, which would add certificates of its own to those of the context."""
