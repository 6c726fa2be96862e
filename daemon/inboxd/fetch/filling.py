"""URLs and bodies from templates with {id} {name} {version}. What a partner calls an item never changes their shape."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

_FIELD = re.compile(r"\{(id|name|version)\}")
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


def fill_url(template: str, values: Mapping[str, str]) -> str:
    """Each value percent-encoded, also its slashes."""
    return _fill(template, values, _quoted)


def fill_body(template: str, values: Mapping[str, str], content_type: str = "") -> tuple[bytes, str]:
    """The body and its Content-Type: as said, else JSON for what begins like it, else plain text."""
    kind = content_type or (_JSON if template.lstrip()[:1] in ("{", "[") else "text/plain; charset=utf-8")
    escapes: dict[str, Callable[[str], str]] = {_JSON: lambda text: json.dumps(text)[1:-1], _FORM: _quoted}
    escape = escapes.get(kind.partition(";")[0].strip().lower(), str)
    return _fill(template, values, escape).encode("utf-8", "surrogateescape"), kind


def _fill(template: str, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return _FIELD.sub(lambda found: escape(values[found[1]]), template)


def _quoted(text: str) -> str:
    # quote() leaves dots alone, and as a segment of a path they would lead upwards
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="", errors="surrogateescape")
