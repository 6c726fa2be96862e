"""Listings of JSON and of HTML, templates and origins: what is made of a partner's words, without a partner."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from inboxd.fetch.errors import Refused, Unfit
from inboxd.fetch.filling import fill_body, fill_url
from inboxd.fetch.ftp_session import _seen
from inboxd.fetch.index import Index
from inboxd.fetch.listing import Listing, last_part, with_parameter
from inboxd.fetch.origin import Origins, absolute, host_of, is_loopback, origin_of
from inboxd.listing import is_usable
from inboxd.wire import Listed

_LIST = "https://p.example/api/outbox"
_SHA256 = "ab" * 32


def _listing(**place: Any) -> Listing:
    return Listing({"list": _LIST, "items": None, "url": None, "next": None, **place})


def _read(document: Any, page: str = _LIST, **place: Any) -> tuple[list[Listed], str | None]:
    listing = _listing(**place)
    listing.first()
    items, following = listing.read(json.dumps(document).encode(), page)
    return list(items), following


def test_items_as_they_are_said() -> None:
    document = [
        {"id": 7, "url": "../f/7.csv", "size": "12", "sha256": f"SHA256:{_SHA256.upper()}", "md5": "ff" * 16},
        {"id": "b", "name": "b.csv", "url": "/b#x", "md5": "ff" * 16, "version": 1.5},
        {"id": "c\0\ud800", "url": "https://cdn.example/c%20d"},
    ]
    assert _read(document)[0] == [
        Listed("7", "7.csv", "https://p.example/f/7.csv", 12, f"sha256:{_SHA256}", ""),
        Listed("b", "b.csv", "https://p.example/b", None, "md5:" + "ff" * 16, "1.5"),
        Listed("c\\0\\ud800", "c d", "https://cdn.example/c%20d"),
    ]


def test_an_expression_finds_the_items() -> None:
    items = "files[?ready].{id: id, url: links.self, version: etag}"
    files = [{"id": 1, "ready": True, "links": {"self": "x"}, "etag": '"1"'}, {"id": 2, "ready": False}]
    assert _read({"files": files}, items=items)[0] == [Listed("1", "x", "https://p.example/api/x", version='"1"')]
    assert _read({"files": []}, items=items)[0] == []


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        ({}, {"items": "files[]"}, "finds nothing in the listing"),
        ({"error": "no"}, {}, "finds an object"),
        ([1], {}, "item 1 of the listing is a number"),
        ([{"id": "1", "url": "x"}, {"name": "x"}], {}, "item 2 of the listing has no id"),
        ([{"id": ""}], {}, "has no id"),
        ([{"id": "1"}], {}, "has no url"),
        ([{"id": ["1"]}], {}, "the id of item 1 of the listing is a list"),
        ([{"id": "1", "url": "x", "size": 1.5}], {}, "no number of bytes"),
        ([{"id": "1", "url": "x", "size": True}], {}, "no number of bytes"),
        ([{"id": "1", "url": "x", "size": 1 << 63}], {}, "no number of bytes"),
        ([{"id": "1", "url": "x", "md5": _SHA256}], {}, "not 32 hexadecimal digits"),
        ([{"id": "1", "url": "x", "sha256": "zz" * 32}], {}, "not 64 hexadecimal digits"),
        ([{"id": "1", "url": "x" * 9000}], {}, "more than 8192 characters"),
        ({"a": 1}, {"items": "sort(a)"}, "`items` can't be used"),
        ([], {"next": {"link": "a["}}, "`next.link` is no JMESPath expression"),
        ([], {"items": "files[].{"}, "`items` is no JMESPath expression"),
    ],
)
def test_what_has_not_the_agreed_shape_is_refused(document: Any, place: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=re.escape(words)):
        _read(document, **place)


def test_where_the_next_page_is() -> None:
    item = {"id": "1", "url": "x"}
    assert _read({"i": [item], "n": "?p=2"}, items="i", next={"link": "n"})[1] == f"{_LIST}?p=2"
    for end in (None, "", False):
        assert _read({"i": [item], "n": end}, items="i", next={"link": "n"})[1] is None
        assert _read({"i": [item], "n": end}, items="i", next={"cursor": "n", "parameter": "p"})[1] is None
    cursor = {"cursor": "n", "parameter": "after"}
    assert _read({"i": [], "n": "a&b"}, f"{_LIST}?x=1&after=0", items="i", next=cursor)[1] == f"{_LIST}?x=1&after=a%26b"
    numbered = _listing(next={"page": "p", "first": 0})
    assert numbered.first() == f"{_LIST}?p=0"
    assert numbered.read(json.dumps([item]).encode(), f"{_LIST}?p=0")[1] == f"{_LIST}?p=1"
    assert numbered.read(b"[]", f"{_LIST}?p=1")[1] is None


def test_pages_have_an_end() -> None:
    listing = _listing(items="i", next={"link": "n"})
    listing.first()
    with pytest.raises(Refused, match="more than 10000 pages"):
        for number in range(10_001):
            listing.read(json.dumps({"i": [], "n": f"?p={number}"}).encode(), _LIST)


_NGINX = """<html><head><title>Index of /out/</title></head><body><h1>Index of /out/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                       23-Nov-2026 06:30                   -
<a href="a%20%26%20b.csv">a &amp; b.csv</a>   23-Nov-2026 06:30                  17
<a href="%D1%8F.csv">я.csv</a>                01-Jan-2027 00:00                 12K
<a href="long-name-that-is-cut.csv">long-name-tha..&gt;</a> 23-Nov-2026 06:31  1048576
</pre><hr></body></html>"""

_APACHE = """<table><tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/">Parent Directory</a></td><td>&nbsp;</td><td align="right">  - </td></tr>
<tr><td><a href="a.csv"><img src="/icons/text.gif"></a></td><td><a href="a.csv">a.csv</a></td>
<td align="right">2026-11-23 06:30  </td><td align="right">1.2K</td><td>orders of 2026</td></tr>
<tr><td><a href="b.csv">b.csv</a></td><td align="right">2026-11-23 06:31  </td><td align="right"> 17 </td></tr></table>"""


def _index(text: str, url: str = "https://p.example/out/", cut: int = 7) -> list[Listed]:
    index = Index(url)
    for first in range(0, len(text), cut):
        index.feed(text[first : first + cut])
    index.close()
    return index.items


def _brief(items: list[Listed]) -> list[tuple[str, int | None, str]]:
    return [(item.item, item.size, item.version) for item in items]


def test_the_index_of_nginx() -> None:
    items = _index(_NGINX)
    assert _brief(items) == [
        ("a & b.csv", 17, "23-Nov-2026 06:30 17"),
        ("я.csv", None, "01-Jan-2027 00:00 12K"),
        ("long-name-that-is-cut.csv", 1048576, "23-Nov-2026 06:31 1048576"),
    ]
    assert items[0].url == "https://p.example/out/a%20%26%20b.csv"


def test_the_index_of_apache() -> None:
    items = _index(_APACHE)
    assert _brief(items) == [("a.csv", None, "2026-11-23 06:30 1.2K"), ("b.csv", 17, "2026-11-23 06:31 17")]


def test_an_index_without_dates() -> None:
    assert _brief(_index("<ul><li><a href='a.csv'> a.csv</a></li><li><a href=b.csv>b</a> 2026-11-23</li></ul>")) == [
        ("a.csv", None, ""), ("b.csv", None, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("digits", [19, 20, 5000])
def test_a_size_beyond_all_sizes_is_none_that_fits(digits: int) -> None:
    """And no ValueError: int() refuses thousands of digits."""
    nines = "9" * digits
    (one,) = _index(f"<a href='a.csv'>a.csv</a> 2026-11-23 10:00 {nines}\n")
    assert not is_usable(one)
    assert _seen(f"Type=file;Size={nines};Modify=20261127101500; a.csv").size >= 1 << 63


@pytest.mark.parametrize(
    "href",
    ["../a", "/out", "/a", "//evil/out/a", "https://evil/out/a", "http://p.example/out/a", "sub/a", "sub/", "?C=N;O=D", "a?x=1",
     "..%2f..%2fetc%2fpasswd", "%2e%2e", ".", "", "#top", "a%5cb", "javascript:x", "mailto:x@y", "http://[::1", "sub/../../a"],
)  # fmt: skip
def test_links_that_are_no_items(href: str) -> None:
    assert _index(f'<a href="{href}">x</a><a>y</a>') == []


@pytest.mark.parametrize("href", ["a", "/out/a", "https://p.example/out/a", "./a", "sub/../a", "a#b"])
def test_links_that_are_items(href: str) -> None:
    assert _index(f'<a href="{href}">x</a><a href="a">again</a>') == [Listed("a", "a", "https://p.example/out/a")]


def test_names_that_are_no_utf_8_stay_apart() -> None:
    items = _index('<a href="%ff">x</a><a href="%fe">x</a><a href="%00">x</a>')
    assert [item.item for item in items] == ["%ff", "%fe", "%00"]


def test_templates_keep_their_shape() -> None:
    values = {"id": "../a?b#c/ü", "name": 'x"y\n', "version": ""}
    assert (
        fill_url("https://p/{id}/ack?v={version}&{other}", values) == "https://p/..%2Fa%3Fb%23c%2F%C3%BC/ack?v=&{other}"
    )
    assert fill_url("https://p/{id}", {"id": ".."}) == "https://p/%2E%2E"
    assert json.loads(fill_body('{"n": "{name}", "l": [{}]}', values)[0]) == {"n": 'x"y\n', "l": [{}]}
    assert fill_body("{name}", {"name": "{id}", "id": "1"}) == (b"{id}", "application/json"), "filled once only"


@pytest.mark.parametrize(
    ("url", "origin"),
    [("HTTP://P.example", "http://p.example:80"), ("https://p.example:443/x", "https://p.example:443"),
     ("https://[2001:DB8::1]/x", "https://[2001:db8::1]:443")],
)  # fmt: skip
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_a_source_has_one_home() -> None:
    place = {"list": "https://p.example/api", "origins": ["https://cdn.example"], "headers": {"X": "1"},
             "auth": {"bearer": "t"}, "cleartext": False}  # fmt: skip
    origins = Origins(place)
    assert origins.credentials("https://P.example:443/x") == {"X": "1", "Authorization": "Bearer t"}
    for other in (
        "http://p.example/",
        "https://p.example:444/",
        "https://cdn.example/",
        "https://p.example.evil/",
        "x",
    ):
        assert origins.credentials(other) == {}
    origins.check_item("https://cdn.example:443/x")
    with pytest.raises(Unfit, match="another origin"):
        origins.check_item("https://cdn.example:444/x")
    for wrong in ({"list": "https://u:p@p.example/"}, {"origins": ["x"]}, {"list": "http://p.example/"}):
        with pytest.raises(Refused) as caught:
            Origins({**place, **wrong})
        assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.0.0.1:1", True), ("http://[::1]/", True), ("http://localhost", True), ("http://a.localhost.", True),
     ("http://10.0.0.1", False), ("http://localhost.example", False), ("http://127.0.0.1.example", False)],
)  # fmt: skip
def test_loopback(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


def test_small_things_about_urls() -> None:
    assert host_of("https://p.example:443/x") == "p.example" and host_of("http://[::1]:8080/") == "[::1]:8080"
    assert absolute("https://p/a/b", "//[") == "//["
    assert last_part("https://p/a/b%20c/?x") == "b c" and last_part("https://p") == "" and last_part("http://[") == ""
    assert with_parameter("https://p/?a=&p=1&p=2", "p", "3") == "https://p/?a=&p=3"
