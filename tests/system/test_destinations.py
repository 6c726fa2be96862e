"""What handlers leave is sent: each result arrives, whatever the destination does, and nothing is removed before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.customer import LOST, PASSWORD, Customer
from support.customers import NAME, assert_sound_to, destination, send_to, sends, wait_sends
from support.daemon import inboxd, inboxd_json, run_daemon
from support.site import Site
from support.sound import wait_finished
from support.wait import wait_until


@pytest.fixture
def customer() -> Iterator[Customer]:
    with Customer() as server:
        yield server


@pytest.mark.parametrize(("sent", "kept"), [("keep", 10), ("delete", 0)])
@pytest.mark.parametrize("durability", ["process", "full"])
def test_results_are_sent(site: Site, customer: Customer, sent: str, kept: int, durability: str) -> None:
    """In outbound/ only when the destination has them."""
    site.write(durability=durability)
    send_to(site, customer, inbox={"sent": sent})
    customer.open.clear()
    with run_daemon(site.config) as daemon:
        for number in range(5):
            site.drop(f"results-{number}.dat", b"%d" % number)
        site.drop("ok.dat", b"leaves nothing")
        wait_finished(site, 6)
        wait_sends(site, DUE=10)
        assert site.listed("outbound") == []
        customer.open.set()
        wait_sends(site, SENT=10)
        wait_until(lambda: not site.listed("work"), "an empty work/")
        assert daemon.stop() == 0
        assert PASSWORD not in daemon.output()
    assert len(site.listed("outbound")) == kept
    names = sorted(f"{part}-results-{number}.dat" for part in ("one", "two") for number in range(5))
    assert customer.names() == names
    assert len(customer.got) == 10, "each once, in calm times"
    assert_sound_to(site, customer, calm=True, finished=True)


def test_results_in_outbound_are_explained(site: Site, customer: Customer) -> None:
    """By the file whose handler left one, as far as its sends tell."""
    send_to(site, customer)
    site.inbox("plain")
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        site.drop("results-b.dat", b"b", inbox="plain")
        wait_sends(site, SENT=2)
        wait_until(lambda: site.count("outbound") == 2 and site.count("outbound", "plain") == 2, "all in outbound/")

        def told(name: str, inbox: str) -> str:
            return inboxd(site.config, "explain", str(site.root(inbox) / "outbound" / name)).stdout

        sent = told("one-results-a.dat", "main")
        assert "a result of this name was left by the handler of results-a.dat" in sent
        assert f"was sent to {NAME}" in sent
        assert "results are not kept in it once they are in outbound/" in told("one-results-b.dat", "plain")
        assert daemon.stop() == 0


def test_a_result_is_sent_once_more_under_the_same_key_when_its_answer_is_lost(site: Site, customer: Customer) -> None:
    send_to(site, customer)
    customer.answers["one-results-a.dat"] = [LOST, LOST]
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        wait_sends(site, SENT=2)
        assert daemon.stop() == 0
    assert Counter(got.name for got in customer.got) == {"one-results-a.dat": 3, "two-results-a.dat": 1}
    assert len({got.key for got in customer.got}) == 2
    assert_sound_to(site, customer, calm=True, finished=True)


def test_a_destination_that_is_away_rests_and_blames_no_result(site: Site, customer: Customer) -> None:
    send_to(site, customer, parallel=1)
    customer.default = 503
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        daemon.wait_event("destination.away", destination=NAME)
        status = inboxd_json(site.config, "status")["destinations"]
        assert [(row["due"], row["abandoned"], row["rests"]) for row in status] == [(2, 0, True)]
        assert "503" in inboxd(site.config, "explain", NAME).stdout
        waiting = sends(site)[0]
        lies = site.root() / "work/results" / waiting["file_id"] / os.fsdecode(waiting["name"])
        assert lies.exists()
        for word in (os.fsdecode(waiting["name"]), waiting["id"], waiting["id"][:30]):
            assert f"it lies at {lies}" in inboxd(site.config, "explain", word).stdout
        assert f"destination {NAME}" in inboxd(site.config, "doctor").stdout
        customer.default = 201
        daemon.wait_event("destination.back", destination=NAME)
        wait_sends(site, SENT=2)
        assert daemon.stop() == 0
    assert {row["failures"] for row in sends(site)} == {0}
    assert_sound_to(site, customer, calm=True, finished=True)


def test_a_result_that_is_refused_is_given_up_alone_and_an_operator_decides(site: Site, customer: Customer) -> None:
    """Sent after all, or dropped, which brings it to outbound/ even where what was sent is deleted."""
    send_to(site, customer, inbox={"sent": "delete"})
    customer.answers["one-results-a.dat"] = [422] * 3
    customer.answers["one-results-b.dat"] = [400] * 3
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        site.drop("results-b.dat", b"b")
        wait_sends(site, SENT=2, ABANDONED=2)
        daemon.wait_event("result.abandoned", destination=NAME, file="one-results-a.dat")
        row, other = (one for one in sends(site) if one["state"] == "ABANDONED")
        story = inboxd(site.config, "show", row["file_id"]).stdout
        assert "given up in attempt 3" in story
        assert "422" in story
        assert inboxd(site.config, "doctor").returncode == 1
        assert inboxd(site.config, "send", NAME, "--again", "no-such").returncode == 1
        assert inboxd(site.config, "send", NAME, "--again", row["id"]).returncode == 0
        wait_sends(site, SENT=3, ABANDONED=1)
        assert site.listed("outbound") == []
        assert inboxd(site.config, "send", NAME, "--drop").returncode == 0
        wait_sends(site, SENT=3, DROPPED=1)
        daemon.wait_event("result.dropped", file="one-results-b.dat")
        wait_until(lambda: site.listed("outbound") == ["one-results-b.dat"], "what was dropped in outbound/")
        assert other["name"] == b"one-results-b.dat"
        assert inboxd(site.config, "doctor").returncode == 0
        assert daemon.stop() == 0
    assert site.listed("outbound") == ["one-results-b.dat"]
    assert_sound_to(site, customer, calm=True, finished=True)


def test_what_is_sent_by_name_and_to_whom(site: Site, customer: Customer) -> None:
    """Two destinations, each with its pattern; what none wants appears in outbound/ at once."""
    with Customer() as other:
        both = {
            NAME: destination(customer, match=["one-*", "deep.*"]),
            "archive": destination(other, match=["one-*"], http={"method": "POST"}),
        }
        (site.base / "leaves.py").write_text(
            "import os\n"
            "def handle(file):\n"
            "    for name in ('one-a.csv', 'two-a.csv', 'folder/deep.csv', '.hidden'):\n"
            "        path = os.path.join(file.results, name)\n"
            "        os.makedirs(os.path.dirname(path), exist_ok=True)\n"
            "        open(path, 'w').write(name)\n"
            "    os.symlink('/etc/passwd', os.path.join(file.results, 'one-link'))\n"
            "    os.chmod(os.path.join(file.results, 'folder'), 0)\n"
        )
        site.inbox("main", destinations=both, handler={"python": "leaves:handle"})
        other.open.clear()
        with run_daemon(site.config) as daemon:
            site.drop("a.dat", b"a")
            wait_sends(site, SENT=2, DUE=1)
            assert site.listed("outbound") == [".hidden", "one-link", "two-a.csv"]
            other.open.set()
            wait_sends(site, SENT=3)
            wait_until(lambda: len(site.listed("outbound")) == 5, "all in outbound/")
            assert daemon.stop() == 0
        assert customer.names() == ["folder/deep.csv", "one-a.csv"]
        assert [(got.name, got.method) for got in other.got] == [("one-a.csv", "POST")]
        assert_sound_to(site, customer, other, finished=True)


def test_a_stop_and_a_start_in_between(site: Site, customer: Customer) -> None:
    """What is under way when the daemon stops is sent by the next one."""
    send_to(site, customer)
    customer.open.clear()
    with run_daemon(site.config) as daemon:
        site.drop_all((f"results-{number}.dat", b"x") for number in range(3))
        wait_finished(site, 3)
        wait_sends(site, DUE=6)
        assert daemon.stop() == 0
    assert_sound_to(site, customer)
    customer.open.set()
    with run_daemon(site.config) as daemon:
        wait_sends(site, SENT=6)
        assert daemon.stop() == 0
    assert len(site.listed("outbound")) == 6
    assert_sound_to(site, customer, finished=True)


def test_a_destination_that_is_taken_out_of_the_configuration(site: Site, customer: Customer) -> None:
    """Nothing that waits for it is lost or forgotten."""
    send_to(site, customer)
    customer.default = 503
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        daemon.wait_event("destination.away")
        site.inbox("main")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        assert daemon.wait_event("destination.unknown", destination=NAME)["count"] == 2
        told = inboxd(site.config, "doctor").stdout
        assert "is not in the configuration any more, and 2 results wait for it: put it back" in told
        refused = inboxd(site.config, "send", NAME)
        assert (refused.returncode, f"`inboxd send {NAME} --drop`" in refused.stderr) == (64, True)
        assert "not in the configuration any more" in inboxd(site.config, "status").stdout
        assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:
        daemon.wait_event("destination.unknown", destination=NAME)
        assert len(site.listed("work")) == 2
        assert inboxd(site.config, "send", NAME, "--drop").returncode == 0
        wait_until(lambda: len(site.listed("outbound")) == 2, "both in outbound/")
        assert daemon.stop() == 0
    wait_sends(site, DROPPED=2)
    assert_sound_to(site, customer, finished=True)


def test_a_reload_changes_where_results_go(site: Site, customer: Customer) -> None:
    """What waits goes to the new address, under the same key."""
    send_to(site, customer)
    customer.default = 503
    with Customer() as other, run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        daemon.wait_event("destination.away")
        send_to(site, other)
        assert inboxd(site.config, "reload").returncode == 0
        wait_sends(site, SENT=2)
        assert daemon.stop() == 0
        assert {got.key for got in other.got} == {got.key for got in customer.got}
        assert_sound_to(site, customer, other, finished=True)


def test_a_result_that_somebody_removed(site: Site, customer: Customer) -> None:
    """It is given up with an error; the other is sent."""
    send_to(site, customer, parallel=1)
    customer.default = 503
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        daemon.wait_event("destination.away")
        lost = next(Path(site.root() / "work").glob("results/*/one-*"))
        lost.unlink()
        customer.default = 201
        assert inboxd(site.config, "send", NAME).returncode == 0
        wait_sends(site, SENT=1, ABANDONED=1)
        event = daemon.wait_event("result.abandoned", file="one-results-a.dat")
        assert event["reason"] == "gone"
        assert inboxd(site.config, "send", NAME, "--drop").returncode == 0
        wait_until(lambda: site.listed("outbound") == ["two-results-a.dat"], "the other in outbound/")
        assert daemon.stop() == 0
    assert_sound_to(site, customer, finished=True, results_lost=True)


def test_a_wrong_password_rests_the_destination_and_is_told_without_it(site: Site, customer: Customer) -> None:
    wrong = {"basic": {"user": "acme", "password": "canary-wr0ng"}}
    send_to(site, customer, http={"auth": wrong})
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        event = daemon.wait_event("destination.refused", destination=NAME)
        assert "401" in event["message"]
        assert inboxd(site.config, "doctor", NAME).returncode == 0, "it can be reached; nothing was sent"
        send_to(site, customer)
        assert inboxd(site.config, "reload").returncode == 0
        wait_sends(site, SENT=2)
        assert daemon.stop() == 0
        assert "canary" not in daemon.output()
    assert b"canary" not in (site.state / "ledger.sqlite").read_bytes()
    assert_sound_to(site, customer, finished=True)


def test_outbound_is_away_for_a_while_when_results_have_been_sent(site: Site, customer: Customer) -> None:
    """Files go on meanwhile, and it ends by itself."""
    send_to(site, customer)
    outbound, elsewhere = site.root() / "outbound", site.root() / "elsewhere"
    customer.open.clear()
    with run_daemon(site.config) as daemon:
        site.drop("results-a.dat", b"a")
        wait_sends(site, DUE=2)
        outbound.rename(elsewhere)
        customer.open.set()
        daemon.wait_event("daemon.degraded")
        site.drop("ok.dat", b"b")
        wait_finished(site, 2)
        elsewhere.rename(outbound)
        daemon.wait_event("daemon.resumed")
        wait_until(lambda: site.count("outbound") == 2, "both in outbound/")
        assert inboxd_json(site.config, "status")["state"] == "RUNNING"
        assert daemon.stop() == 0
    assert_sound_to(site, customer, finished=True)


def test_an_inbox_may_be_called_ledger(site: Site) -> None:
    """What is away is never mistaken for the ledger."""
    site.inbox("ledger")
    with run_daemon(site.config) as daemon:
        outbound = site.root("ledger") / "outbound"
        outbound.rmdir()
        site.drop("results-a.dat", b"a", inbox="ledger")
        daemon.wait_event("daemon.degraded")
        site.drop("ok.dat", b"b")
        wait_finished(site, 1)
        outbound.mkdir()
        wait_finished(site, 1, inbox="ledger")
        assert daemon.stop() == 0
