"""What must not be shown of the words of a server: it may say back what it was sent, in any form."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote_plus, urlsplit

_SHORTEST = 4  # characters of a secret that can be replaced; a shorter one may be met anywhere
_TELLING = 8  # characters in a row that a part of a secret must have to be taken for one
_PLAIN = frozenset({"accept", "accept-language", "content-type", "user-agent"})  # headers that let nobody in
_FIELD = re.compile(r"\{\w+\}")
_TOKEN = re.compile(r"[\w.~+/=%-]{8,}")  # in a body of ours
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_SHOWN = ("endpoint_url", "region_name")  # options of a store that are none


class Secrets:
    """All of one section."""

    def __init__(self, secrets: Iterator[str]) -> None:
        found = {secret for secret in secrets if secret}
        forms = {form for secret in found for form in _forms(secret)}
        self._short = [form for form in forms if len(form) < _SHORTEST]
        long = sorted(forms.difference(self._short), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, long)) or r"(?!)", re.IGNORECASE)
        self._parts = {part for form in long for part in _parts(_reduced(form))}

    def replaced(self, text: str) -> str:
        """The text with each of them as "…"."""
        return self._whole.sub("…", text)

    def without(self, text: str) -> str:
        """The same, or "" if there still may be one in it, in another form or only in part."""
        left = self.replaced(text)
        reduced = _reduced(left)
        if any(form in text for form in self._short) or any(part in reduced for part in self._parts):
            return ""
        return left


def of_http(place: dict[str, Any]) -> Iterator[str]:
    """Those of an `http:` section of a source or a destination."""
    auth = place["auth"] or {}
    if login := auth.get("basic"):
        yield login["password"]
        yield base64.b64encode(f"{login['user']}:{login['password']}".encode()).decode()
    if token := auth.get("bearer"):
        yield token
    if header := auth.get("header"):
        yield header["value"]
    for text in _doubtful(place):
        if len(text) >= _SHORTEST:
            yield text


def _doubtful(place: dict[str, Any]) -> Iterator[str]:
    """What may let us in, too: headers, what a query says, and what may be a token in a path or in a body."""
    yield from (str(value) for name, value in place["headers"].items() if name.lower() not in _PLAIN)
    ack = place.get("ack") or {}
    for url in (place.get("list"), place.get("url"), ack.get("url")):
        parts = urlsplit(url or "")
        for _, value in parse_qsl(parts.query):
            yield from _FIELD.split(value)
        yield from (part for part in re.split(r"[/{}]", parts.path) if len(part) >= _TELLING)
    yield from _TOKEN.findall(ack.get("body") or "")


def of_options(options: dict[str, Any]) -> Iterator[str]:
    """Those of the options of a store."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from of_options(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST and name not in _SHOWN:
            yield value


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, quote(data, safe=""), quote(data), quote_plus(data), base64.b64encode(data).decode())
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (secret.replace("/", "\\/"), html.escape(secret), data.hex())


def _parts(reduced: str) -> Iterator[str]:
    """What gives it away: eight characters in a row, or all of a shorter one."""
    size = min(_TELLING, len(reduced))
    if size >= _SHORTEST:
        yield from (reduced[begin : begin + size] for begin in range(len(reduced) - size + 1))


def _reduced(text: str) -> str:
    """Letters and digits, however they were written."""
    for _ in range(2):
        text = unquote_plus(html.unescape(text), errors="replace")
    text = _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"[^a-z0-9]", "", text.lower())
