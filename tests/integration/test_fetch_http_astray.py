"""A partner that leads astray: redirects, urls, pages and names that go where they may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Refused, Unfit
from inboxd.wire import Listed
from support.http_rig import HttpRig, failure, ordered
from support.partner import PASSWORD, Partner, answer


@pytest.fixture
def stranger() -> Iterator[Partner]:
    """Another origin, that takes note of what it gets."""
    with Partner() as one:
        one.guarded = False
        one.add("a.csv", b"x")
        yield one


@pytest.mark.parametrize("redirects", ["none", "same-origin"])
def test_credentials_never_follow_a_redirect(partner: Partner, stranger: Partner, rig: HttpRig, redirects: str) -> None:
    away = answer(302, Location=f"{stranger.url}/files/a.csv")
    partner.add("a.csv", b"x", serve=away)
    source = rig.partner(partner.url, redirects=redirects, headers={"X-Api-Key": PASSWORD}, origins=[stranger.url])
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "redirect")
    partner.acking = away
    failure(Unfit, lambda: source.ack(ordered(item)), "redirect")
    partner.listing = away
    failure(Refused, lambda: list(source.list()), "redirect")
    assert stranger.log() == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[::1", "//127.0.0.1:1/", "http:\\\\x"]
)
def test_redirects_to_anything_else(partner: Partner, rig: HttpRig, target: str) -> None:
    partner.listing = answer(301, Location=target)
    failure(Refused, lambda: list(rig.partner(partner.url, redirects="same-origin").list()), "redirect|answered")


def test_a_redirect_within_the_origin_when_allowed(partner: Partner, rig: HttpRig) -> None:
    partner.add("b.csv", b"moved", listed={"links": {"self": "/files/old"}})
    partner.add("old", b"", serve=answer(307, Location="b.csv"), listed={"id": None})
    partner.listing = answer(200, json.dumps({"files": [{"id": "1", "links": {"self": "/files/old"}}]}).encode())
    source = rig.partner(partner.url, redirects="same-origin")
    (item,) = source.list()
    assert rig.take(source, item) == b"moved"


def test_redirects_in_a_circle(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", serve=answer(302, Location="/files/b.csv"))
    partner.add("b.csv", b"x", serve=answer(302, Location="/files/a.csv"))
    source = rig.partner(partner.url, redirects="same-origin")
    item = next(iter(source.list()))
    failure(Unfit, lambda: rig.take(source, item), "more than 5 times")
    assert len(partner.log("/files")) == 6


def test_an_item_of_another_origin_is_fetched_as_a_stranger(partner: Partner, stranger: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", listed={"links": {"self": f"{stranger.url}/files/a.csv"}})
    headers = {"X-Api-Key": PASSWORD}
    source = rig.partner(partner.url, headers=headers)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "another origin.*origins")
    assert stranger.log() == []
    source = rig.partner(partner.url, headers=headers, origins=[stranger.url])
    assert rig.take(source, item) == b"x"
    assert PASSWORD not in str(stranger.log()) and "Authorization" not in stranger.log()[0].headers
    stranger.guarded = True
    failure(Unfit, lambda: rig.take(source, item, "2"), "401; it gets no credentials")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://acme:x@127.0.0.1/", "http://127.0.0.1\\@x/", "//127.0.0.1:1/x", "gopher://x/", "",
     "http://127.0.0.1:99999/", "http://[::1", "http://127.0.0.1\t:1/", "javascript:1", "http://", "http://\u2100/"],
)  # fmt: skip
def test_item_urls_that_lead_elsewhere(rig: HttpRig, url: str) -> None:
    source = rig.partner("http://127.0.0.1:1")
    failure(Unfit, lambda: source.fetch(ordered(Listed("1", "a.csv", url)), rig.part()), "its url")


def test_pages_that_lead_elsewhere_or_in_a_circle(partner: Partner, stranger: Partner, rig: HttpRig) -> None:
    def refused(page: dict[str, Any], words: str, **place: Any) -> None:
        partner.listing = answer(200, json.dumps(page).encode())
        failure(Refused, lambda: list(rig.partner(partner.url, **place).list()), words)

    item = {"id": "1", "links": {"self": "/files/1"}}
    refused({"files": [item], "links": {"next": f"{stranger.url}/api/outbox"}}, "leads away")
    refused({"files": [item], "links": {"next": "file:///etc/passwd"}}, "leads away")
    refused({"files": [item], "links": {"next": "?page=2"}}, "circle")
    refused({"files": [], "links": {"next": {"a": 1}}}, "next.link")
    refused({"files": [item]}, "every page.*the same", next={"page": "page", "first": 0})
    refused({"files": [item], "c": "x"}, "circle", next={"cursor": "c", "parameter": "after"})
    assert stranger.log() == []


def test_an_ack_stays_at_home(partner: Partner, stranger: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", id="127.0.0.1:1/x?")
    ack = {"method": "POST", "body": None, "when": "held", "gone": []}
    for url in (f"{stranger.url}/api/outbox/{{id}}/ack", "http://{id}/ack", "{id}"):
        source = rig.partner(partner.url, ack={**ack, "url": url})
        (item,) = source.list()
        failure(Refused, lambda source=source, item=item: source.ack(ordered(item)), "leads away")
    assert stranger.log() == []


def test_names_lead_nowhere(partner: Partner, rig: HttpRig, tmp_path: Path) -> None:
    partner.add("../../../tmp/evil", b"x", headers={"Content-Disposition": 'attachment; filename="../../evil"'})
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == b"x"
    source.ack(ordered(item))
    assert [path.name for path in tmp_path.iterdir()] == ["1.part"]
    assert partner.log()[-1].path == "/api/outbox/..%2F..%2F..%2Ftmp%2Fevil/ack"


def test_cookies_are_not_kept(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", headers={"Set-Cookie": "session=1; Path=/"})
    source = rig.partner(partner.url)
    (item,) = source.list()
    rig.take(source, item)
    rig.take(source, item, "2")
    assert "Cookie" not in partner.log()[-1].headers


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[" * 100_000, b'{"files": [' + b"9" * 5000 + b"]}", b"\xff\xfe\x00", b'{"files": 1}', b'{"files": ["x"]}',
     b'{"files": [{"id": {"x": 1}, "links": {"self": "x"}}]}', b'{"files": [{"id": "1", "size": -1, "links": {"self": "x"}}]}',
     b'{"files": [{"id": "1", "sha256": "abc", "links": {"self": "x"}}]}', b'{"files": [{"id": true, "links": {"self": "x"}}]}',
     b'{"files": [{"id": "' + b"x" * 2000 + b'", "links": {"self": "x"}}]}'],
)  # fmt: skip
def test_listings_that_are_none(partner: Partner, rig: HttpRig, body: bytes) -> None:
    partner.listing = answer(200, body, Content_Type="application/json")
    failure(Refused, lambda: list(rig.partner(partner.url).list()), "listing")
