"""The control socket, over the real thing: requests, refusals, peers of all kinds."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd import control, events
from inboxd.cli.client import NoAnswer, Refused, ask
from inboxd.control import SOCKET, Server
from inboxd.errors import NotRunning, UsageError
from support.answering import ID, Answering, answering


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The events of the test."""
    seen: list[tuple[str, dict[str, Any]]] = []
    events.send_to(lambda event, fields: seen.append((event.name, fields)))
    yield seen
    events.send_to(events.nowhere)


def options(folder: Path) -> Namespace:
    return Namespace(state_dir=folder, config=None)


def said(folder: Path, *lines: bytes) -> list[dict[str, Any]]:
    """The answers to these lines, over one connection."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(folder / SOCKET))
        peer.sendall(b"".join(line + b"\n" for line in lines))
        peer.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in peer.makefile("rb")]


def test_ping_needs_no_operator(tmp_path: Path) -> None:
    with answering(tmp_path) as operator:
        assert ask(options(tmp_path), "ping")["pid"] == os.getpid()
    assert operator.asked == []


def test_arguments_reach_the_operator_and_null_is_none(tmp_path: Path) -> None:
    with answering(tmp_path) as operator:
        ask(options(tmp_path), "files", inbox="orders", since=7200.0, limit=5, state=None)
        ask(options(tmp_path), "retry", ids=[ID], errors=False)
        ask(options(tmp_path), "prune", dry_run=True)
    assert operator.asked == [
        ("files", {"inbox": "orders", "since": 7200.0, "limit": 5}),
        ("retry", {"ids": [ID], "errors": False}),
        ("prune", {"dry_run": True}),
    ]


def test_bytes_that_are_no_text_reach_the_operator(tmp_path: Path) -> None:
    with answering(tmp_path) as operator:
        ask(options(tmp_path), "explain", path=os.fsdecode(b"/x/\xff\xed\xa0\x80\n"))
    assert [os.fsencode(asked["path"]) for _verb, asked in operator.asked] == [b"/x/\xff\xed\xa0\x80\n"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "one line of JSON"),
        (b"\xff\x00", "one line of JSON"),
        (b"[" * 100_000, "one line of JSON"),
        (b'"status"', "one line of JSON"),
        (b'{"args": {}}', "one line of JSON"),
        (b'{"verb": "status", "args": 7}', "one line of JSON"),
        (b'{"verb": ["status"]}', "one line of JSON"),
        (b'{"verb": "__init__"}', "there is no verb"),
        (b'{"verb": "status", "args": {"inbox": "a"}}', "takes no 'inbox'"),
        (b'{"verb": "show"}', "needs 'id'"),
        (b'{"verb": "show", "args": {"id": null}}', "needs 'id'"),
        (b'{"verb": "show", "args": {"id": 7}}', "id is no text"),
        (b'{"verb": "files", "args": {"limit": 0}}', "limit is no rows"),
        (b'{"verb": "files", "args": {"limit": 1001}}', "limit is no rows"),
        (b'{"verb": "files", "args": {"limit": true}}', "limit is no rows"),
        (b'{"verb": "files", "args": {"since": -1}}', "since is no seconds"),
        (b'{"verb": "files", "args": {"since": NaN}}', "since is no seconds"),
        (b'{"verb": "files", "args": {"since": Infinity}}', "since is no seconds"),
        (b'{"verb": "retry", "args": {"ids": "0123"}}', "ids is no texts"),
        (b'{"verb": "prune", "args": {"dry_run": 1}}', "dry_run is no flag"),
        (rb'{"verb": "explain", "args": {"path": "/x/\ud800"}}', r"path is no text: '/x/\ud800'"),
        (rb'{"verb": "explain", "args": {"path": "/x/\u0000"}}', r"path is no text: '/x/\x00'"),
        (rb'{"verb": "forget", "args": {"ids": ["00", "\udfff"]}}', "ids is no texts"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(tmp_path: Path, line: bytes, words: str) -> None:
    with answering(tmp_path) as operator:
        refused, fine = said(tmp_path, line, b'{"verb": "ping"}')
    assert (refused["ok"], refused["code"]) == (False, 64)
    assert words in refused["error"]
    assert fine["ok"]
    assert operator.asked == []


def test_a_request_is_bounded(tmp_path: Path) -> None:
    with answering(tmp_path):
        (refused,) = said(tmp_path, b'{"verb": "show", "args": {"id": "' + b"0" * (1 << 20) + b'"}}')
        assert refused["code"] == 64
        assert "bytes at most" in refused["error"]
        assert ask(options(tmp_path), "ping")


def test_errors_carry_their_hint_and_exit_code(tmp_path: Path) -> None:
    with answering(tmp_path):
        with pytest.raises(Refused) as unknown:
            ask(options(tmp_path), "show", id="ffff")
        with pytest.raises(Refused) as refused:
            ask(options(tmp_path), "reload")
    assert (unknown.value.exit_code, unknown.value.hint) == (64, "`inboxd files` lists them")
    assert refused.value.exit_code == 78
    assert refused.value.message.splitlines()[1] == "config.yaml:9: rescan: no duration"


def test_a_fault_is_told_and_outlived(tmp_path: Path, told: list[tuple[str, dict[str, Any]]]) -> None:
    with answering(tmp_path):
        with pytest.raises(Refused) as fault:
            ask(options(tmp_path), "resume", inbox="orders")
        assert ask(options(tmp_path), "ping")
    assert fault.value.exit_code == 70
    assert "ZeroDivisionError" in fault.value.message
    ((_, fields),) = [one for one in told if one[0] == "control.failed"]
    assert "Traceback" in fields["detail"]


def test_an_answer_that_json_cannot_hold_is_a_fault(tmp_path: Path) -> None:
    class Odd(Answering):
        def status(self) -> dict[str, Any]:
            return {"odd": object()}

    with answering(tmp_path, Odd()), pytest.raises(Refused) as fault:
        ask(options(tmp_path), "status")
    assert fault.value.exit_code == 70


def test_what_operators_change_is_logged_with_who_asked(tmp_path: Path, told: list[tuple[str, dict[str, Any]]]) -> None:
    with answering(tmp_path):
        ask(options(tmp_path), "status")
        ask(options(tmp_path), "pause", inbox="orders")
        ask(options(tmp_path), "doctor")  # changes nothing
    asked = '{"inbox": "orders"}'
    assert told == [
        ("control.asked", {"verb": "pause", "uid": os.geteuid(), "arguments": asked, "request": f"pause {asked}"}),
    ]


_ASK = """
import os, socket, sys
if os.geteuid() == 0:
    os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
for verb in sys.argv[2:]:
    peer.sendall(b'{"verb": "%s", "args": {}}\\n' % verb.encode())
    print(peer.recv(1 << 20).decode().strip(), flush=True)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="control-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_other_users_may_only_look(open_folder: Path) -> None:
    """Root's child becomes another user; for anybody else, the daemon belongs to another user."""
    root = os.geteuid() == 0
    verbs = ("ping", "status", "files", "retry", "drain", "reload", "prune", "doctor")
    with answering(open_folder, owner=None if root else os.geteuid() + 1) as operator:
        (open_folder / SOCKET).chmod(0o666)
        lines = subprocess.run(
            [sys.executable, "-I", "-c", _ASK, str(open_folder / SOCKET), *verbs],
            capture_output=True, check=True, timeout=20, cwd="/",
        ).stdout.splitlines()  # fmt: skip
    answers = dict(zip(verbs, map(json.loads, lines), strict=True))
    assert {verb for verb, answer in answers.items() if answer["ok"]} == {"ping", "status", "files"}
    assert all("may not" in answer["error"] for answer in answers.values() if not answer["ok"])
    assert [verb for verb, _ in operator.asked] == ["status", "files"]


def test_the_socket_is_closed_to_other_users(tmp_path: Path) -> None:
    with answering(tmp_path):
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o660
    assert not (tmp_path / SOCKET).exists()


def test_who_can_not_reach_the_socket_is_told_so(tmp_path: Path) -> None:
    root = os.geteuid() == 0
    with answering(tmp_path / "state"):
        (tmp_path / "state").chmod(0)
        try:
            if root:
                os.seteuid(65534)
            with pytest.raises(UsageError, match="closed to you"):
                ask(options(tmp_path / "state"), "status")
        finally:
            if root:
                os.seteuid(0)
            (tmp_path / "state").chmod(0o700)


def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with pytest.raises(NotRunning):
        ask(options(tmp_path), "ping")
    with answering(tmp_path):
        assert ask(options(tmp_path), "ping")


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / "state"
    with answering(folder):
        assert ask(options(folder), "ping")


def test_silent_peers_lose_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.3)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    with answering(tmp_path):
        for peer in silent:
            peer.connect(str(tmp_path / SOCKET))
        assert ask(options(tmp_path), "ping")
    for peer in silent:
        peer.close()


def test_a_peer_that_dribbles_is_slow_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.3)
    with answering(tmp_path), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(0.05)
        peer.connect(str(tmp_path / SOCKET))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(400):
                peer.sendall(b" ")
                try:
                    if peer.recv(1) == b"":
                        raise BrokenPipeError
                except TimeoutError:
                    continue


def test_many_ask_at_once(tmp_path: Path) -> None:
    with answering(tmp_path):
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(options(tmp_path), "status")["pid"])) for _ in range(40)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [4242] * 40


def test_an_answer_on_its_way_survives_the_stop(tmp_path: Path) -> None:
    begun, stopping = threading.Event(), threading.Event()

    class Slow(Answering):
        def drain(self) -> dict[str, Any]:
            begun.set()
            assert stopping.wait(20)
            return super().drain()

    server = Server(tmp_path / SOCKET, Slow())
    server.start()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(ask(options(tmp_path), "drain")))
    asking.start()
    assert begun.wait(20)
    threading.Timer(0.1, stopping.set).start()  # while stop() waits
    server.stop()
    asking.join()
    assert answers == [{"draining": True}]
    with pytest.raises(NotRunning):
        ask(options(tmp_path), "ping")


def test_a_daemon_that_hangs_or_ends_is_no_stopped_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen()
        with pytest.raises(NoAnswer, match="within"):
            ask(options(tmp_path), "status", timeout=0.1)
        closing = threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(2)])
        closing.start()
        with pytest.raises(NoAnswer):
            ask(options(tmp_path), "status")
        closing.join()
