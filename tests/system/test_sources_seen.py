"""What an operator sees of sources, and can do about them."""

from __future__ import annotations

import re
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
