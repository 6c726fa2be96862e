"""The daemon is killed at each arrow of each lifecycle, in the transaction that goes along it, and restarted.

The arrows come from the code. For each there is a way to it here; one that has none fails, and so does one whose way no
longer leads there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from inboxd.items import ITEM_TRANSITIONS
from inboxd.lifecycle import TRANSITIONS
from inboxd.sends import SEND_TRANSITIONS
from support.customer import Customer
from support.customers import assert_sound_to, send_to, wait_sends
from support.daemon import Daemon, inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.partner import Partner, answer, broken_off
from support.site import Site
from support.sound import assert_sound
from support.sourced import NAME, assert_sound_with, connect, wait_states
from support.wait import wait_until

KILLED = "the transaction is as if it had never begun; recovery or the next turn goes along the arrow again"


def ends(site: Site, failpoint: str, act: Callable[[Daemon], Any] = lambda _daemon: None) -> None:
    """A daemon that dies there, once `act` has led it there."""
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{failpoint}"}, ready=False) as daemon:
        act(daemon)
        assert daemon.wait(timeout=30) == -signal.SIGKILL, f"it never came to {failpoint}"
    assert_sound(site)


def finish(site: Site, **evidence: Any) -> None:
    """Restart, let everything end, and check."""
    with run_daemon(site.config) as daemon:
        wait_until(lambda: not site.listed("work") and not site.listed("inbound"), "every file's end")
        wait_until(lambda: _all_done(site), "every row's end")
        assert daemon.stop() == 0
    assert_sound(site, **{"finished": True, **evidence})


def _all_done(site: Site) -> bool:
    open_states = {"CLAIMING", "CLAIMED", "RUNNING", "WAITING", "DECIDED"}
    return not any(file["state"] in open_states for file in inboxd_json(site.config, "files")["files"])


def in_work(site: Site, name: str) -> str:
    """Where a file that is held lies."""
    (found,) = [file for file in inboxd_json(site.config, "files")["files"] if file["name"] == name]
    (entry,) = [one for one in os.listdir(site.root() / "work") if one.startswith(found["id"])]
    return str(site.root() / "work" / entry)


def drops(site: Site, *names: str) -> Callable[[Daemon], None]:
    return lambda _daemon: [site.drop(name, name.encode()) for name in names] and None


# The ways of a file


def plain(site: Site, verb: str, name: str = "ok-a.dat", count: int = 1) -> None:
    ends(site, f"files.{verb}:kill@{count}", drops(site, name))
    finish(site)


def is_gone_when_claimed(site: Site) -> None:
    ends(site, "claim.announced:kill", drops(site, "ok-a.dat"))
    (site.root() / "inbound" / "ok-a.dat").unlink()
    site.manifest.clear()
    ends(site, "files.abandon:kill")
    finish(site)


def is_strange(site: Site) -> None:
    (site.root() / "inbound").mkdir(parents=True)
    os.symlink("/etc/hostname", site.root() / "inbound" / "a-link")
    ends(site, "files.decide:kill")
    finish(site)


def is_given_back(site: Site) -> None:
    ends(site, "dispatch.recorded:kill", drops(site, "ok-a.dat"))
    ends(site, "files.release:kill")
    finish(site)


def is_a_twin_while_it_waits(site: Site) -> None:
    site.inbox("main", duplicates={"policy": "error"}, retry={"first": "1s", "longest": "2s"})

    def act(daemon: Daemon) -> None:
        site.drop("fail-1-x.dat", b"the same")
        daemon.wait_event("file.waiting")
        site.drop("ok-b.dat", b"the same")

    ends(site, "files.decide:kill@2", act)
    finish(site)


def is_lost_while_held(site: Site) -> None:
    ends(site, "claim.recorded:kill", drops(site, "ok-a.dat"))
    os.unlink(in_work(site, "ok-a.dat"))
    is_missed(site, "ok-a.dat")


def is_lost_while_it_waits(site: Site) -> None:
    site.inbox("main", retry={"first": "1h", "longest": "2h"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-x.dat", b"x")
        daemon.wait_event("file.waiting")
        daemon.kill()
    os.unlink(in_work(site, "fail-1-x.dat"))
    is_missed(site, "fail-1-x.dat")


def is_lost_when_decided(site: Site) -> None:
    processed, elsewhere = site.root() / "processed", site.root() / "elsewhere"

    def act(daemon: Daemon) -> None:
        daemon.wait_ready()
        processed.rename(elsewhere)
        site.drop("ok-a.dat", b"a")
        daemon.wait_event("daemon.degraded")
        os.unlink(in_work(site, "ok-a.dat"))
        elsewhere.rename(processed)

    with run_daemon(site.config, {"INBOXD_FAILPOINT": "files.lose:kill"}, ready=False) as daemon:
        act(daemon)
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    site.manifest.clear()
    id = site.witnessed("start")[0]["id"]
    finish(
        site, taken=frozenset([id])
    )  # a restart can't know who has moved it: it counts as taken by whoever reads processed/


def is_missed(site: Site, name: str) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "files.lose:kill"}, ready=False) as daemon:
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    with run_daemon(site.config) as daemon:
        assert daemon.events("file.lost", file=name)
        assert daemon.stop() == 0
    (row,) = inboxd_json(site.config, "files")["files"]
    assert row["state"] == "LOST"


def is_lost_before_its_run(site: Site) -> None:
    """It waits in the batch of a worker that is at the file before it."""
    site.workers(processes=1, batch_size=2)
    site.inbox("main", order="name")
    site.put([(b"sleep-2-x.dat", b"x"), (b"y.dat", b"y")])
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "files.lose:kill"}) as daemon:
        wait_until(lambda: site.witnessed("start"), "the first one's run")
        os.unlink(in_work(site, "y.dat"))
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    with run_daemon(site.config) as daemon:
        daemon.wait_event("file.lost", file="y.dat")
        wait_until(lambda: _all_done(site), "the other's end")
        assert daemon.stop() == 0
    assert {row["name"]: row["state"] for row in inboxd_json(site.config, "files")["files"]} == {
        "sleep-2-x.dat": "DONE", "y.dat": "LOST",
    }  # fmt: skip


def is_found_again(site: Site) -> None:
    ends(site, "claim.recorded:kill", drops(site, "ok-a.dat"))
    place, aside = in_work(site, "ok-a.dat"), site.root() / "aside"
    os.rename(place, aside)
    is_missed(site, "ok-a.dat")
    os.rename(aside, place)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "files.find:kill"}, ready=False) as daemon:
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    finish(site)


def is_undone(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("ok-a.dat", b"a")
        wait_until(lambda: _all_done(site) and site.listed("processed"), "its end")
        assert daemon.stop() == 0
    (row,) = inboxd_json(site.config, "files")["files"]
    os.rename(site.root() / "processed" / "ok-a.dat", site.root() / "work" / f"{row['id']}.dat")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "files.reopen:kill"}, ready=False) as daemon:
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    finish(site)
    assert len(site.witnessed("start")) == 1
    assert site.listed("processed") == ["ok-a.dat"]


def is_retried(site: Site) -> None:
    def act(daemon: Daemon) -> None:
        site.drop("reject-a.dat", b"a")
        wait_until(lambda: site.listed("errors") and _all_done(site), "the error")
        inboxd(site.config, "retry", "--errors")

    ends(site, "files.retry:kill", act)
    finish(site, retried=frozenset(line["id"] for line in site.witnessed("start")))


FILES: dict[tuple[str, str], Callable[[Site], None]] = {
    ("CLAIMING", "claim"): partial(plain, verb="claim"),
    ("CLAIMING", "abandon"): is_gone_when_claimed,
    ("CLAIMED", "dispatch"): partial(plain, verb="dispatch"),
    ("CLAIMED", "decide"): is_strange,
    ("CLAIMED", "lose"): is_lost_while_held,
    ("RUNNING", "decide"): partial(plain, verb="decide"),
    ("RUNNING", "wait"): partial(plain, verb="wait", name="fail-1-x.dat"),
    ("RUNNING", "release"): is_given_back,
    ("RUNNING", "lose"): is_lost_before_its_run,
    ("WAITING", "dispatch"): partial(plain, verb="dispatch", name="fail-1-x.dat", count=2),
    ("WAITING", "decide"): is_a_twin_while_it_waits,
    ("WAITING", "lose"): is_lost_while_it_waits,
    ("DECIDED", "deliver"): partial(plain, verb="deliver"),
    ("DECIDED", "lose"): is_lost_when_decided,
    ("DONE", "retry"): is_retried,
    ("DONE", "reopen"): is_undone,
    ("LOST", "find"): is_found_again,
}


@fault(
    "Process death",
    "the daemon is killed on an arrow of a file",
    how="SIGKILL inside the transaction, at each arrow of the lifecycle",
    shows=KILLED,
)
@pytest.mark.parametrize("arrow", list(TRANSITIONS), ids="-".join)
def test_a_file(site: Site, arrow: tuple[str, str]) -> None:
    site.write(durability="full")
    FILES[arrow](site)


# The ways of an item


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as server:
        yield server


def item(site: Site, partner: Partner, verb: str, *, end: str = "ACKED", **rules: Any) -> None:
    """One item comes to `verb`, and after a restart to `end`."""
    connect(site, partner, **rules)
    failpoint = f"items.{verb}:kill"
    with run_daemon(site.config, {"INBOXD_FAILPOINT": failpoint}, ready=False) as daemon:
        assert daemon.wait(timeout=30) == -signal.SIGKILL, f"it never came to {failpoint}"
    assert_sound_with(site, partner)
    with run_daemon(site.config) as daemon:
        wait_states(site, **{end: 1})
        wait_until(lambda: not site.listed("work"), "its file's end")
        assert daemon.stop() == 0
    assert_sound_with(site, partner, finished=True)


def broken(site: Site, partner: Partner) -> None:
    partner.add("whole.dat", bytes(range(256)) * 400, serve=broken_off(0.5))
    item(site, partner, "release")


def refused(site: Site, partner: Partner) -> None:
    partner.add("gone.dat", b"x", serve=answer(404))
    item(site, partner, "abandon", end="ABANDONED", retry={"first": "10ms", "longest": "20ms", "max_failures": 1})


def acked_at_last(site: Site, partner: Partner) -> None:
    partner.add("ok-a.dat", b"a")
    answers = [answer(500), answer(500)]

    def acking(handler: Any, id: str) -> None:
        (answers.pop() if answers else answer(200))(handler, id)

    partner.acking = acking
    item(site, partner, "wait")


def wanted_after_all(site: Site, partner: Partner) -> None:
    one = partner.add("ok-a.dat", b"a", serve=answer(404))
    connect(site, partner, retry={"first": "10ms", "longest": "20ms", "max_failures": 1})
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "items.renew:kill"}) as daemon:
        wait_states(site, ABANDONED=1)
        one.serve = None
        inboxd(site.config, "poll", NAME, "--again")
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, "poll", NAME, "--again").returncode == 0
        wait_states(site, ACKED=1)
        wait_until(lambda: not site.listed("work"), "its file's end")
        assert daemon.stop() == 0
    assert_sound_with(site, partner, finished=True)


def offered(site: Site, partner: Partner, verb: str, **rules: Any) -> None:
    partner.add("ok-a.dat", b"a")
    item(site, partner, verb, **rules)


ITEMS: dict[tuple[str, str], Callable[[Site, Partner], None]] = {
    ("DISCOVERED", "fetch"): partial(offered, verb="fetch"),
    ("FETCHING", "release"): broken,
    ("FETCHING", "abandon"): refused,
    ("FETCHING", "hold"): partial(offered, verb="hold"),
    ("HELD", "owe"): partial(offered, verb="owe", when="processed"),
    ("ACK_DUE", "tell"): partial(offered, verb="tell"),
    ("ACK_DUE", "wait"): acked_at_last,
    ("ACK_DUE", "ack"): partial(offered, verb="ack"),
    ("HELD", "close"): partial(offered, verb="close", when=""),
    ("ABANDONED", "renew"): wanted_after_all,
}


@fault(
    "Process death",
    "the daemon is killed on an arrow of a source's item",
    how="SIGKILL inside the transaction, at each arrow of the lifecycle",
    shows=KILLED,
)
@pytest.mark.parametrize("arrow", list(ITEM_TRANSITIONS), ids="-".join)
def test_an_item(site: Site, partner: Partner, arrow: tuple[str, str]) -> None:
    site.write(durability="full")
    ITEMS[arrow](site, partner)


# The ways of a result


@pytest.fixture
def customer() -> Iterator[Customer]:
    with Customer() as server:
        yield server


def sent(site: Site, customer: Customer, verb: str, *answers: int) -> None:
    """Two results of one file, of which one comes to `verb` and then arrives."""
    send_to(site, customer, match=["one-*"])
    customer.answers["one-results-a.dat"] = list(answers)
    ends(site, f"sends.{verb}:kill", drops(site, "results-a.dat"))
    with run_daemon(site.config) as daemon:
        wait_sends(site, SENT=1)
        wait_until(lambda: site.count("outbound") == 2, "both in outbound/")
        assert daemon.stop() == 0
    assert_sound_to(site, customer, finished=True)


def ordered(site: Site, customer: Customer, verb: str, end: str) -> None:
    """It is given up, and an operator says what is to become of it; first to a daemon that dies of it."""
    send_to(site, customer, match=["one-*"])
    customer.default = 400
    with ExitStack() as stack:
        daemon = stack.enter_context(run_daemon(site.config, {"INBOXD_FAILPOINT": f"sends.{verb}:kill"}))
        site.drop("results-a.dat", b"a")
        wait_sends(site, ABANDONED=1)
        customer.default = 201
        inboxd(site.config, "send", "customer", "--again" if verb == "renew" else "--drop")
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, "send", "customer", "--again" if verb == "renew" else "--drop").returncode == 0
        wait_sends(site, **{end: 1})
        wait_until(lambda: site.count("outbound") == 2, "both in outbound/")
        assert daemon.stop() == 0
    assert_sound_to(site, customer, finished=True)


def dropped_while_due(site: Site, customer: Customer) -> None:
    """The only way there is that its destination is away, and an operator drops what waits."""
    send_to(site, customer, match=["one-*"], retry={"first": "1h", "longest": "1h"})
    customer.answers["one-results-a.dat"] = [503]
    command = ("send", "customer", "--drop", "one-results-a.dat")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "sends.drop:kill"}) as daemon:
        site.drop("results-a.dat", b"a")
        daemon.wait_event("result.waiting")
        inboxd(site.config, *command)
        assert daemon.wait(timeout=30) == -signal.SIGKILL
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, *command).returncode == 0
        wait_sends(site, DROPPED=1)
        wait_until(lambda: site.count("outbound") == 2, "both in outbound/")
        assert daemon.stop() == 0
    assert_sound_to(site, customer, finished=True)


SENDS: dict[tuple[str, str], Callable[[Site, Customer], None]] = {
    ("DUE", "send"): lambda site, customer: sent(site, customer, "send"),
    ("DUE", "wait"): lambda site, customer: sent(site, customer, "wait", 503),
    ("DUE", "finish"): lambda site, customer: sent(site, customer, "finish"),
    ("DUE", "abandon"): lambda site, customer: sent(site, customer, "abandon", 400, 400, 400),
    ("DUE", "drop"): dropped_while_due,
    ("ABANDONED", "drop"): partial(ordered, verb="drop", end="DROPPED"),
    ("ABANDONED", "renew"): partial(ordered, verb="renew", end="SENT"),
}


@fault(
    "Process death",
    "the daemon is killed on an arrow of a result",
    how="SIGKILL inside the transaction, at each arrow of the lifecycle",
    shows=KILLED,
)
@pytest.mark.parametrize("arrow", list(SEND_TRANSITIONS), ids="-".join)
def test_a_result(site: Site, customer: Customer, arrow: tuple[str, str]) -> None:
    site.write(durability="full")
    SENDS[arrow](site, customer)
