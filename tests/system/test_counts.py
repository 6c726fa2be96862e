"""Many files end to end: every one once, none left."""

from __future__ import annotations

import pytest

from support.daemon import run_daemon
from support.invariants import Footprint
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished


@pytest.mark.parametrize("count", [100, 500, 1_000])
def test_a_burst(site: Site, count: int) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(files(count))
        wait_finished(site, count)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


@pytest.mark.parametrize("durability", ["process", "full"])
def test_ten_thousand(site: Site, durability: str) -> None:
    """Half are there at start, half come while it works; afterwards the daemon holds no more than before."""
    site.write(durability=durability, workers={"processes": 2, "batch_size": 100})
    site.put(files(5_000, seed=1, prefix="old", size=200))
    with run_daemon(site.config) as daemon:
        site.drop_all(files(5_000, seed=2, prefix="new", size=200))
        wait_finished(site, 5_000)
        before = Footprint.of(daemon.pid)
        wait_finished(site, 10_000, timeout=90)
        assert_sound(site, calm=True, finished=True, daemon=daemon.pid, before=before)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_settled_by_quiet(site: Site) -> None:
    """The default policy, with files that are written in place and grow meanwhile."""
    site.inbox("main", settle={"quiet": "100ms"})
    with run_daemon(site.config):
        site.put(files(200, size=4_000))
        wait_finished(site, 200)
    assert_sound(site, calm=True, finished=True)


def test_two_inboxes_do_not_mix(site: Site) -> None:
    site.inbox("other")
    with run_daemon(site.config):
        site.drop_all(files(100, seed=1))
        site.drop_all(files(100, seed=2), inbox="other")
        wait_finished(site, 100, "main")
        wait_finished(site, 100, "other")
    assert_sound(site, calm=True, finished=True)
