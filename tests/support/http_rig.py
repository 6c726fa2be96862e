"""An HTTP source in this process, with parts in a folder: what tests of inboxd.fetch.http need."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import RemoteError
from inboxd.fetch.http import HttpSource
from inboxd.fetch.part import Bounds, Part
from inboxd.wire import Listed, OrderedItem, SourceSpec
from support.partner import ITEMS, PASSWORD, USER

_PLACE: dict[str, Any] = {
    "form": "auto", "items": None, "next": None, "url": None, "headers": {}, "auth": None, "certificate": None,
    "authority": None, "ack": None, "redirects": "none", "origins": [], "cleartext": False,
}  # fmt: skip
_SPEC: dict[str, Any] = {"connect": 2.0, "idle": 5.0, "total": 20.0}


class HttpRig:
    """Sources and parts that are closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def close(self) -> None:
        """Close them."""
        self._stack.close()

    def source(self, list: str, spec: dict[str, Any] | None = None, /, **place: Any) -> HttpSource:
        """Of the URL `list`."""
        told = SourceSpec(kind="http", place={**_PLACE, "list": list, **place}, **{**_SPEC, **(spec or {})})
        return self._stack.enter_context(closing(HttpSource(told)))

    def partner(self, url: str, spec: dict[str, Any] | None = None, /, **place: Any) -> HttpSource:
        """Of the Partner at `url`, as its good customer."""
        usual = {
            "items": ITEMS, "next": {"link": "links.next"}, "auth": {"basic": {"user": USER, "password": PASSWORD}},
            "ack": {"method": "POST", "url": f"{url}/api/outbox/{{id}}/ack", "body": None, "when": "held", "gone": [410]},
        }  # fmt: skip
        chosen = {"list": f"{url}/api/outbox", **usual, **place}
        return self.source(chosen.pop("list"), spec, **chosen)

    def part(self, name: str = "1", **bounds: Any) -> Part:
        """A part, or what an earlier one of this name has left."""
        chosen = Bounds(**{"max_size": 10 << 20, "total": 20.0, "durable": False, **bounds})
        return self._stack.enter_context(closing(Part(self.path(name), chosen)))

    def path(self, name: str = "1") -> str:
        """Where its bytes are."""
        return str(self._folder / f"{name}.part")

    def take(self, source: HttpSource, item: Listed, name: str = "1", **bounds: Any) -> bytes:
        """Fetch and verify it, as a fetcher does."""
        part = self.part(name, **bounds)
        try:
            source.fetch(ordered(item), part)
            part.finish(item.size, item.digest)
        finally:
            part.close()
        return Path(self.path(name)).read_bytes()


def ordered(item: Listed) -> OrderedItem:
    """The errand for a listed item."""
    return OrderedItem(
        id="f1", item=item.item, name=item.name, url=item.url, size=item.size, digest=item.digest, version=item.version
    )


def failure(kind: type[RemoteError], call: Callable[[], Any], words: str = ".") -> RemoteError:
    """What `call` raises: of this kind and no other, with these words, and without our password."""
    with pytest.raises(kind, match=words) as caught:
        call()
    assert type(caught.value).ending is kind.ending, caught.value
    text = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in text and "\n" not in str(caught.value), text
    return caught.value
