"""More files that a checksum speaks for than are asked for at a time: none waits for the next pass by the clock."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.clock import SystemClock
from inboxd.intake import asking, inbox
from inboxd.intake.asking import Asking
from inboxd.intake.inbox import InboxView
from inboxd.model import Sighting
from support.settings import loaded

_DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture(params=["arrival", "name", "none"])
def view(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InboxView]:
    """Of an inbox that keeps four files at a time, and whose next pass by the clock is in an hour."""
    monkeypatch.setattr(inbox, "WINDOW", 4)
    monkeypatch.setattr(inbox, "_WIDE", 4)
    (tmp_path / "a/inbound").mkdir(parents=True)
    more = "watch: poll, settle: {checksum: sha256}, handler: {command: ['true']}"
    rules = f"{{root: a, order: {request.param}, {more}}}"
    config = loaded(tmp_path, f"state: state\ninboxes:\n  a: {rules}\n")
    made = InboxView("a", config.inboxes["a"], 3600.0, SystemClock(), lambda: None)
    made.start()
    yield made
    made.stop()


def _fill(view: InboxView, count: int, content: bytes = b"x") -> None:
    for number in range(count):
        (view._path / f"{number:02d}").write_bytes(content)
        (view._path / f"{number:02d}.sha256").write_text(_DIGEST)


def _go_on(view: InboxView) -> tuple[list[str], list[str]]:
    """Until there is nothing to do before that: what was read, and what was complete."""
    read: list[str] = []
    taken: list[str] = []
    for _ in range(1000):
        view.look(3)
        asked = view.to_hash()
        for sighting in asked:
            read.append(sighting.name)
            view.hashed(sighting, hashlib.sha256((view._path / sighting.name).read_bytes()).hexdigest())
        ready = view.ready(1)
        for sighting in ready:
            taken.append(sighting.name)
            os.unlink(view._path / sighting.name)
            os.unlink(view._path / sighting.companions[0])
        assert len(view._asking) + len(view._settling) <= 4
        if not asked and not ready and (view.next_wake() or 0.0) > view._clock.monotonic():
            break
    return read, taken


def test_all_that_lie_there_come(view: InboxView) -> None:
    _fill(view, 20)
    _read, taken = _go_on(view)
    assert sorted(taken) == [f"{number:02d}" for number in range(20)]


def test_all_that_come_at_once_come(view: InboxView) -> None:
    _go_on(view)
    _fill(view, 20)
    for number in range(20):
        view._hints.name("", f"{number:02d}.sha256")
    _read, taken = _go_on(view)
    assert sorted(taken) == [f"{number:02d}" for number in range(20)]


def test_what_does_not_match_is_read_once(view: InboxView) -> None:
    _fill(view, 20, b"y")
    read, taken = _go_on(view)
    for _ in range(3):
        view.rescan()
        again, more = _go_on(view)
        read, taken = read + again, taken + more
    assert not taken
    assert Counter(read) == Counter(f"{number:02d}" for number in range(20))
    assert "does not match" in (view.explain("", "07") or "")
    (view._path / "07.sha256").write_text(hashlib.sha256(b"y").hexdigest())
    view.rescan()
    assert _go_on(view) == (["07"], ["07"])


def test_what_waits_for_room_has_been_looked_at(view: InboxView) -> None:
    """Nobody may be free to read it for long: a daemon is ready nevertheless."""
    _fill(view, 20)
    for _ in range(100):
        view.look(3)
    assert view.has_looked


def _seen(name: str) -> Sighting:
    return Sighting("a", "", name, 1, 2, 3, 4)


def test_memory_of_what_was_wrong_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_MOST_WRONG", 10)
    files = Asking(lambda: 100)
    for number in range(25):
        files.note_wrong(("", str(number)), 7)
        assert len(files._wrong) <= 10
    files.ask(_seen("24"), 7)
    assert not files.take()
    files.ask(_seen("24"), 8)
    assert files.take() == [_seen("24")]
    files.was_read(("", "24"))
    assert not files.is_wrong(("", "24"))


def test_what_was_cut_off_is_asked_for_again() -> None:
    files = Asking(lambda: 1)
    files.ask(_seen("x"), 7)
    files.ask(_seen("y"), 7)
    assert files.left_out
    assert files.take() == [_seen("x")]
    files.put_back(_seen("x"))
    assert files.take() == [_seen("x")]
    files.was_read(("", "x"))
    assert files.nearly_empty
