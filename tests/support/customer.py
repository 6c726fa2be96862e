"""A receiver that lets only `acme` in, knows results by name, and answers as it is told.

with Customer() as customer:
    ...                                   # a destination puts to customer.url + "/in/{name}"
    assert customer.names() == ["report.csv"]
"""

from __future__ import annotations

import base64
import threading
from collections import defaultdict
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from support.receiver import Receiver, Taking

USER, PASSWORD = "acme", "canary-s3nd-Zq9"
_ALLOWED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

#: Instead of a status code: take it, and hang up without a word.
LOST = 0


class Got(NamedTuple):
    """One request whose body has come in full."""

    method: str
    name: str
    key: str  # the idempotency key
    size: int
    status: int  # as answered; LOST for no answer


class Customer(Receiver):
    """All that it has taken in full stands in `got`, with what it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Got] = []
        self.answers: defaultdict[str, list[int]] = defaultdict(list)  # by name: the next ones; then `default`
        self.default = 201
        self.open = threading.Event()  # while it is not set, no request is answered
        self.open.set()
        self.take = self._take

    def __exit__(self, *error: object) -> None:
        self.open.set()
        super().__exit__(*error)

    def _take(self, taking: Taking) -> None:
        body = taking.read()
        self.open.wait()
        if len(body) < int(taking.headers.get("Content-Length") or 0):
            taking.close_connection = True  # its sender died in the middle of it
        elif taking.command == "HEAD":
            taking.answer(404)
        elif taking.headers.get("Authorization") != _ALLOWED:
            taking.answer(401)
        else:
            self._answer(taking, body)

    def _answer(self, taking: Taking, body: bytes) -> None:
        name = unquote(urlsplit(taking.path).path).removeprefix("/in/")
        queued = self.answers[name]
        status = queued.pop(0) if queued else self.default
        key = taking.headers.get("Idempotency-Key", "").strip('"')
        self.got.append(Got(taking.command, name, key, len(body), status))
        if status == LOST:
            taking.hang_up()
        else:
            taking.answer(status)

    def had(self) -> list[Got]:
        """Those that it has, as it knows: it may have hung up after that."""
        return [got for got in self.got if got.status == LOST or got.status < 300]

    def names(self) -> list[str]:
        """What it has, each once, sorted."""
        return sorted({got.name for got in self.had()})
