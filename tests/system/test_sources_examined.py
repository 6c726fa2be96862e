"""doctor SOURCE and check --connect: what would be fetched, with nothing changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.model import Ending
from inboxd.pool.trial import trial_poll
from inboxd.wire import SourceSetup, SourceSpec
from support.daemon import inboxd, inboxd_json, run_daemon
from support.partner import PASSWORD, Partner, silent_port
from support.site import Site
from support.sourcing import of_partner, with_sources
from support.wait import wait_until


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as started:
        yield started


def test_the_doctor_tells_what_would_be_fetched(site: Site, partner: Partner) -> None:
    with_sources(site, {"acme": of_partner(partner, every="1h", match=["*.csv"], max_size="1KiB")})
    partner.add("ok-0.csv", b"0")
    with run_daemon(site.config) as daemon:
        wait_until(lambda: partner.acked() == ["ok-0.csv"], "the first item")
        for number in range(1, 8):
            partner.add(f"ok-{number}.csv", b"1")
        partner.add("notes.txt", b"2")
        partner.add("large.csv", b"3" * 2000)
        partner.add("odd", b"4", id="x\x07y")
        wait_until(lambda: inboxd_json(site.config, "status")["sources"][0]["ack_due"] == 0, "the record")
        asked = len(partner.log("/files/"))
        before = inboxd_json(site.config, "status")["sources"][0]
        answer = inboxd_json(site.config, "doctor", "acme")
        (found,) = answer["sources"]
        assert (answer["problems"], found["problem"]) == ([], None)
        assert (found["items"], found["skipped"], found["cut"], found["twice"]) == (10, 1, False, False)
        assert (found["fresh"], found["names"]) == (7, [f"ok-{number}.csv" for number in range(1, 6)])
        assert found["known"] == {"acked": 1}
        assert found["left_out"] == 2
        assert {one["name"]: "max_size" in one["why"] for one in found["reasons"]} == {
            "notes.txt": False,
            "large.csv": True,
        }
        assert "would be fetched: 7: ok-1.csv" in inboxd(site.config, "doctor", "acme").stdout
        after = inboxd_json(site.config, "status")["sources"][0]
        assert {**before, "next_poll": 0} == {**after, "next_poll": 0}
        assert len(partner.log("/files/")) == asked
        assert partner.acked() == ["ok-0.csv"]
        assert os.listdir(site.root() / "incoming") == []
        assert inboxd(site.config, "doctor", "nosuch").returncode == 64
        partner.password = "another"
        refused = inboxd(site.config, "doctor", "acme")
        assert refused.returncode == 1
        assert "401" in refused.stdout
        assert not inboxd_json(site.config, "status")["sources"][0]["rests"], "a trial is no failure"
        assert daemon.stop() == 0
    assert PASSWORD not in daemon.output() + refused.stdout + refused.stderr


def test_check_connects_without_a_daemon(site: Site, partner: Partner) -> None:
    partner.add("ok-1.csv", b"1")
    with_sources(site, {"acme": of_partner(partner), "other": of_partner(partner, {"list": f"{partner.url}/nosuch"})})
    alone = inboxd(site.config, "check", "--connect", "acme")
    assert alone.returncode == 0, alone.stdout
    assert "would be fetched: 1: ok-1.csv" in alone.stdout
    assert "source other" not in alone.stdout
    everything = inboxd(site.config, "check", "--connect")
    assert everything.returncode == 1
    assert "source acme at" in everything.stdout
    assert "source other at" in everything.stdout and "404" in everything.stdout
    assert inboxd(site.config, "check", "--connect", "nosuch").returncode == 64
    assert not site.state.exists()
    assert not (site.root() / "incoming").exists()
    asked = len(partner.log())
    assert inboxd(site.config, "check").returncode == 0
    assert len(partner.log()) == asked, "only when told to"


def test_check_knows_the_ledger_of_a_stopped_daemon(site: Site, partner: Partner) -> None:
    partner.add("ok-1.csv", b"1")
    with_sources(site, {"acme": of_partner(partner)})
    with run_daemon(site.config):
        wait_until(partner.acked, "the item")
        wait_until(lambda: inboxd_json(site.config, "status")["sources"][0]["ack_due"] == 0, "the record")
    assert "known already: 1 acked" in inboxd(site.config, "check", "--connect").stdout
    (site.state / "ledger.sqlite").write_bytes(b"no ledger" * 1000)
    damaged = inboxd(site.config, "check", "--connect")
    assert "what is known already can't be told" in damaged.stdout
    assert "would be fetched: 1" in damaged.stdout


def spec(kind: str, place: dict[str, object]) -> SourceSetup:
    return SourceSetup("acme", SourceSpec(kind, place, connect=60.0, idle=60.0, total=60.0))


def test_a_source_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with silent_port() as port:
        place = {"host": "127.0.0.1", "port": port, "user": "u", "password": PASSWORD, "path": "/", "tls": "none",
                 "cleartext": True, "after": "leave", "authority": None, "when": "held"}  # fmt: skip
        with trial_poll(spec("ftp", place), "main", (), patience=1.5) as (report, listed):
            assert (report.ending, list(listed)) == (Ending.TIMED_OUT, [])
    assert report.message == "it has not answered in full within 2 s"
    assert 1.0 < report.seconds < 20.0


def test_a_fetcher_that_dies_has_last_words() -> None:
    with trial_poll(spec("http", {}), "main", (), patience=20.0) as (report, listed):
        assert list(listed) == []
    assert report.ending is Ending.CRASHED
    assert "its fetcher ended: KeyError" in report.message
