"""What keeps a source back, what cuts a download off, and what must not be told: the real daemon and a partner on HTTP."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.daemon import Daemon, inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.partner import PASSWORD, Handler, Offer, Partner, answer, serve_file
from support.site import Site
from support.sound import wait_finished
from support.sourced import (
    NAME,
    assert_sound_with,
    connect,
    fetchers,
    fetches,
    items,
    offer,
    source,
    states,
    wait_states,
)
from support.wait import wait_until

CONTENT = bytes(range(256)) * 8_000


@pytest.fixture
def partner() -> Iterator[Partner]:
    with Partner() as server:
        yield server


def test_a_stop_in_a_long_listing_leaves_none_of_it(site: Site, partner: Partner) -> None:
    connect(site, partner)
    for number in range(20_000):
        partner.add(f"ok-{number}.dat", b"%d" % number)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _listings(site), "a listing")
        wait_until(lambda: items(site), "the first of its items")
        assert _listings(site)
        assert daemon.stop() == 0
    assert not _listings(site)


def _listings(site: Site) -> list[str]:
    return [name for name in site.listed("incoming") if name.endswith(".listing")]


class Gate:
    """Serves half of an item, and the other half once it is opened."""

    def __init__(self) -> None:
        self.is_open = False
        self.began = 0

    def __call__(self, handler: Handler, offer: Offer) -> None:
        if self.is_open:
            serve_file(handler, offer)
            return
        self.began += 1
        handler.begin(200, {"Content-Length": str(len(offer.data)), "ETag": offer.etag})
        handler.close_connection = True
        handler.wfile.write(offer.data[: len(offer.data) // 2])
        while not (self.is_open or handler.partner.ending.wait(0.02)):
            pass
        with contextlib.suppress(OSError):
            handler.wfile.write(offer.data[len(offer.data) // 2 :])


def _gated(partner: Partner, name: str = "whole.dat") -> Gate:
    gate = Gate()
    partner.add(name, CONTENT, serve=gate)
    return gate


def _halfway(site: Site) -> bool:
    """Half of the item is on the disk."""
    parts = (site.root() / "incoming").glob("*.part")
    return any(path.stat().st_size >= len(CONTENT) // 2 for path in parts)


def _await_polls(partner: Partner, more: int = 2) -> None:
    before = len(partner.log("/api/outbox"))
    wait_until(lambda: len(partner.log("/api/outbox")) >= before + more, f"{more} more polls", 40)


def _was_resumed(partner: Partner) -> bool:
    last = fetches(partner, "whole.dat")[-1]
    return last.status == 206 and int(last.headers["Range"].removeprefix("bytes=").rstrip("-")) > 0


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("quota", [{"items": 20}, {"bytes": "20KiB"}])
def test_a_quota(site: Site, partner: Partner, quota: dict[str, object], sized: bool) -> None:
    """No more comes, be their sizes known before or not, and somebody is told, once."""
    connect(site, partner, quota={**quota, "per": "1h"}, parallel=1)
    for one in offer(partner, 60, size=1024 - len("ok-00000.dat 1\n")):
        one.listed = {} if sized else {"size": None}
    with run_daemon(site.config) as daemon:
        daemon.wait_event("source.quota", source=NAME)
        _await_polls(partner)
        found = states(site)
        assert len(daemon.events("source.quota")) == 1
    assert found["ACKED"] + found["ACK_DUE"] == 20
    assert_sound_with(site, partner, calm=True)


def test_a_backlog(site: Site, partner: Partner) -> None:
    """The inbox never holds more than that; all come in the end."""
    connect(site, partner, backlog=10)
    offer(partner, 40, prefix="sleep-0_05-x")
    with run_daemon(site.config) as daemon:
        most = 0
        while site.finished() < 40:
            held = [item for item in items(site) if item["state"] not in ("DISCOVERED", "ABANDONED")]
            most = max(most, len(held) - site.finished())
            assert daemon.process.poll() is None
        wait_states(site, ACKED=40)
    assert 0 < most <= 10 + 2 + 20  # those that have been decided since, or are handed over just now
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_low_disk(site: Site, partner: Partner) -> None:
    connect(site, partner)
    offer(partner, 5)
    with run_daemon(site.config) as daemon:
        wait_states(site, ACKED=5)
        site.write(min_free_space="1000TiB")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        offer(partner, 5, prefix="more")
        _await_polls(partner)
        wait_states(site, ACKED=5, DISCOVERED=5)
        _await_polls(partner)
        assert len(fetches(partner)) == 5
        site.write(min_free_space="1MiB")
        assert inboxd(site.config, "reload").returncode == 0
        wait_states(site, ACKED=10)
        wait_finished(site, 10)
    assert_sound_with(site, partner, finished=True)


def test_a_paused_inbox(site: Site, partner: Partner) -> None:
    connect(site, partner)
    offer(partner, 5)
    with run_daemon(site.config):
        wait_states(site, ACKED=5)
        wait_finished(site, 5)
        assert inboxd(site.config, "pause", "main").returncode == 0
        offer(partner, 5, prefix="more")
        _await_polls(partner)
        assert len(fetches(partner)) == 5
        assert inboxd(site.config, "resume", "main").returncode == 0
        wait_states(site, ACKED=10)
        wait_finished(site, 10)
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_source_is_removed_in_mid_download(site: Site, partner: Partner) -> None:
    """At once; and when it comes back, its part is gone on from."""
    connect(site, partner)
    gate = _gated(partner)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        site.inbox("main")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        wait_until(lambda: not fetchers(daemon), "the fetchers' end")
        assert states(site) == {"DISCOVERED": 1}
        site.drop("meanwhile.dat", b"the inbox goes on")
        wait_finished(site, 1)
        gate.is_open = True
        connect(site, partner)
        assert inboxd(site.config, "reload").returncode == 0
        wait_states(site, ACKED=1)
        wait_finished(site, 2)
    assert _was_resumed(partner)
    assert_sound_with(site, partner, finished=True)


def test_a_source_is_changed_in_mid_download(site: Site, partner: Partner) -> None:
    connect(site, partner)
    gate = _gated(partner)
    offer(partner, 20)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        connect(site, partner, parallel=2, when="processed")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        gate.is_open = True
        wait_states(site, ACKED=21)
        wait_finished(site, 21)
        assert daemon.stop() == 0
    assert _was_resumed(partner)
    assert {item["failures"] for item in items(site)} == {0}
    assert_sound_with(site, partner, finished=True)


def test_a_source_of_another_inbox_goes_on(site: Site, partner: Partner) -> None:
    """A reload that does not concern it leaves its download alone."""
    connect(site, partner)
    gate = _gated(partner)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        before = {one.pid for one in fetchers(daemon)}
        site.inbox("second")
        assert inboxd(site.config, "reload").returncode == 0
        daemon.wait_event("daemon.reloaded")
        assert before & {one.pid for one in fetchers(daemon)}
        gate.is_open = True
        wait_states(site, ACKED=1)
        wait_finished(site, 1)
    assert len(fetches(partner, "whole.dat")) == 1
    assert_sound_with(site, partner, calm=True, finished=True)


@fault(
    "Sources and destinations",
    "a stop in the middle of a download",
    how="SIGTERM",
    shows="gone on from there after the start",
)
def test_sigterm_in_mid_download(site: Site, partner: Partner) -> None:
    """It ends at once, and the next start goes on where it was."""
    site.write(stop_grace="30s")
    connect(site, partner)
    gate = _gated(partner)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 15
    assert states(site) == {"DISCOVERED": 1}
    assert items(site)[0]["failures"] == 0
    assert_sound_with(site, partner)
    gate.is_open = True
    with run_daemon(site.config):
        wait_states(site, ACKED=1)
        wait_finished(site, 1)
    assert _was_resumed(partner)
    assert_sound_with(site, partner, finished=True)


@fault(
    "Sources and destinations",
    "a fetcher is killed in mid-download",
    how="SIGKILL",
    shows="gone on from there, one failure",
)
def test_a_fetcher_is_killed_in_mid_download(site: Site, partner: Partner) -> None:
    """Only the item in hand is charged, and tried again."""
    connect(site, partner, parallel=1)
    gate = _gated(partner, "a-whole.dat")
    offer(partner, 20, prefix="z")
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        (fetcher,) = fetchers(daemon)
        gate.is_open = True
        fetcher.kill()
        wait_states(site, ACKED=21)
        wait_finished(site, 21)
        assert [event["item"] for event in daemon.events("item.waiting")] == ["a-whole.dat"]
        assert not daemon.events("source.away")
    assert_sound_with(site, partner, calm=True, finished=True)


@fault("Sources and destinations", "a fetcher hangs", how="SIGSTOP", shows="killed; its item is tried again")
def test_a_fetcher_that_hangs(site: Site, partner: Partner) -> None:
    """One that is stopped keeps no deadline of its own: it is killed a minute after `timeout.total`."""
    connect(site, partner, parallel=1, timeout={"connect": "500ms", "idle": "1s", "total": "1s"})
    gate = _gated(partner)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _halfway(site), "half of it")
        (fetcher,) = fetchers(daemon)
        fetcher.suspend()
        gate.is_open = True
        daemon.wait_event("child.killed", timeout=90)
        wait_states(site, ACKED=1)
        wait_finished(site, 1)
        assert not fetcher.is_running()
    assert_sound_with(site, partner, calm=True, finished=True)


def test_a_slow_source_is_left_by_the_fetcher_itself(site: Site, partner: Partner) -> None:
    """timeout.total, without a kill; the part is gone on from."""
    connect(site, partner, parallel=1, timeout={"connect": "1s", "idle": "30s", "total": "2s"})
    gate = _gated(partner)
    with run_daemon(site.config) as daemon:
        waiting = daemon.wait_event("item.waiting")
        assert "timeout.total" in waiting["message"]
        gate.is_open = True
        wait_states(site, ACKED=1)
        wait_finished(site, 1)
        assert not daemon.events("child.killed")
    assert _was_resumed(partner)
    assert_sound_with(site, partner, calm=True, finished=True)


# The password


def _all_texts(daemon: Daemon) -> Iterator[tuple[str, bytes]]:
    """What anybody may see of the daemon's processes: arguments; and environments, for our own user."""
    for process in [psutil.Process(daemon.pid), *daemon.children()]:
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                yield f"{what} of {process.pid}", Path(f"/proc/{process.pid}/{what}").read_bytes()


def _files(site: Site) -> Iterator[tuple[str, bytes]]:
    for folder, _folders, names in os.walk(site.base):
        for name in names:
            path = Path(folder, name)
            if path != site.config and not path.is_socket():
                with contextlib.suppress(OSError):
                    yield str(path), path.read_bytes()


def _say_it_back(handler: Handler, *_: object) -> None:
    """A server that repeats what it was told, in each place it has."""
    told = handler.headers.get("Authorization", "")
    body = f"{told} {PASSWORD}".encode()
    handler.send(400, body, **{"X-Told": told, "Content-Type": "text/html"})


@pytest.mark.parametrize("fault", [None, _say_it_back, answer(401, PASSWORD.encode())])
def test_the_password_is_told_to_nobody(site: Site, partner: Partner, fault: Callable[..., None] | None) -> None:
    rules = source(partner, when="processed")
    rules["http"]["auth"]["basic"]["password"] = {"env": "PARTNER_PASSWORD"}
    site.inbox("main", sources={NAME: rules})
    offer(partner, 10)
    partner.add("reject-1.dat", b"rejected")
    partner.add("odd.dat", b"odd", serve=fault)
    partner.acking = fault
    seen: list[str] = []
    with run_daemon(site.config, {"PARTNER_PASSWORD": PASSWORD}) as daemon:
        wait_until(lambda: len(partner.acked()) >= 5 and site.listed("errors"), "some acknowledgements", 40)
        wait_until(lambda: fetchers(daemon), "a fetcher")
        seen += [where for where, text in _all_texts(daemon) if PASSWORD.encode() in text]
        asked = [("status",), ("files",), *(("show", item["id"]) for item in items(site)[-3:])]
        for arguments in asked:
            done = inboxd(site.config, *arguments, "--json")
            seen += [str(arguments)] if PASSWORD in done.stdout + done.stderr else []
        assert inboxd_json(site.config, "status")
        assert daemon.stop() == 0
    seen += [where for where, text in _files(site) if PASSWORD.encode() in text]
    assert [where for where in seen if where != f"environ of {daemon.pid}"] == []
