"""The daemon is killed at every point that results pass on their way to a destination: each arrives, none is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import psutil
import pytest

from inboxd.custody.failpoints import STEPS
from support.customer import LOST, Customer
from support.customers import assert_sound_to, send_to, wait_sends
from support.daemon import run_daemon
from support.faults import fault
from support.postgres import Postgres
from support.site import Site
from support.sound import wait_finished
from support.sourced import fetchers
from support.wait import wait_until

IN_FLOW = [*sorted(name for name in STEPS if name.startswith(("send.", "deliver."))), "decide.recorded"]
IN_RECOVERY = sorted(name for name in STEPS if name.startswith("recover."))
COUNT = 4


@pytest.fixture
def customer() -> Iterator[Customer]:
    with Customer() as server:
        yield server


def _load(site: Site, customer: Customer, **rules: object) -> None:
    """Files that leave two results each, one whose answer is lost; one that fails; and a name that is taken."""
    send_to(site, customer, match=["one-*"], inbox={"sent": "keep", **rules})
    site.write(durability="full")
    taken = site.root() / "processed" / "results-0.dat"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"another's")
    site.put((f"results-{number}.dat".encode(), b"%d" % number) for number in range(COUNT - 1))
    site.put([(b"reject-x.dat", b"x")])
    customer.answers["one-results-1.dat"] = [LOST]


def _is_done(site: Site) -> bool:
    return site.count("outbound") == 2 * (COUNT - 1)


def _run_until_killed(site: Site, customer: Customer, failpoint: str) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": failpoint}, ready=False) as daemon:
        wait_until(lambda: daemon.process.poll() is not None or _is_done(site), f"its death at {failpoint}", 60, 0.03)
        daemon.kill()
    _unforeign(site)
    assert_sound_to(site, customer)


def _unforeign(site: Site) -> None:
    """The checker knows nothing of what others have put there."""
    (site.root() / "processed" / "results-0.dat").unlink(missing_ok=True)


def _finish(site: Site, customer: Customer) -> None:
    with run_daemon(site.config) as daemon:
        wait_finished(site, COUNT)
        wait_sends(site, SENT=COUNT - 1)
        wait_until(lambda: _is_done(site), "all results in outbound/")
        assert daemon.stop() == 0
    assert customer.names() == [f"one-results-{number}.dat" for number in range(COUNT - 1)]
    assert len({(got.name, got.key) for got in customer.got}) == COUNT - 1, "one key each, whatever happened"
    assert_sound_to(site, customer, finished=True)


@fault(
    "Process death",
    "the daemon is killed at an arrow of a result",
    how="SIGKILL at each failpoint",
    shows="each arrives under one key; none is lost",
)
@pytest.mark.parametrize("failpoint", IN_FLOW)
def test_killed_at_every_point(site: Site, customer: Customer, failpoint: str) -> None:
    _load(site, customer)
    _run_until_killed(site, customer, f"{failpoint}:kill")
    _finish(site, customer)


@fault(
    "Process death",
    "the daemon is killed while it recovers results",
    how="SIGKILL at each of recovery's failpoints",
    shows="each arrives under one key; none is lost",
)
@pytest.mark.parametrize("failpoint", IN_RECOVERY)
def test_killed_in_recovery(site: Site, customer: Customer, failpoint: str) -> None:
    _load(site, customer)
    _run_until_killed(site, customer, "send.learned:kill@2")
    _run_until_killed(site, customer, f"{failpoint}:kill")
    _finish(site, customer)


def test_killed_on_postgresql(site: Site, customer: Customer, postgres: Postgres) -> None:
    site.write(ledger=postgres.url(postgres.create()))
    _load(site, customer)
    for failpoint in ("send.recorded:kill@2", "send.learned:kill", "send.finished:kill"):
        _run_until_killed(site, customer, failpoint)
    _finish(site, customer)


@fault(
    "Process death",
    "daemon and fetchers are killed while results are sent",
    how="SIGKILL at random instants",
    shows="each arrives under one key; none is lost",
)
def test_the_daemon_and_its_fetchers_are_killed_at_random(site: Site, customer: Customer) -> None:
    count, dice = 60, random.Random(11)
    send_to(site, customer, parallel=3, match=["one-*"])
    site.put((f"results-{number}.dat".encode(), b"%d" % number) for number in range(count))
    for _ in range(4):
        with run_daemon(site.config, ready=False) as daemon:
            end = time.monotonic() + dice.uniform(1.0, 2.5)
            while time.monotonic() < end and site.count("outbound") != 2 * count:
                for process in fetchers(daemon):
                    if dice.random() < 0.2:
                        try:
                            process.kill()
                        except psutil.NoSuchProcess:
                            pass
                time.sleep(0.05)  # the storm's own rhythm
            daemon.kill()
        assert_sound_to(site, customer)
    with run_daemon(site.config) as daemon:
        wait_finished(site, count)
        wait_sends(site, timeout=60, SENT=count)
        wait_until(lambda: site.count("outbound") == 2 * count, "all results in outbound/")
        assert daemon.stop() == 0
    assert len(customer.names()) == count
    assert_sound_to(site, customer, finished=True)
