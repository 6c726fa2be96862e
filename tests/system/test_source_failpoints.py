"""The daemon is killed at every named point while items are under way, and so are its fetchers: each item comes once.

The names come from the code, as in test_failpoints.py; here they are reached by items of a source.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import psutil
import pytest

from inboxd.custody.failpoints import STEPS
from support.daemon import Daemon, run_daemon
from support.faults import fault, scale
from support.partner import Partner, broken_off
from support.postgres import Postgres
from support.site import Site
from support.sound import wait_finished
from support.sourced import assert_sound_with, connect, fetchers, offer, wait_states
from support.wait import wait_until

IN_FLOW = sorted(name for name in STEPS if name.startswith(("poll.", "fetch.", "ack.", "claim.", "decide.")))
IN_DELIVERY = ["deliver.recorded", "deliver.renamed", "deliver.synced"]
IN_OTHER_DELIVERIES = ["deliver.sidecar", "deliver.results", "deliver.redirected"]
IN_RECOVERY = sorted(name for name in STEPS if name.startswith("recover."))
COUNT = 16
#: The first pass with one kind of acknowledgement, the third with the other.
PASSES = [(name, when) for name in [*IN_FLOW, *IN_DELIVERY] for when in ("held", "processed")]


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as server:
        yield server


def _load(site: Site, partner: Partner, when: str, durability: str = "full") -> None:
    """Small ones, one that is broken off in its middle, and one in small pieces."""
    site.write(durability=durability)
    connect(site, partner, when=when, parallel=2)
    offer(partner, COUNT - 1)
    partner.add("whole.dat", bytes(range(256)) * 4_000, serve=broken_off(0.5))


def _is_done(site: Site) -> bool:
    return len(site.listed("processed")) == COUNT


def _run_until_killed(site: Site, partner: Partner, failpoint: str) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": failpoint}, ready=False) as daemon:
        wait_until(lambda: daemon.process.poll() is not None or _is_done(site), f"its death at {failpoint}", 60, 0.03)
        daemon.kill()
    assert_sound_with(site, partner)


def _finish(site: Site, partner: Partner) -> None:
    """Restart, let everything end, and check."""
    with run_daemon(site.config) as daemon:
        wait_finished(site, COUNT, timeout=60)
        wait_states(site, timeout=60, ACKED=COUNT)
        wait_until(lambda: not list((site.root() / "incoming").glob("*.part*")), "an empty incoming/")
        assert daemon.stop() == 0
    assert site.listed("processed") == sorted(one.name for one in partner.offers.values())
    ids = {(line["name"], line["id"]) for line in site.witnessed("start")}
    assert len(ids) == COUNT
    assert_sound_with(site, partner, finished=True)


@fault(
    "Process death",
    "the daemon is killed at an arrow of a source's item",
    how="SIGKILL at each failpoint",
    shows="each item comes once, and is acknowledged",
)
@pytest.mark.parametrize(("name", "when"), scale(PASSES[::4] + PASSES[3::4], PASSES))
def test_killed_in_the_flow(site: Site, partner: Partner, name: str, when: str) -> None:
    """At the first pass with one kind of acknowledgement, at the third with the other."""
    _load(site, partner, when)
    _run_until_killed(site, partner, f"{name}:kill@{1 if when == 'held' else 3}")
    _finish(site, partner)


@pytest.mark.parametrize("failpoint", IN_OTHER_DELIVERIES)
def test_killed_where_only_some_files_pass(site: Site, partner: Partner, failpoint: str) -> None:
    """An item that ends in errors/, one that leaves results, and one whose name is taken."""
    connect(site, partner, when="processed")
    for name in ("reject-a.dat", "results-a.dat", "ok-taken.dat"):
        partner.add(name, name.encode())
    taken = site.root() / "processed" / "ok-taken.dat"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"another's")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{failpoint}:kill"}, ready=False) as daemon:
        wait_until(lambda: daemon.process.poll() is not None, f"its death at {failpoint}", 60, 0.03)
    with run_daemon(site.config) as daemon:
        wait_states(site, timeout=60, ACKED=2, HELD=1)
        assert daemon.stop() == 0
    taken.unlink()  # the checker knows nothing of what others have put there
    assert site.listed("outbound") == ["one-results-a.dat", "two-results-a.dat"]
    assert set(partner.acked()) == {"ok-taken.dat", "results-a.dat"}  # again, where the kill came before the record
    assert_sound_with(site, partner, finished=True)


@fault(
    "Process death",
    "the daemon is killed while it recovers items",
    how="SIGKILL at two failpoints, then at each of recovery's",
    shows="each item comes once, and is acknowledged",
)
@pytest.mark.parametrize("broken_at", scale(["fetch.recorded"], ["claim.renamed", "fetch.recorded"]))
@pytest.mark.parametrize("name", IN_RECOVERY)
def test_killed_in_recovery(site: Site, partner: Partner, name: str, broken_at: str) -> None:
    _load(site, partner, "processed" if broken_at == "claim.renamed" else "held")
    for failpoint in (f"{broken_at}:kill@2", f"{name}:kill"):
        _run_until_killed(site, partner, failpoint)
    _finish(site, partner)


@pytest.mark.parametrize(
    "name", ["fetch.recorded", "fetch.learned", "claim.announced", "claim.recorded", "ack.recorded"]
)
def test_killed_on_postgresql(site: Site, partner: Partner, postgres: Postgres, name: str) -> None:
    site.write(ledger=postgres.url(postgres.create()))
    _load(site, partner, "processed")
    _run_until_killed(site, partner, f"{name}:kill")
    _finish(site, partner)


@fault(
    "Process death",
    "fetchers are killed at random",
    how="SIGKILL under load",
    shows="each costs its item one failure at most",
)
def test_fetchers_are_killed_under_load(site: Site, partner: Partner) -> None:
    """Each kill costs at most the item in progress one failure; no other item hears of it."""
    connect(site, partner, retry={"max_failures": 30, "first": "1ms", "longest": "10ms"}, parallel=2)
    offer(partner, 300, size=20_000)
    dice = random.Random(3)
    with run_daemon(site.config) as daemon:
        kills = sum(_kill_one(daemon, dice) for _ in range(20))
        wait_states(site, timeout=120, ACKED=300)
        wait_finished(site, 300, timeout=60)
        charged = daemon.events("item.waiting")
        assert daemon.stop() == 0
    assert len(charged) <= kills
    assert_sound_with(site, partner, finished=True)


def _kill_one(daemon: Daemon, dice: random.Random) -> bool:
    found = wait_until(lambda: list(filter(_is_connected, fetchers(daemon))), "a fetcher at work", 60)
    time.sleep(dice.uniform(0.0, 0.1))  # the fault's instant, not a wait for anything
    with contextlib.suppress(psutil.NoSuchProcess):
        dice.choice(found).kill()
        return True
    return False


def _is_connected(fetcher: psutil.Process) -> bool:
    """One that is killed sooner is taken for a fetcher that can't start, and rests longer each time."""
    try:
        return bool(fetcher.net_connections("tcp"))
    except psutil.Error:
        return False


@fault(
    "Ledger",
    "PostgreSQL goes away under load, with items of a source",
    how="the server is stopped and started, four times",
    shows="no restart is needed, and nothing runs twice",
)
def test_the_ledger_goes_away_under_load(site: Site, partner: Partner, postgres: Postgres) -> None:
    """Several times, at any line: nothing is forgotten, neither of files nor of items, and no restart is needed."""
    site.write(ledger=postgres.url(postgres.create()))
    connect(site, partner, when="processed")
    offer(partner, 400)
    with run_daemon(site.config) as daemon:
        for number in range(4):
            wait_finished(site, 40 * number + 10, timeout=60)
            postgres.stop()
            try:
                wait_until(lambda n=number: len(daemon.events("daemon.degraded")) > n, "degraded", 60, 0.05)
            finally:
                postgres.start()
            wait_until(lambda n=number: len(daemon.events("daemon.resumed")) > n, "resumed", 60, 0.05)
        wait_finished(site, 400, timeout=90)
        wait_states(site, timeout=90, ACKED=400)
        assert daemon.stop() == 0
    assert_sound_with(site, partner, calm=True, finished=True)
