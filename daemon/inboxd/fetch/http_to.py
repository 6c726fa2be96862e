"""Destinations that speak HTTP: one request for each result."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus

from inboxd.fetch import places
from inboxd.fetch.answer import Answer
from inboxd.fetch.errors import Away, Refused, Unfit
from inboxd.fetch.filling import fill_url
from inboxd.fetch.origin import host_of
from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.web import Call, Web
from inboxd.wire import OrderedItem, SourceSpec

_ELSEWHERE = (404, 405, 410)  # it is the URL or the method that is wrong, and so for every result
_SHUT_OUT = (401, 403, 407)


class _Body:
    """What requests sends as it comes, with a Content-Length."""

    def __init__(self, result: Outgoing) -> None:
        self._result = result
        self.is_sent = result.size == 0

    def __len__(self) -> int:
        return self._result.size

    def __iter__(self) -> Iterator[bytes]:
        yield from self._result.blocks()
        self.is_sent = True


class HttpDestination:
    """One `http:` section of a destination."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._place = spec.place

    @cached_property
    def _web(self) -> Web:
        """Raises Refused. The origin of `url` is the only one it knows."""
        place = {**self._place, "list": self._place["url"], "origins": [], "redirects": "none"}
        return Web(self._spec._replace(place=place))

    def close(self) -> None:
        """Hang up."""
        if web := self.__dict__.get("_web"):
            web.close()

    def send(self, item: OrderedItem, result: Outgoing) -> bool:
        """Raises Away, Refused, Unfit, Unreadable."""
        places.check_name(item.name)
        url = fill_url(self._place["url"], {"id": item.id, "name": item.name})
        digest = base64.b64encode(bytes.fromhex(result.sha256())).decode()
        headers = {
            "Content-Type": self._place["content_type"],
            "Idempotency-Key": f'"{item.id}"',  # draft-ietf-httpapi-idempotency-key-header
            "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        }
        body = _Body(result)
        call = Call(self._place["method"], url, result.deadline, Refused, headers, body if result.size else b"")
        try:
            with self._web.ask(call) as answer:
                return self._heard(answer, body)
        finally:
            if not body.is_sent:
                self.close()  # the next request must not be taken for the rest of this one

    def _heard(self, answer: Answer, body: _Body) -> bool:
        known = answer.status in self._place["known"]
        if not known:
            self._judge(answer)
            if not body.is_sent:
                raise Away(f"{answer.words} before it had all of it, and took no more")
        answer.drain()
        return known

    def _judge(self, answer: Answer) -> None:
        """Raise what the status means; nothing for 2xx."""
        if 300 <= answer.status < 400:
            raise Refused(f"{answer.words}: redirects are not followed; correct `url`")
        if answer.status in _ELSEWHERE:
            raise Refused(f"{answer.words}; check `url` and `method`")
        answer.judge(Refused if answer.status in _SHUT_OUT else Unfit)

    def look(self) -> str:
        """Ask for the root of its origin. Raises Away, Refused."""
        home = f"{self._web.origins.home}/"
        with self._web.ask(Call("HEAD", home, time.monotonic() + self._spec.total, Refused)) as answer:
            if answer.status >= 500 and answer.status != HTTPStatus.NOT_IMPLEMENTED:  # it knows no HEAD, but is there
                answer.judge(Refused)
            status = answer.status
        unknown = f"{host_of(home)} answers ({status}); nothing was sent, so whether it takes results is not known"
        if status in (401, 403):
            return f"{unknown}: it may refuse them likewise; check `auth`"
        return unknown
