"""A partner that behaves: lists, serves, resumes, is told."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests

import inboxd
from inboxd.fetch.errors import Away, Refused, Unfit
from inboxd.wire import Listed
from support.http_rig import HttpRig, failure, ordered
from support.partner import PASSWORD, USER, Handler, Partner, answer, broken_off, serve_file

_DATA = bytes(range(256)) * 400


def test_an_item_is_listed_fetched_and_acknowledged_in_this_order(partner: Partner, rig: HttpRig) -> None:
    offer = partner.add("a b.csv", _DATA, id="17/4")
    source = rig.partner(partner.url)
    (item,) = source.list()
    digest = hashlib.sha256(_DATA).hexdigest()
    url = f"{partner.url}/files/17%2F4"
    assert item == Listed("17/4", "a b.csv", url, len(_DATA), f"sha256:{digest}", offer.etag)
    assert rig.take(source, item) == _DATA
    source.ack(ordered(item))
    assert partner.acked() == ["17/4"]
    assert [(one.method, one.path, one.status) for one in partner.log()] == [
        ("GET", "/api/outbox", 200), ("GET", "/files/17%2F4", 200), ("POST", "/api/outbox/17%2F4/ack", 200),
    ]  # fmt: skip
    headers = partner.log()[1].headers
    assert headers["User-Agent"] == f"inboxd/{inboxd.__version__} (+drop-folder daemon)"
    assert headers["Accept-Encoding"] == "identity"


def test_connections_are_used_again(partner: Partner, rig: HttpRig, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = set()
    begin = Handler.begin

    def note(handler: Handler, *arguments: Any) -> None:
        ports.add(handler.client_address[1])
        begin(handler, *arguments)

    monkeypatch.setattr(Handler, "begin", note)
    for number in range(5):
        partner.add(f"{number}.csv", _DATA)
    source = rig.partner(partner.url)
    for item in list(source.list()):
        rig.take(source, item)
        source.ack(ordered(item))
    assert len(ports) == 1


def test_pages_by_link_and_by_number(partner: Partner, rig: HttpRig) -> None:
    for number in range(7):
        partner.add(f"{number}.csv", b"x")
    partner.page_size = 3
    wanted = [f"{number}.csv" for number in range(7)]
    assert [item.item for item in rig.partner(partner.url).list()] == wanted
    numbered = rig.partner(partner.url, next={"page": "page", "first": 1})
    assert [item.item for item in numbered.list()] == wanted
    assert [item.item for item in numbered.list()] == wanted, "a second poll begins anew"
    assert partner.log()[-1].path == "/api/outbox?page=4", "until a page is empty"


def test_pages_by_cursor(partner: Partner, rig: HttpRig) -> None:
    pages = {"": (["1"], "c/1"), "c/1": (["2"], 7), "7": (["3"], 0)}

    def serve(handler: Handler) -> None:
        after = requests.compat.urlparse(handler.path).query.partition("after=")[2].replace("%2F", "/")
        ids, cursor = pages[after]
        handler.send(
            200, json.dumps({"ids": [{"id": one, "url": f"/files/{one}"} for one in ids], "c": cursor}).encode()
        )

    partner.listing = serve
    source = rig.partner(partner.url, items="ids", next={"cursor": "c", "parameter": "after"})
    assert [item.item for item in source.list()] == ["1", "2", "3"]


def test_a_listing_ends_one_above_what_is_allowed(partner: Partner, rig: HttpRig) -> None:
    for number in range(9):
        partner.add(f"{number}.csv", b"x")
    partner.page_size = 2
    assert len(list(rig.partner(partner.url, {"max_items": 4}).list())) == 5
    assert len(partner.log()) == 3, "no page is asked for that nobody takes"


def test_no_content_is_an_empty_listing(partner: Partner, rig: HttpRig) -> None:
    partner.listing = answer(204)
    assert list(rig.partner(partner.url).list()) == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_fetch_that_broke_off_goes_on(partner: Partner, rig: HttpRig, reset: bool) -> None:
    partner.add("a.csv", _DATA, serve=broken_off(0.6, reset=reset))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item), "broke off after 61440 of 102400 bytes")
    part = rig.part()
    assert part.size == len(_DATA) * 6 // 10
    source.fetch(ordered(item), part)
    assert part.finish(item.size, item.digest)["resumed"] == len(_DATA) * 6 // 10
    assert Path(rig.path()).read_bytes() == _DATA
    assert partner.log("/files")[-1].status == 206


def test_a_part_without_a_strong_etag_goes_on_by_its_date(partner: Partner, rig: HttpRig) -> None:
    changed = formatdate(time.time() - 60, usegmt=True)
    headers = {"ETag": 'W/"1"', "Last-Modified": changed}
    partner.add("a.csv", _DATA, serve=broken_off(0.5), headers={"Last-Modified": changed, "ETag": ""})
    source = rig.partner(partner.url)
    (item,) = source.list()
    plain = item._replace(version="")
    failure(Away, lambda: rig.take(source, plain))
    assert rig.part().validator == changed
    assert rig.take(source, plain) == _DATA
    assert partner.log("/files")[-1].headers["If-Range"] == changed
    partner.offers["a.csv"].serve = broken_off(0.5)
    partner.offers["a.csv"].headers = headers
    failure(Away, lambda: rig.take(source, plain, "2"))
    assert rig.part("2").size == 0, "a weak ETag vouches for nothing"


def test_a_part_of_another_version_is_forgotten(partner: Partner, rig: HttpRig) -> None:
    offer = partner.add("a.csv", _DATA, serve=broken_off(0.5))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Away, lambda: rig.take(source, item))
    offer.data = _DATA[::-1]
    (item,) = source.list()
    assert rig.take(source, item) == _DATA[::-1]
    assert partner.log("/files")[-1].status == 200


def test_a_whole_part_is_fetched_again_when_no_range_is_left(partner: Partner, rig: HttpRig) -> None:
    offer = partner.add("a.csv", _DATA)
    part = rig.part()
    part.restart(offer.etag)
    part.write(_DATA)
    part.close()
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == _DATA
    assert [one.status for one in partner.log("/files")] == [416, 200]


@pytest.mark.parametrize("content_range", ["bytes 0-9/102400", "bytes 10-99/102400", "bytes 10-102399/*", "items", ""])
def test_a_wrong_range_is_not_believed(partner: Partner, rig: HttpRig, content_range: str) -> None:
    def serve(handler: Handler, offer: Any) -> None:
        if handler.headers.get("Range"):
            handler.send(206, b"wrong bytes", **{"Content-Range": content_range, "ETag": offer.etag})
        else:
            serve_file(handler, offer)

    offer = partner.add("a.csv", _DATA, serve=serve)
    part = rig.part()
    part.restart(offer.etag)
    part.write(_DATA[:10])
    part.close()
    source = rig.partner(partner.url)
    (item,) = source.list()
    assert rig.take(source, item) == _DATA


def test_a_range_that_nobody_asked_for_is_unfit(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", _DATA, serve=answer(206, _DATA, Content_Range=f"bytes 0-{len(_DATA) - 1}/{len(_DATA)}"))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "range")


def _digest_headers(data: bytes) -> list[dict[str, str]]:
    sha256, md5 = hashlib.sha256(data), hashlib.md5(data)
    coded = base64.b64encode(sha256.digest()).decode()
    return [
        {"Content-Digest": f"sha-512=:AAAA:, sha-256=:{coded}:"}, {"Repr-Digest": f"sha-256=:{coded}:"},
        {"Content-MD5": base64.b64encode(md5.digest()).decode()}, {"X-Checksum-Sha256": sha256.hexdigest().upper()},
    ]  # fmt: skip


@pytest.mark.parametrize("kind", range(4))
def test_digests_of_headers_are_verified(partner: Partner, rig: HttpRig, kind: int) -> None:
    good = partner.add("a.csv", _DATA, headers=_digest_headers(_DATA)[kind])
    good.listed = {"sha256": None, "size": None}
    partner.add("b.csv", _DATA, headers=_digest_headers(b"other")[kind], listed=good.listed)
    source = rig.partner(partner.url)
    first, second = source.list()
    assert (first.size, first.digest) == (None, "")
    assert rig.take(source, first) == _DATA
    failure(Unfit, lambda: rig.take(source, second), "was announced")


def test_a_file_that_is_watched(partner: Partner, rig: HttpRig) -> None:
    source = rig.partner(partner.url, list=f"{partner.url}/files/rates%20x.csv", form="file", items=None)
    assert list(source.list()) == [], "it is not there yet"
    offer = partner.add("rates x.csv", _DATA)
    (item,) = source.list()
    assert item[:2] == ("rates x.csv", "rates x.csv") and item.version == offer.etag and item.size == len(_DATA)
    assert rig.take(source, item) == _DATA
    offer.data = b"newer"
    failure(Unfit, lambda: rig.take(source, item, "2"), "changed")
    (newer,) = source.list()
    assert newer.version != item.version
    assert rig.take(source, newer, "3") == b"newer"
    assert {one.method for one in partner.log()} == {"HEAD", "GET"}


def test_a_file_is_watched_by_its_date_and_without_head(partner: Partner, rig: HttpRig) -> None:
    def serve(handler: Handler, offer: Any) -> None:
        if handler.command == "HEAD":
            handler.send(405)
        else:
            serve_file(handler, offer)

    offer = partner.add("a.csv", _DATA, serve=serve, headers={"ETag": ""})
    source = rig.partner(partner.url, list=f"{partner.url}/files/a.csv", form="file", items=None)
    (item,) = source.list()
    assert item.version.endswith("GMT")
    offer.changed += 60
    failure(Unfit, lambda: rig.take(source, item), "changed")
    offer.headers["Last-Modified"] = ""
    failure(Refused, lambda: list(source.list()), "neither ETag nor Last-Modified")


def test_urls_from_a_template_and_names_from_urls(partner: Partner, rig: HttpRig) -> None:
    partner.add("a b.csv", _DATA, id="x/../y", listed={"links": {}})
    source = rig.partner(partner.url, url=f"{partner.url}/files/{{id}}")
    (item,) = source.list()
    assert item.url == f"{partner.url}/files/x%2F..%2Fy"
    assert rig.take(source, item) == _DATA
    partner.offers["x/../y"].listed = {"name": None, "links": {"self": "/files/some%20name.csv?sig=1#part"}}
    (item,) = source.list()
    assert (item.name, item.url) == ("some name.csv", f"{partner.url}/files/some%20name.csv?sig=1")


def test_the_partner_runs_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x")
    program = Path(__file__).parents[1] / "support" / "partner.py"
    with subprocess.Popen(
        [sys.executable, str(program), "--folder", str(tmp_path), "--log", str(tmp_path / "log")],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            found = requests.get(f"{url}/api/outbox", auth=(USER, PASSWORD), timeout=5)
        finally:
            process.kill()
    assert [one["name"] for one in found.json()["files"]] == ["a.csv"]
    assert json.loads((tmp_path / "log").read_text())[1:] == ["GET", "/api/outbox", 200]
