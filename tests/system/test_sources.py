"""Items of a source, from the listing to the acknowledgement: the real daemon, its fetchers, and a partner on HTTP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from support.daemon import inboxd, run_daemon
from support.faults import fault
from support.load import dropped
from support.partner import Partner, answer, broken_off
from support.site import Site
from support.sound import wait_finished
from support.sourced import (
    NAME,
    assert_sound_with,
    connect,
    fetches,
    items,
    offer,
    source,
    states,
    wait_states,
)  # fmt: skip
from support.wait import wait_until


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as server:
        yield server


def _polls(partner: Partner) -> int:
    return sum(asked.status == 200 for asked in partner.log("/api/outbox") if asked.method == "GET")


def _await_polls(partner: Partner, more: int) -> None:
    before = _polls(partner)
    wait_until(lambda: _polls(partner) >= before + more, f"{more} more polls")


@pytest.mark.parametrize("durability", ["process", "full"])
@pytest.mark.parametrize("when", ["held", "processed", ""])
def test_a_hundred_items(site: Site, partner: Partner, when: str, durability: str) -> None:
    site.write(durability=durability)
    connect(site, partner, when=when)
    offers = offer(partner, 100)
    with run_daemon(site.config) as daemon:
        wait_finished(site, 100)
        wait_states(site, ACKED=100)
        _await_polls(partner, 2)
        assert daemon.stop() == 0
    assert sorted(partner.acked()) == sorted(one.id for one in offers if when)
    assert Counter(line["name"] for line in site.witnessed("start")) == Counter(one.name for one in offers)
    for one in offers:
        assert (site.root() / "processed" / one.name).read_bytes() == one.data
    assert len(fetches(partner)) == 100
    assert_sound_with(site, partner, calm=True, finished=True)


@fault(
    "Sources and destinations",
    "an acknowledgement too early",
    how="the partner looks at the ledger when it hears one",
    shows="bytes and row are safe before",
)
def test_an_ack_comes_after_the_row(site: Site, partner: Partner) -> None:
    """At the moment when the partner hears of it, the ledger has its file as CLAIMED or later."""
    found: list[str] = []

    def look(handler: object, id: str) -> None:
        known = {item["item"]: item["state"] for item in items(site)}
        found.append(known.get(id, "none"))
        answer(200)(handler)

    partner.acking = look
    connect(site, partner)
    offer(partner, 40)
    with run_daemon(site.config):
        wait_states(site, ACKED=40)
    assert Counter(found) == {"ACK_DUE": 40}
    assert_sound_with(site, partner, calm=True, finished=True)


def test_an_ack_waits_for_success(site: Site, partner: Partner) -> None:
    """What ends in errors/ is acknowledged after a retry that succeeds."""
    connect(site, partner, when="processed")
    offer(partner, 10)
    partner.add("fail-3-x.dat", b"fails three times")
    with run_daemon(site.config) as daemon:
        wait_finished(site, 11)
        wait_states(site, ACKED=10, HELD=1)
        _await_polls(partner, 2)
        assert "fail-3-x.dat" not in partner.acked()
        (held,) = [item for item in items(site) if item["state"] == "HELD"]
        told = inboxd(site.config, "explain", "fail-3-x.dat").stdout
        assert re.search(
            rf"its file ended in errors/ \(too many failures: .*\); `inboxd retry {held['id']}` runs", told
        )
        told = inboxd(site.config, "doctor").stdout
        assert f"source {NAME}: it is not told of 1 item whose file ended in errors/" in told
        site.base.joinpath("witness.py").write_text(
            site.base.joinpath("witness.py").read_text().replace("_for_a_while(_fail)", "lambda file: None")
        )
        assert inboxd(site.config, "reload").returncode == 0
        assert inboxd(site.config, "retry", held["id"]).returncode == 0
        wait_states(site, ACKED=11)
        assert partner.acked().count("fail-3-x.dat") == 1
        assert daemon.stop() == 0
    assert_sound_with(site, partner, finished=True, retried=frozenset([held["id"]]))


def test_a_restart_fetches_nothing_twice(site: Site, partner: Partner) -> None:
    connect(site, partner)
    offer(partner, 50)
    for _ in range(3):
        with run_daemon(site.config):
            wait_states(site, ACKED=50)
            _await_polls(partner, 2)
    assert len(fetches(partner)) == 50
    assert len(partner.acked()) == 50
    assert_sound_with(site, partner, finished=True)


def test_a_new_version_is_a_new_item(site: Site, partner: Partner) -> None:
    connect(site, partner)
    partner.add("a.dat", b"the first")
    first = dropped("main", b"a.dat", b"the first")
    with run_daemon(site.config):
        wait_states(site, ACKED=1)
        partner.offers["a.dat"].data = b"the second, which is longer"
        wait_states(site, ACKED=2)
        wait_finished(site, 2)
    contents = {(site.root() / "processed" / name).read_bytes() for name in site.listed("processed")}
    assert contents == {b"the first", b"the second, which is longer"}
    assert partner.acked() == ["a.dat", "a.dat"]
    assert_sound_with(site, partner, first, calm=True, finished=True)


@fault(
    "Sources and destinations",
    "other bytes than announced",
    how="a digest that does not fit",
    shows="not accepted, not acknowledged",
)
def test_a_wrong_digest(site: Site, partner: Partner) -> None:
    """Tried max_failures times, then given up; nobody is told that we have it."""
    connect(site, partner, retry={"max_failures": 3, "first": "10ms", "longest": "100ms"})
    offer(partner, 5)
    partner.add("bad.dat", b"not what was announced", listed={"sha256": "0" * 64})
    with run_daemon(site.config) as daemon:
        abandoned = daemon.wait_event("item.abandoned")
        wait_states(site, ACKED=5, ABANDONED=1)
        _await_polls(partner, 2)
        assert "sha256" in abandoned["message"]
        assert len(daemon.events("item.waiting")) == 2
    assert len(fetches(partner, "bad.dat")) == 3
    assert "bad.dat" not in partner.acked()
    assert_sound_with(site, partner, calm=True, finished=True)


def test_too_large(site: Site, partner: Partner) -> None:
    """Given up at once, whether its size was announced or not; and not a byte more than max_size comes."""
    connect(site, partner, max_size="2KiB")
    offer(partner, 5)
    partner.add("large.dat", b"x" * 5000)
    partner.add("silent.dat", b"y" * 5000, listed={"size": None})
    with run_daemon(site.config):
        wait_states(site, ACKED=5, ABANDONED=2)
        _await_polls(partner, 2)
    assert [len(fetches(partner, name)) for name in ("large.dat", "silent.dat")] == [1, 1]
    assert_sound_with(site, partner, calm=True, finished=True)


def test_gone_at_the_source(site: Site, partner: Partner) -> None:
    connect(site, partner)
    offer(partner, 3)
    partner.add("gone.dat", b"x", serve=answer(404))
    with run_daemon(site.config) as daemon:
        wait_states(site, ACKED=3, ABANDONED=1)
        assert daemon.events("item.abandoned")[0]["item"] == "gone.dat"
    assert len(fetches(partner, "gone.dat")) == 1
    assert_sound_with(site, partner, calm=True, finished=True)


@fault("Sources and destinations", "a source is away", how="nobody listens", shows="it rests, and resumes by itself")
def test_the_source_is_away(site: Site, partner: Partner) -> None:
    """Said once, and once that it is back; no item is charged; all come."""
    port = int(partner.url.rpartition(":")[2])
    connect(site, partner)
    partner.__exit__()
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.away", source=NAME)
        with Partner(port) as back:
            offer(back, 30)
            daemon.wait_event("source.back", source=NAME)
            wait_states(site, ACKED=30)
            wait_finished(site, 30)
            assert daemon.stop() == 0
        assert len(daemon.events("source.away")) == len(daemon.events("source.back")) == 1
        assert {item["failures"] for item in items(site)} == {0}
        assert_sound_with(site, back, calm=True, finished=True)


def test_the_source_goes_away_between_listing_and_items(site: Site, partner: Partner) -> None:
    """Its items are not charged for that, however often they are tried."""
    connect(site, partner)
    for one in offer(partner, 10):
        one.serve = answer(503)
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.away", source=NAME)
        wait_until(lambda: len(fetches(partner)) > 20, "more tries than max_failures allows")
        for one in partner.offers.values():
            one.serve = None
        wait_states(site, ACKED=10)
        wait_finished(site, 10)
        assert not daemon.events("item.abandoned")
        assert {item["failures"] for item in items(site)} == {0}
    assert_sound_with(site, partner, calm=True, finished=True)


def test_the_source_refuses_us(site: Site, partner: Partner) -> None:
    """A wrong password: said once, asked seldom; a new one lets all in."""
    connect(site, partner)
    offer(partner, 10)
    partner.password = "another"
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.refused", source=NAME)
        wait_until(lambda: len(partner.log("/api/outbox")) >= 3, "further tries")
        assert len(daemon.events("source.refused")) == 1
        assert not items(site)
        partner.password = "canary-p4ss-Xq7"
        daemon.wait_event("source.back", source=NAME)
        wait_states(site, ACKED=10)
        wait_finished(site, 10)
    assert_sound_with(site, partner, calm=True, finished=True)


@fault(
    "Sources and destinations",
    "acknowledgements fail",
    how="500 after success",
    shows="told again until it is heard; no second run",
)
def test_an_ack_that_fails_after_success(site: Site, partner: Partner) -> None:
    """The partner has recorded it and answers 500: it is told again; the file is processed once."""
    failed: set[str] = set()

    def fail_once(handler: object, id: str) -> None:
        status = 200 if id in failed else 500
        failed.add(id)
        answer(status)(handler)

    partner.acking = fail_once
    connect(site, partner)
    offers = offer(partner, 20)
    with run_daemon(site.config):
        wait_states(site, ACKED=20)
        wait_finished(site, 20)
    assert Counter(partner.acked()) == {one.id: 2 for one in offers}
    assert len(fetches(partner)) == len(site.witnessed("start")) == 20
    assert_sound_with(site, partner, calm=True, finished=True)


def test_the_doctor_tells_what_does_not_end_by_itself(site: Site, partner: Partner) -> None:
    partner.acking = answer(500)
    partner.add("unheard.dat", b"1")
    partner.add("gone.dat", b"2", serve=answer(404))
    connect(site, partner)
    with run_daemon(site.config):
        wait_until(lambda: any(item["state"] == "ACK_DUE" and item["failures"] > 2 for item in items(site)), "failures")
        wait_states(site, ACK_DUE=1, ABANDONED=1)
        answered = inboxd(site.config, "doctor")
    assert answered.returncode == 1
    assert re.search(
        rf"source {NAME}: to tell it what we have fails again and again, for 1 item \(.*500", answered.stdout
    )
    assert f"source {NAME}: given up: 1 item; see `inboxd explain {NAME}`" in answered.stdout


@pytest.mark.parametrize(("status", "lost"), [(410, False), (404, True)])
def test_an_ack_of_what_is_gone(site: Site, partner: Partner, status: int, lost: bool) -> None:
    """It was acknowledged before, as far as the partner is concerned; of 404 only if the answer to that was `lost`."""
    heard: set[str] = set()

    def once(handler: object, id: str) -> None:
        answer(500 if lost and id not in heard else status)(handler)
        heard.add(id)

    partner.acking = once
    connect(site, partner)
    offer(partner, 5)
    with run_daemon(site.config):
        wait_states(site, ACKED=5)
        wait_finished(site, 5)
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_wrong_ack_url_is_no_acknowledgement(site: Site, partner: Partner) -> None:
    """A first 404 says only that nobody is there: it is said, and told again under the right URL."""
    connect(site, partner, http={"ack": {"url": f"{partner.url}/api/nowhere/{{id}}"}}, when="")
    offer(partner, 5)
    with run_daemon(site.config) as daemon:
        waiting = daemon.wait_event("item.ack-waiting")
        assert "404" in waiting["message"]
        wait_finished(site, 5)
        wait_until(lambda: len(daemon.events("item.ack-waiting")) >= 15, "three tries of each")
        assert states(site) == {"ACK_DUE": 5}
        connect(site, partner)
        assert inboxd(site.config, "reload").returncode == 0
        wait_states(site, ACKED=5)
    assert sorted(partner.acked()) == sorted(partner.offers)
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_source_moves_to_another_inbox(site: Site, partner: Partner) -> None:
    """What it had listed there and not fetched is fetched here, and belongs here."""
    connect(site, partner, inbox={"parallel": 1}, quota={"items": 2, "per": "1h"})
    offer(partner, 6)
    with run_daemon(site.config):
        wait_states(site, ACKED=2, DISCOVERED=4)
        wait_finished(site, 2)
        rules = source(partner)
        site.inbox("main")
        site.inbox("other", sources={NAME: rules})
        assert inboxd(site.config, "reload").returncode == 0
        wait_states(site, ACKED=6)
        wait_until(lambda: len(site.listed("processed", "other")) == 4, "the rest, in its new inbox")
    with run_daemon(site.config) as daemon:  # rows and folders agree: nothing is called lost, nothing adopted
        assert not daemon.events("file.lost") and not daemon.events("file.adopted")


@fault("Sources and destinations", "a download is cut off", how="a reset after 99 %", shows="gone on from there")
def test_a_reset_at_99_percent(site: Site, partner: Partner) -> None:
    """Only the rest is asked for."""
    connect(site, partner)
    content = bytes(range(256)) * 40_000
    partner.add("whole.dat", content, serve=broken_off(0.99))
    with run_daemon(site.config):
        wait_states(site, ACKED=1)
        wait_finished(site, 1)
    first, second = fetches(partner, "whole.dat")
    assert "Range" not in first.headers
    begin = int(second.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert second.status == 206
    assert 0 < begin <= int(len(content) * 0.99)
    assert (site.root() / "processed" / "whole.dat").read_bytes() == content
    assert_sound_with(site, partner, calm=True, finished=True)


def test_pages(site: Site, partner: Partner) -> None:
    connect(site, partner, every="2s")
    offer(partner, 1_000, size=10)
    partner.page_size = 50
    with run_daemon(site.config):
        wait_states(site, timeout=100, ACKED=1_000)
        wait_finished(site, 1_000)
    pages = {asked.path for asked in partner.log("/api/outbox") if asked.method == "GET"}
    assert pages == {"/api/outbox", *(f"/api/outbox?page={number}" for number in range(2, 21))}
    assert len(fetches(partner)) == 1_000
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_listing_that_disappears_under_the_daemon_is_asked_for_again(site: Site, partner: Partner) -> None:
    """Somebody tidies incoming/: that is told, and nothing else happens."""
    connect(site, partner)
    offer(partner, 20)
    incoming = site.root() / "incoming"
    incoming.mkdir(parents=True, mode=0o700)
    with run_daemon(site.config) as daemon:

        def told_or_tidied() -> bool:
            for _ in range(100):
                for path in incoming.glob("*.listing"):
                    path.unlink(missing_ok=True)
            return bool(daemon.events("source.listing-lost", source=NAME))

        wait_until(told_or_tidied, "a listing to be missed", every=0.0)
        wait_states(site, ACKED=20)
        wait_finished(site, 20)
        assert daemon.stop() == 0
    assert_sound_with(site, partner, calm=True, finished=True)


def test_max_items(site: Site, partner: Partner) -> None:
    connect(site, partner, max_items=30)
    offer(partner, 50)
    partner.page_size = 20
    with run_daemon(site.config) as daemon:
        cut = daemon.wait_event("source.listing-cut", source=NAME)
        assert cut["items"] == 30
        wait_states(site, ACKED=30)
        _await_polls(partner, 4)
        assert states(site) == {"ACKED": 30}
    assert_sound_with(site, partner, calm=True)
