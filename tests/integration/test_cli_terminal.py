"""Answers on a real terminal: its colours, its width, its height."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.answering import ID, Answering, answering, inbox, source, status
from support.wait import wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Answering]:
    (tmp_path / "config.yaml").write_text("state: state\n")
    with answering(tmp_path / "state") as operator:
        yield operator


def test_on_a_terminal(tmp_path: Path, daemon: Answering) -> None:
    """Colours and bars are ours; what a name holds stays harmless."""
    for arguments in (["files", "--limit", "3"], ["show", ID], ["status", "--watch"]):
        ours, theirs = pty.openpty()
        shown = bytearray()
        with subprocess.Popen(
            [sys.executable, "-m", "inboxd", *arguments], stdout=theirs, stderr=theirs, cwd=tmp_path,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "160"},
        ) as process:  # fmt: skip
            os.close(theirs)
            _read_until(ours, shown, b"orders")
            if "--watch" in arguments:
                wait_until(lambda: len(daemon.asked) >= 2, "another look")
                process.send_signal(2)
            while _more(ours, shown):
                continue
            assert process.wait(20) == (130 if "--watch" in arguments else 0), shown
        os.close(ours)
        assert b"\x1b[" in shown
        assert b"\x1b]0;owned" not in shown
        assert b"\xff" not in shown
        daemon.asked.clear()
    assert "━".encode() in shown


class Many(Answering):
    """12 inboxes, of which 11 are idle, and a source that refuses us."""

    def status(self) -> dict[str, Any]:
        idle = dict.fromkeys(("backlog", "claimed", "running", "waiting", "done", "total", "errors", "quarantined"), 0)
        inboxes = [inbox(inbox=f"i{number}", oldest=None, **idle) for number in range(11)]
        refused = source(condition="refuses us, the next try is in 285 s: status 401", rests=True, expected=None)
        self._note("status")
        return status(*inboxes, inbox(inbox="busy"), sources=[refused])


@pytest.mark.parametrize("arguments", [["status"], ["status", "--watch"], ["files", "--limit", "3"]])
@pytest.mark.parametrize("width", [80, 100, 119])
def test_a_terminal_of_few_columns_and_rows(tmp_path: Path, arguments: list[str], width: int) -> None:
    (tmp_path / "config.yaml").write_text("state: state\n")
    with answering(tmp_path / "state", Many()) as daemon:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (30, width))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        shown = bytearray()
        with subprocess.Popen(
            [sys.executable, "-m", "inboxd", *arguments], stdout=theirs, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env={**environment, "TERM": "xterm-256color"},
        ) as process:  # fmt: skip
            os.close(theirs)
            if "--watch" in arguments:
                _read_until(ours, shown, b"rows are not shown")
                wait_until(lambda: len(daemon.asked) >= 2, "another look")
                process.send_signal(2)
            while _more(ours, shown):
                continue
            process.wait(20)
        os.close(ours)
    text = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert max(len(line) for line in text.replace("\r", "\n").splitlines()) <= width
    words = " ".join(text.split())
    if arguments[0] == "files":
        assert words.count("error: too many failures") == 3
    else:
        assert "condition" in words and "refuses us," in words and "401" in words
        assert "customer" in words and "worker" in words
        assert ("i10" in words) == ("--watch" not in arguments)


def _read_until(fd: int, shown: bytearray, word: bytes) -> None:
    while word not in shown:
        assert _more(fd, shown), shown


def _more(fd: int, shown: bytearray) -> bool:
    try:
        part = os.read(fd, 65536)
    except OSError:  # EIO: the other side is closed
        return False
    shown += part
    return bool(part)
