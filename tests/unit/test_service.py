"""sd_notify(3), told to a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd import events
from inboxd.service import Service
from support.wait import wait_until


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@inboxd-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if address.startswith("@") else address)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


@contextlib.contextmanager
def speaking() -> Iterator[Service]:
    """A service lives as long as its process; here it ends before."""
    service = Service()
    with service._socket or contextlib.nullcontext():
        yield service


def heard(manager: socket.socket) -> str:
    return manager.recv(65536).decode()


def test_what_is_said_arrives(manager: socket.socket) -> None:
    with speaking() as service:
        service.ready()
        service.stopping()
        service.extend_timeout(2.5)
    assert [heard(manager) for _ in range(3)] == ["READY=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=2500000"]


def test_a_reload_names_its_moment(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    with speaking() as service:
        service.reloading()
    first, second = heard(manager).split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize(
    ("text", "line"), [("3 wait", "3 wait"), ("a\nREADY=1\nb", "a READY=1 b"), ("\udcff ü", "\\udcff ü")]
)
def test_a_status_is_one_line(manager: socket.socket, text: str, line: str) -> None:
    with speaking() as service:
        service.status(text)
    assert heard(manager) == f"STATUS={line}"


def test_children_do_not_speak_for_us(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with speaking():
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(
    ("microseconds", "pid", "interval"),
    [("30000000", "us", 30.0), ("500000", "", 0.5), ("30000000", "1", None), ("", "us", None), ("soon", "us", None)],
)
def test_the_watchdog_is_fed_when_it_is_meant_for_us(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "us" else pid)
    with speaking() as service:
        assert service.watchdog_interval() == interval
        service.ping()
        service.ready()
    assert heard(manager) == ("READY=1" if interval is None else "WATCHDOG=1")


def test_a_long_start_is_given_time_as_long_as_it_gets_on(manager: socket.socket) -> None:
    with speaking() as service:
        service.starting(every=0.02, longest=1.0)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            service.alive()
            assert heard(manager).startswith(("EXTEND_TIMEOUT_USEC=60000000", "STATUS=starting"))
        while not heard(manager).startswith("STATUS=starting: no step for "):
            pass
        status = ""
        manager.settimeout(0.001)  # steps are made all the time, not only when something was told
        while status != "STATUS=starting":
            service.alive()
            with contextlib.suppress(TimeoutError):
                status = heard(manager)
        manager.settimeout(10)
        service.ready()
        while heard(manager) != "READY=1":
            pass


def test_a_start_that_hangs_is_not(manager: socket.socket) -> None:
    told: list[dict[str, Any]] = []
    events.send_to(lambda event, fields: told.append({"event": event.name, **fields}))
    try:
        with speaking() as service:
            service.starting(every=0.02, longest=0.1)
            wait_until(lambda: told, "the word that it hangs")
            manager.settimeout(0.2)
            with pytest.raises(TimeoutError):
                while heard(manager):
                    pass
            service.alive()  # it gets on after all
            assert heard(manager) == "EXTEND_TIMEOUT_USEC=60000000"
            service.ready()
    finally:
        events.send_to(events.nowhere)
    (hangs,) = told
    assert hangs["event"] == "daemon.start-hangs" and hangs["reason"].startswith("no step for ")


@pytest.mark.parametrize("end", ["ready", "stopping"])
def test_what_is_over_asks_for_no_more_time(manager: socket.socket, end: str) -> None:
    with speaking() as service:
        service.starting(every=0.02)
        getattr(service, end)()
        manager.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while heard(manager):
                pass


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with speaking() as service:
        service.ready()


def test_a_manager_that_is_gone_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    with speaking() as service:
        service.ready()


def test_a_manager_that_does_not_read_blocks_nobody(manager: socket.socket) -> None:
    with speaking() as service:
        for _ in range(10_000):
            service.status("x" * 1000)
    assert heard(manager).startswith("STATUS=")
