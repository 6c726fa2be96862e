"""JSON listings: JMESPath says where items and the next page are. Pure; what has not the agreed shape is Refused."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from inboxd.fetch.errors import Refused
from inboxd.fetch.filling import fill_url
from inboxd.fetch.origin import absolute
from inboxd.wire import Listed

_LONGEST = {"id": 1024, "name": 4096, "version": 1024, "url": 8192}  # characters
_DIGESTS = {"sha256": 64, "md5": 32}  # hexadecimal digits
_HEX = re.compile(r"[0-9a-f]+")
_MOST_PAGES = 10_000


class Listing:
    """What `items`, `url` and `next` of a source mean, and which pages have been seen."""

    def __init__(self, place: dict[str, Any]) -> None:
        """Raises Refused for an expression that is none."""
        self._items = _compiled("items", place["items"] or "@")
        self._template = place["url"]
        self._next = Next(place["next"] or {})
        self._list = place["list"]

    def first(self) -> str:
        """The URL of the first page."""
        return self._next.first(self._list)

    def read(self, body: bytes, page: str) -> tuple[Iterator[Listed], str | None]:
        """The items of the page at the URL `page`, lazily, and the URL of the next one. Both raise Refused."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused("the listing is not JSON; check `list` and `form`") from None
        found = _search("items", self._items, document)
        if not isinstance(found, list):
            raise Refused(
                f"`items` finds {_kind(found)} in the listing, and no list; check the expression, or whether the "
                "listing is an error page"
            )
        items = (self._item(number, one, page) for number, one in enumerate(found, 1))
        return items, self._next.after(document, page, body if found else b"")

    def _item(self, number: int, found: Any, page: str) -> Listed:
        if not isinstance(found, dict):
            raise Refused(f"item {number} of the listing is {_kind(found)}, and no object; check `items`")
        texts = {key: _text(number, key, found.get(key)) for key in _LONGEST}
        if not texts["id"]:
            raise Refused(f"item {number} of the listing has no id; check `items`")
        url = texts["url"] or (fill_url(self._template, texts) if self._template else "")
        if not url:
            raise Refused(f"item {number} of the listing has no url; let `items` find one, or give a template as `url`")
        url = absolute(page, url)
        name = texts["name"] or last_part(url) or texts["id"]
        return Listed(
            texts["id"], name, url, _size(number, found.get("size")), _digest(number, found), texts["version"]
        )


class Next:
    """How one page leads to the next: a link, a number or a cursor."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self._link = _compiled("next.link", rule["link"]) if "link" in rule else None
        self._cursor = _compiled("next.cursor", rule["cursor"]) if "cursor" in rule else None
        self._parameter = str(rule.get("page") or rule.get("parameter") or "")
        self._numbered = "page" in rule
        self._start = int(rule.get("first", 1))
        self._number = self._start
        self._seen: set[str] = set()
        self._last = ""

    def first(self, url: str) -> str:
        """Begin anew."""
        self._number = self._start
        self._last = ""
        start = with_parameter(url, self._parameter, str(self._start)) if self._numbered else url
        self._seen = {start}
        return start

    def after(self, document: Any, page: str, body: bytes) -> str | None:
        """The URL of the page after `page`, whose `body` is empty if it had no items. Raises Refused for a circle."""
        if self._numbered:
            url = self._numbered_after(page, body)
        elif self._link:
            url = _followed(_search("next.link", self._link, document), page)
        elif self._cursor:
            url = self._cursor_after(_search("next.cursor", self._cursor, document), page)
        else:
            url = None
        if url is not None:
            if url in self._seen:
                raise Refused("the pages of the listing lead in a circle; check `next`")
            if len(self._seen) >= _MOST_PAGES:
                raise Refused(f"the listing has more than {_MOST_PAGES} pages; check `next`")
            self._seen.add(url)
        return url

    def _numbered_after(self, page: str, body: bytes) -> str | None:
        if not body:
            return None
        digest = hashlib.sha256(body).hexdigest()
        if digest == self._last:
            raise Refused(
                f"every page of the listing is the same: the server knows no {self._parameter!r}; check `next`"
            )
        self._last = digest
        self._number += 1
        return with_parameter(page, self._parameter, str(self._number))

    def _cursor_after(self, found: Any, page: str) -> str | None:
        if found in (None, "", False):
            return None
        if not isinstance(found, str | int):
            raise Refused(f"`next.cursor` finds {_kind(found)} in the listing; it must be a text or a number")
        return with_parameter(page, self._parameter, str(found))


def _followed(found: Any, page: str) -> str | None:
    if found in (None, "", False):
        return None
    if not isinstance(found, str):
        raise Refused(f"`next.link` finds {_kind(found)} in the listing; it must be a text")
    return absolute(page, found)


def with_parameter(url: str, name: str, value: str) -> str:
    """`url` with this one query parameter set."""
    parts = urlsplit(url)
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != name]
    return urlunsplit(parts._replace(query=urlencode([*query, (name, value)])))


def last_part(url: str) -> str:
    """The last part of its path, percent-decoded; "" for none."""
    try:
        return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    except ValueError:
        return ""


def _compiled(key: str, expression: str) -> ParsedResult:
    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise Refused(f"`{key}` is no JMESPath expression: {_line(error)}") from None


def _search(key: str, expression: ParsedResult, document: Any) -> Any:
    try:
        return expression.search(document)
    except (JMESPathError, RecursionError) as error:
        raise Refused(f"`{key}` can't be used on the listing: {_line(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _kind(found: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(found), "a number")


def _text(number: int, key: str, found: Any) -> str:
    """Lone surrogates and NUL, which no ledger takes, are written as escapes."""
    if found is None:
        return ""
    if not isinstance(found, str | int | float) or isinstance(found, bool):
        raise Refused(f"the {key} of item {number} of the listing is {_kind(found)}; check `items`")
    text = str(found).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if len(text) > _LONGEST[key]:
        raise Refused(f"the {key} of item {number} of the listing has more than {_LONGEST[key]} characters")
    return text


def _size(number: int, found: Any) -> int | None:
    if found is None:
        return None
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 20:
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise Refused(f"the size of item {number} of the listing is no number of bytes; check `items`")
    return found


def _digest(number: int, found: dict[str, Any]) -> str:
    for kind, digits in _DIGESTS.items():
        if found.get(kind):
            text = str(found[kind]).lower().removeprefix(f"{kind}:")
            if len(text) != digits or not _HEX.fullmatch(text):
                raise Refused(f"the {kind} of item {number} of the listing is not {digits} hexadecimal digits")
            return f"{kind}:{text}"
    return ""
