"""HTML directory indexes, as nginx, Apache and others make them: a link a line, with date and size beside it.

Only names directly below the index are items. Links upwards, to folders, elsewhere, and those that sort are not.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote

from inboxd.fetch.origin import absolute
from inboxd.fetch.places import size_of
from inboxd.wire import Listed

_BESIDE = 400  # characters looked at after a link
_DATED = re.compile(
    r"(?P<date>\d{1,2}-[^\W\d]{3}-\d{4} \d\d:\d\d(?::\d\d)?|\d{4}-(?:\d\d|[^\W\d]{3})-\d\d \d\d:\d\d(?::\d\d)?)"
    r"(?: (?P<size>\d+(?:\.\d+)? ?[KMGT]?i?B?)(?= |$))?"
)


class Index(HTMLParser):
    """Fed with the page, piece by piece; `items` is complete after close()."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.items: list[Listed] = []
        self._url = url
        self._base = url.partition("?")[0].rpartition("/")[0] + "/"
        self._href = ""
        self._inside = False
        self._beside: list[str] = []
        self._known: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A link begins, so the text beside the one before is complete."""
        if tag == "a":
            self._flush()
            self._href = dict(attrs).get("href") or ""
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        """What follows is beside the link."""
        if tag == "a":
            self._inside = False
        else:
            self._beside.append(" ")

    def handle_data(self, data: str) -> None:
        """Kept if it stands beside a link."""
        if self._href and not self._inside and len(self._beside) < _BESIDE:
            self._beside.append(data[:_BESIDE])

    def close(self) -> None:
        """The page is over."""
        super().close()
        self._flush()

    def _flush(self) -> None:
        beside = " ".join("".join(self._beside)[:_BESIDE].split())
        href, self._href, self._beside = self._href, "", []
        url = absolute(self._url, href) if href else ""
        rest = url.removeprefix(self._base)
        if not url.startswith(self._base) or not _is_name(rest):
            return
        item = _listed(rest, url, _DATED.search(beside))
        if url not in self._known:
            self._known.add(url)
            self.items.append(item)
        elif self.items[-1].url == url and item.version:
            self.items[-1] = item  # the icon was a link, too


def _is_name(rest: str) -> bool:
    name = unquote(rest)
    return bool(rest) and "?" not in rest and "/" not in name and "\\" not in name and name not in (".", "..")


def _listed(rest: str, url: str, dated: re.Match[str] | None) -> Listed:
    """A size that is all digits is exact, with nginx as with Apache; 1.2K is not."""
    name = unquote(rest)
    plain = "\ufffd" not in name and "\0" not in name
    size = (dated["size"] or "") if dated else ""
    return Listed(
        item=name if plain else rest,  # two names that are no UTF-8 must not look the same
        name=name,
        url=url,
        size=size_of(size) if size.isdigit() else None,
        version=dated[0] if dated else "",
    )
