"""Why a server refuses one result or item: its own words, without a secret of ours, however it says that back."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from inboxd.fetch.errors import Refused, Unfit
from inboxd.fetch.http import HttpSource
from inboxd.wire import OrderedItem, SourceSpec
from support.receiver import Receiver, Taking, accept
from support.sending import Sender, refusal

SECRET = 'canary/9b"1e+ü&Z'
PAIR = base64.b64encode(f"us:{SECRET}".encode()).decode()
_AUTH = {"basic": {"user": "us", "password": SECRET}}
_JSON, _PROBLEM = "application/json", "application/problem+json"


class Rig(Sender):
    """Destinations at one receiver, and a source that is it."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self.receiver = receiver
        super().__init__("http", {
            "url": f"{receiver.url}/in/{{name}}", "method": "PUT", "content_type": "text/csv", "headers": {},
            "auth": _AUTH, "certificate": None, "authority": None, "known": [], "cleartext": False,
        }, folder)  # fmt: skip

    def said(self, take: Callable[[Taking], None], **place: Any) -> str:
        """What is told of a result that is refused."""
        self.receiver.take = take
        destination = self.destination(**place)
        return str(refusal(Unfit, lambda: self.send(destination, self.result())))

    def source(self, **place: Any) -> HttpSource:
        """With acknowledgements."""
        url = f"{self.receiver.url}/ack/{{id}}"
        told = {
            "list": f"{self.receiver.url}/", "form": "auto", "items": None, "next": None, "url": None, "headers": {},
            "auth": _AUTH, "certificate": None, "authority": None, "redirects": "none", "origins": [],
            "ack": {"method": "POST", "url": url, "body": None, "when": "held", "gone": []}, "cleartext": False,
        }  # fmt: skip
        return HttpSource(SourceSpec("http", {**told, **place}, 2.0, 5.0, 20.0))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Receiver() as receiver:
        made = Rig(receiver, tmp_path)
        yield made
        made.close()


def _no(body: str | bytes, kind: str = "text/plain", status: int = 422) -> Callable[[Taking], None]:
    data = body.encode() if isinstance(body, str) else body
    return accept(status, data, Content_Type=kind)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_its_words_are_told(rig: Rig, status: int) -> None:
    told = rig.said(_no("field 3 is not a date", status=status))
    assert told.startswith(f"127.0.0.1:{rig.receiver.port} answered {status} ")
    assert told.endswith(": field 3 is not a date")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/plain; charset=utf-8", "\r\n \n Feld 3: kein Datum – ü \nmore", ": Feld 3: kein Datum – ü"),
        (_JSON, '{\n  "error": "no date",\n  "field": 3\n}', ': { "error": "no date", "field": 3 }'),
        (f"{_PROBLEM};x", '{"title": "no date"}', ': {"title": "no date"}'),
        ("text/plain", "x\x1b[31m\u202ey\x00", r": x\x1b[31m\u202ey\x00"),
        ("text/plain", "é" * 201, f": {'é' * 200}…"), ("text/plain", "é" * 200, f": {'é' * 200}"),
        ("text/html", "<html>no", ""), ("application/octet-stream", "no", ""), ("", "no", ""), ("text/plain", "\n \n", ""),
    ],
)  # fmt: skip
def test_what_is_told_of_a_body(rig: Rig, kind: str, body: str, words: str) -> None:
    told = rig.said(_no(body, kind))
    _, colon, said = told.partition(" answered 422 ")[2].partition(":")
    assert colon + said == words


# Our secrets


def _echo(form: Callable[[str], str], kind: str = "text/plain") -> Callable[[Taking], None]:
    def take(taking: Taking) -> None:
        _no(f"bad login {form(SECRET)} here, {taking.headers.get('Authorization')}, {taking.path}", kind)(taking)

    return take


@pytest.mark.parametrize(
    "form",
    [
        str, str.lower, quote, quote_plus, lambda text: quote(text, safe=""), lambda text: quote(text).lower(),
        lambda text: quote(quote(text)), json.dumps, lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(text).replace("/", "\\/"), html.escape, repr, lambda text: text[:12],
        lambda text: text[3:], " ".join, lambda text: text.encode().hex(),
        lambda text: base64.b64encode(text.encode()).decode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "place",
    [
        {}, {"auth": {"bearer": SECRET.replace("ü", "u")}}, {"auth": {"header": {"name": "X-Key", "value": SECRET}}},
        {"auth": None, "headers": {"X-Key": SECRET}},
    ],
)  # fmt: skip
def test_a_secret_that_is_said_back_is_not_told(rig: Rig, form: Callable[[str], str], place: dict[str, Any]) -> None:
    _check_untold(rig.said(_echo(form), **place))


@pytest.mark.parametrize("form", [lambda: PAIR, lambda: quote(PAIR), lambda: PAIR[:10], lambda: PAIR[4:]])
def test_a_part_of_a_login_is_not_told(rig: Rig, form: Callable[[], str]) -> None:
    _check_untold(rig.said(_echo(lambda _: form())))


def _check_untold(told: str) -> None:
    for bad in ("canary", "anary", "9b", "1e+", 'Z"', PAIR[:6], PAIR[6:12], "63616e"):
        assert bad.lower() not in told.lower(), told


def test_the_rest_is_told(rig: Rig) -> None:
    told = rig.said(_echo(str))
    assert told.endswith(": bad login … here, Basic …, /in/a.csv")


def test_tokens_in_a_url_are_secrets_too(rig: Rig) -> None:
    url = f"{rig.receiver.url}/hook/T0-canary-8842/{{name}}?key=canary-1&n={{id}}"
    assert rig.said(_echo(lambda _: ""), url=url, auth=None).partition("None, ")[2].startswith("/hook/…/a.csv?key=…&n=")


@pytest.mark.parametrize("secret", ["ab", "a"])
def test_where_a_short_one_may_be_nothing_is_told(rig: Rig, secret: str) -> None:
    auth = {"basic": {"user": "us", "password": secret}}
    assert "bad" not in rig.said(_no("a bad label"), auth=auth)
    assert rig.said(_no("no digit"), auth=auth).endswith(": no digit")


# How long it takes


def test_no_more_than_a_little_is_read(rig: Rig) -> None:
    def take(taking: Taking) -> None:
        taking.read()
        taking.wfile.write(b"HTTP/1.1 422 x\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\n")
        while not taking.receiver.ending.is_set():
            taking.wfile.write(b"x" * 65536)

    began = time.monotonic()
    assert rig.said(take).endswith("x" * 200 + "…")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("spans", [{"idle": 0.6}, {"total": 0.9}])
def test_a_body_that_does_not_come_changes_nothing(rig: Rig, spans: dict[str, float]) -> None:
    def take(taking: Taking) -> None:
        taking.read()
        taking.wfile.write(b"HTTP/1.1 422 x\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nno date")
        taking.receiver.ending.wait(20)

    rig.receiver.take = take
    destination, item, began = rig.destination(**spans), rig.result(), time.monotonic()
    refusal(Unfit, lambda: rig.send(destination, item, spans.get("total", 20.0)), "422 .*: no date")
    assert time.monotonic() - began < 3


# What is acknowledged


@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_refused_ack_says_why(rig: Rig, status: int) -> None:
    rig.receiver.take = _no(f"unknown item, {PAIR}", status=status)
    source = rig.source()
    told = str(refusal(Unfit, lambda: source.ack(OrderedItem(id="f1", item="7", name="a.csv"))))
    assert "unknown item, …" in told and str(status) in told
    source.close()


def test_a_place_that_refuses_all_says_only_that(rig: Rig) -> None:
    rig.receiver.take = _no("who are you", status=401)
    assert "who" not in str(refusal(Refused, lambda: rig.send(rig.destination(), rig.result())))
