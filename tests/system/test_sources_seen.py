"""What an operator sees of sources, and can do about them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.daemon import inboxd, inboxd_json, run_daemon
from support.partner import PASSWORD, Partner, answer, drip
from support.site import Site
from support.sourcing import of_partner, with_sources
from support.wait import wait_until


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as started:
        yield started


def source(site: Site, name: str = "acme") -> dict[str, Any]:
    """Its row of `inboxd status`."""
    return next(row for row in inboxd_json(site.config, "status")["sources"] if row["source"] == name)


def test_status_tells_of_sources_and_downloads(site: Site, partner: Partner) -> None:
    partner.add("ok-1.csv", b"1")
    partner.add("slow.csv", b"x" * 10_000, serve=drip(0.02))
    partner.add("gone.csv", b"2", serve=answer(404))
    with_sources(site, {"acme": of_partner(partner, every="1h")})
    with run_daemon(site.config) as daemon:
        daemon.wait_event("item.abandoned")
        wait_until(lambda: partner.acked() == ["ok-1.csv"], "the acknowledgement")
        row = wait_until(lambda: (found := source(site))["ack_due"] == 0 and found, "its record")
        assert row["address"] == f"{partner.url}/api/outbox"
        assert (row["inbox"], row["kind"], row["rests"], row["condition"]) == ("main", "http", False, "fetching 1")
        assert (row["listed"], row["new"], row["fetching"], row["abandoned"]) == (3, 3, 1, 1)
        assert 3000.0 < row["next_poll"] < 4000.0
        (download,) = wait_until(
            lambda: [one for one in inboxd_json(site.config, "status")["downloads"] if one["rate"]], "a rate"
        )
        assert (download["source"], download["file"], download["size"]) == ("acme", "slow.csv", 10_000)
        assert 0 < download["bytes"] < 10_000
        assert 0 < download["percent"] < 100
        assert 0 < download["rate"] < 1000
        assert download["eta"] > 1.0
        text = inboxd(site.config, "status").stdout
        assert re.search(r"acme +slow\.csv", text)
        assert PASSWORD not in text
    assert PASSWORD not in daemon.output()


def test_a_source_that_rests_is_named(site: Site, partner: Partner) -> None:
    partner.password = "another"
    with_sources(site, {"acme": of_partner(partner, retry={"first": "1h", "longest": "1h"})})
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.refused")
        row = source(site)
        assert row["rests"]
        assert re.search("refuses us, the next try is in .*401", row["condition"])
        wait_until(lambda: "source acme refuses us" in daemon.status(), "systemd's STATUS", timeout=15)


def test_a_pause_keeps_items_where_they_are(site: Site, partner: Partner) -> None:
    with_sources(site, {"acme": of_partner(partner)})
    with run_daemon(site.config):
        assert inboxd(site.config, "pause", "main").returncode == 0
        partner.add("ok-1.csv", b"1")
        row = wait_until(lambda: (found := source(site))["discovered"] and found, "its discovery")
        wait_until(lambda: "inbox main is paused" in source(site)["condition"], "the reason")
        assert row["fetching"] == 0


def test_a_quota_that_is_used_up_is_told(site: Site, partner: Partner) -> None:
    """By status, explain and poll, until when; and for as long as something waits for it."""
    for number in range(3):
        partner.add(f"ok-{number}.csv", b"1")
    with_sources(site, {"acme": of_partner(partner, every="1h", parallel=1, quota={"items": 2, "per": "1h"})})
    used_up = re.compile(r"its quota is used up, and no more comes for (59 min \d+ s|1 h 0 min)")
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.quota")
        wait_until(lambda: len(partner.acked()) == 2, "what the quota allows")
        assert used_up.search(explained(site, "acme"))
        assert used_up.search(explained(site, "acme")), "to have asked changes nothing"
        assert used_up.search(source(site)["condition"])
        assert used_up.search(inboxd(site.config, "poll", "acme").stdout)
        wait_until(lambda: len(partner.log("/api/outbox")) >= 2, "the poll")
        wait_until(lambda: "polling" not in source(site)["condition"], "its end")
        assert used_up.search(source(site)["condition"])
        with_sources(site, {"acme": of_partner(partner, every="1h", quota={"items": 3, "per": "1h"})})
        assert inboxd(site.config, "reload").returncode == 0
        wait_until(lambda: len(partner.acked()) == 3, "the rest")
        wait_until(lambda: source(site)["condition"] == "waits", "its end")


def test_a_pause_is_told_at_once(site: Site, partner: Partner) -> None:
    with_sources(site, {"acme": of_partner(partner, every="1h")})
    with run_daemon(site.config):
        wait_until(lambda: (row := source(site))["listed"] == 0 and row["condition"] == "waits", "a poll")
        assert inboxd(site.config, "pause", "main").returncode == 0
        assert explained(site, "acme").startswith("source acme: inbox main is paused")
        assert source(site)["condition"] == "inbox main is paused"
        assert inboxd(site.config, "resume", "main").returncode == 0
        assert source(site)["condition"] == "waits"


def explained(site: Site, word: str) -> str:
    return " ".join(inboxd_json(site.config, "explain", word)["why"])


def test_explain_a_source_and_its_items(site: Site, partner: Partner) -> None:
    partner.add("wrong.csv", b"1", listed={"sha256": "0" * 64})
    partner.add("gone.csv", b"2", serve=answer(404))
    partner.add("unheard", b"3", id="id-7").name = "ok-7.csv"
    partner.acking = answer(500)
    with_sources(site, {"acme": of_partner(partner, every="1h", retry={"first": "1h", "longest": "1h"})})
    with run_daemon(site.config) as daemon:
        for event in ("item.abandoned", "item.waiting", "item.ack-waiting"):
            daemon.wait_event(event)
        whole = explained(site, "acme")
        assert re.search(r"the last listing came .* ago: 3 items, 3 of them new", whole)
        assert re.search(r"the next poll is in (1 h|5\d min)", whole)
        assert re.search(r"items: .*1 given up", whole)
        assert re.search(r"'wrong.csv' of source acme could not be fetched in attempt 1 \(.*\); again in .* min", whole)
        assert re.search(r"'gone.csv' of source acme was given up in attempt 1 .*`inboxd poll acme --again", whole)
        answered = inboxd_json(site.config, "explain", "id-7")
        assert [item["state"] for item in answered["items"]] == ["ACK_DUE"]
        assert re.search("to tell the source failed once .*500", answered["why"][0])
        file_id = answered["file"]["id"]
        assert "id-7" in explained(site, "ok-7.csv")
        assert "id-7" in explained(site, file_id[:16])
        assert "id-7" in explained(site, str(site.root() / "inbound" / "ok-7.csv"))
        shown = inboxd_json(site.config, "show", file_id)["item"]
        assert (shown["item"], shown["source"], shown["state"]) == ("id-7", "acme", "ACK_DUE")
        assert "acknowledgement: due" in inboxd(site.config, "show", file_id).stdout
        (waiting,) = inboxd_json(site.config, "explain", "wrong.csv")["items"]
        refused = inboxd(site.config, "show", waiting["id"])
        assert (refused.returncode, "no file yet" in refused.stderr) == (64, True)
        unknown = inboxd(site.config, "explain", "nosuch")
        assert (unknown.returncode, "is no source and no item" in unknown.stderr) == (64, True)


def test_explain_a_part(site: Site, partner: Partner) -> None:
    partner.add("slow.csv", b"x" * 10_000, serve=drip(0.02))
    with_sources(site, {"acme": of_partner(partner, every="1h")})
    with run_daemon(site.config):
        (part,) = wait_until(lambda: list((site.root() / "incoming").glob("*.part")), "its part")
        assert "item 'slow.csv' of source acme is being fetched, in attempt 1" in explained(site, str(part))
        assert "it is not there" in explained(site, str(part.with_name("nosuch.part")))


def test_poll_now(site: Site, partner: Partner) -> None:
    with_sources(site, {"acme": of_partner(partner, every="1h", retry={"first": "1h", "longest": "1h"})})
    with run_daemon(site.config) as daemon:
        wait_until(lambda: source(site)["polled_at"], "its first listing")
        wrong = partner.add("wrong.csv", b"1", listed={"sha256": "0" * 64})
        gone = partner.add("gone.csv", b"2", serve=answer(404))
        left = partner.add("left.csv", b"3", serve=answer(404))
        assert inboxd_json(site.config, "poll", "acme")["hurried"] == 0
        daemon.wait_event("item.waiting")
        wait_until(lambda: len(daemon.events("item.abandoned")) == 2, "two that are given up")
        wait_until(lambda: source(site)["abandoned"] == 2, "their rows")
        gone.serve = left.serve = None
        (named,) = inboxd_json(site.config, "explain", "wrong.csv")["items"]
        assert named["not_before"] > named["discovered_at"]
        answered = inboxd(site.config, "poll", "acme", "--again", "gone.csv", "nosuch", "--json")
        assert answered.returncode == 1
        told = json.loads(answered.stdout)
        assert (told["hurried"], told["renewed"], list(told["refused"])) == (1, ["gone.csv"], ["nosuch"])
        wait_until(lambda: site.listed("processed") == ["gone.csv"], "the one that was named")
        wait_until(lambda: len(daemon.events("item.waiting")) == 2, "another try of the one that waited")
        assert wrong.id not in partner.acked()
        assert "left.csv" in inboxd(site.config, "poll", "acme", "--again").stdout
        wait_until(lambda: site.listed("processed") == ["gone.csv", "left.csv"], "the other one")
        assert inboxd(site.config, "poll", "nosuch").returncode == 64


def test_poll_wakes_a_source_that_rests(site: Site, partner: Partner) -> None:
    partner.password = "another"
    partner.add("ok-1.csv", b"1")
    with_sources(site, {"acme": of_partner(partner, retry={"first": "1h", "longest": "1h"})})
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.refused")
        partner.password = PASSWORD
        assert inboxd(site.config, "poll", "acme").returncode == 0
        daemon.wait_event("source.back", source="acme")
        wait_until(lambda: site.listed("processed") == ["ok-1.csv"], "its item")


def test_a_long_fetch_is_told_of(site: Site, partner: Partner) -> None:
    """Takes as long as it says."""
    partner.add("slow.csv", b"x" * 10_000, serve=drip(0.02))
    with_sources(site, {"acme": of_partner(partner, every="1h")})
    with run_daemon(site.config) as daemon:
        begun = wait_until(lambda: partner.log("/files/"), "the fetch")[0].at
        told = daemon.wait_event("fetch.progress", timeout=60, source="acme", file="slow.csv")
        assert re.search(r"main/slow.csv from acme: .* of 9.8KiB \(.* %\), .*/s, .* left", told["message"])
        assert time.time() - begun >= 29.0
        assert len(daemon.events("fetch.progress")) == 1
