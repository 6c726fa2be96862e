"""What is said to a partner, what its answers mean, and what is said to the user."""

from __future__ import annotations

import base64
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from inboxd.fetch.errors import Away, Gone, Refused, TooLarge, Unfit
from support.http_rig import HttpRig, failure, ordered
from support.partner import PASSWORD, USER, Partner, answer

_DATA = bytes(range(256)) * 400


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"basic": {"user": USER, "password": "pä:ss"}}, "Authorization", "Basic " + base64.b64encode("acme:pä:ss".encode()).decode()),
        ({"bearer": "t0ken"}, "Authorization", "Bearer t0ken"),
        ({"header": {"name": "X-Api-Key", "value": "k3y"}}, "X-Api-Key", "k3y"),
        (None, "X-Mine", "m1ne"),
    ],
)  # fmt: skip
def test_credentials(partner: Partner, rig: HttpRig, auth: Any, header: str, value: str) -> None:
    partner.guarded = False
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url, auth=auth, headers={"X-Mine": "m1ne"})
    (item,) = source.list()
    rig.take(source, item)
    source.ack(ordered(item))
    assert [one.headers[header] for one in partner.log()] == [value] * 3


def test_the_environment_is_not_asked(
    partner: Partner, rig: HttpRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    failure(Refused, lambda: list(rig.partner(partner.url, auth=None).list()), "401")
    assert "Authorization" not in partner.log()[0].headers


def test_acks_are_said_in_the_partners_way(partner: Partner, rig: HttpRig) -> None:
    partner.add("a&b.csv", b"x", id='1"2')
    source = rig.partner(partner.url)
    (item,) = source.list()
    ack = {"method": "POST", "url": f"{partner.url}/api/outbox/{{id}}/ack", "when": "held", "gone": [410]}

    def said(body: str, headers: dict[str, str]) -> tuple[bytes, str]:
        rig.partner(partner.url, ack={**ack, "body": body}, headers=headers).ack(ordered(item))
        return partner.log()[-1].body, partner.log()[-1].headers["Content-Type"]

    assert said('{"id": "{id}"}', {}) == (b'{"id": "1\\"2"}', "application/json")
    assert said("got {name} {other}", {}) == (b"got a&b.csv {other}", "text/plain; charset=utf-8")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert said("file={name}&x=1", form) == (b"file=a%26b.csv&x=1", "application/x-www-form-urlencoded")
    rig.partner(partner.url, ack=None).ack(ordered(item))
    assert len(partner.acked()) == 3


def test_what_was_acknowledged_before_is_a_yes(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url)
    (item,) = source.list()
    del partner.offers["a.csv"]
    failure(Unfit, lambda: source.ack(ordered(item)), "404.*check `ack.url`")  # nobody has told it yet
    source.ack(ordered(item)._replace(attempt=1))
    said = {"method": "POST", "url": f"{partner.url}/api/outbox/{{id}}/ack", "body": None, "when": "held"}
    rig.partner(partner.url, ack={**said, "gone": [404]}).ack(ordered(item))
    partner.acking = answer(410)
    partner.add("a.csv", b"x")
    failure(Unfit, lambda: rig.partner(partner.url, ack={**said, "gone": []}).ack(ordered(item)), "410")


def test_an_ack_that_failed_after_it_worked_is_said_again(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x")
    source = rig.partner(partner.url)
    (item,) = source.list()
    partner.acking = answer(500)
    failure(Away, lambda: source.ack(ordered(item)), "500 Internal Server Error")
    assert partner.acked() == ["a.csv"]
    partner.acking = answer(410)
    source.ack(ordered(item))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (404, Gone), (410, Gone), (400, Unfit), (451, Unfit), (204, Unfit), (302, Unfit), (304, Unfit),
     (408, Away), (425, Away), (429, Away), (500, Away), (503, Away), (599, Away)],
)  # fmt: skip
def test_whose_fault_it_is_when_an_item_fails(partner: Partner, rig: HttpRig, status: int, kind: type) -> None:
    partner.add("a.csv", b"x", serve=answer(status))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(kind, lambda: rig.take(source, item), str(status))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Refused), (403, Refused), (404, Refused), (301, Refused), (503, Away)]
)
def test_whose_fault_it_is_when_the_listing_fails(partner: Partner, rig: HttpRig, status: int, kind: type) -> None:
    partner.listing = answer(status)
    failure(kind, lambda: list(rig.partner(partner.url).list()), str(status))


def test_a_forbidden_item_is_not_a_forbidden_source(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", b"x", serve=answer(403))
    source = rig.partner(partner.url)
    (item,) = source.list()
    failure(Unfit, lambda: rig.take(source, item), "not the listing")
    partner.listing = answer(403)
    failure(Refused, lambda: rig.take(source, item), "403")


def test_a_pause_is_as_long_as_asked_for(partner: Partner, rig: HttpRig) -> None:
    source = rig.partner(partner.url)
    for said, least, most in (("7", 7, 7), (formatdate(time.time() + 100, usegmt=True), 90, 101), ("9" * 400, 86400, 86400),
                              (formatdate(time.time() - 100, usegmt=True), 0, 0)):  # fmt: skip
        partner.listing = answer(429, Retry_After=said)
        after = failure(Away, lambda: list(source.list())).after
        assert after is not None and least <= after <= most, said
    for said in ("soon", "-1", ""):
        partner.listing = answer(503, Retry_After=said)
        assert failure(Away, lambda: list(source.list())).after is None


def test_an_item_that_is_too_large_is_not_even_begun(partner: Partner, rig: HttpRig) -> None:
    partner.add("a.csv", _DATA)
    source = rig.partner(partner.url, {"max_size": 1000})
    (item,) = source.list()
    failure(TooLarge, lambda: rig.take(source, item), "102400 bytes, more than max_size")
    assert rig.part().size == 0


def test_a_source_that_is_set_up_wrongly_says_so(partner: Partner, rig: HttpRig, tmp_path: Path) -> None:
    def wrong(words: str, **place: Any) -> None:
        failure(Refused, lambda: list(rig.partner(partner.url, **place).list()), words)

    partner.add("a.csv", b"x")
    wrong("items.*JMESPath", items="files[")
    wrong("`items` finds an object", items="@")
    wrong("`items` finds nothing", items="fils[]")
    wrong("no id", items="files[].{url: name}")
    wrong("no url", items="files[].{id: id}")
    wrong("http://", list="http://partner.example/api")
    wrong("neither http nor https", list="ftp://127.0.0.1/")
    wrong("authority", authority=str(tmp_path / "none.pem"))
    wrong("client certificate", certificate={"file": str(tmp_path / "a"), "key": str(tmp_path / "b")})
    wrong("headers and auth", headers={"X-Bad": f"{PASSWORD}\r\nHost: x"})
    wrong("401", auth={"basic": {"user": USER, "password": "wrong"}})
    assert PASSWORD not in repr(rig.partner(partner.url))


def test_cleartext_credentials_are_allowed_when_said_so(rig: HttpRig) -> None:
    source = rig.partner("http://partner.invalid", {"connect": 0.5}, cleartext=True)
    failure(Away, lambda: list(source.list()), r"partner\.invalid")
    stranger = rig.partner("http://partner.invalid", {"connect": 0.5}, auth=None)
    failure(Away, lambda: list(stranger.list()), r"partner\.invalid")
