"""More files than are kept whole: what was put aside comes back in its order, and whoever changed meanwhile is not taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from inboxd.beneath import look, opened
from inboxd.clock import SystemClock
from inboxd.intake import inbox
from inboxd.intake.inbox import InboxView
from support.settings import loaded
from support.wait import wait_until

_SETTLE = {
    "renamed": "renamed", "quiet": "{quiet: 1ms}", "marker": "{marker: '.done'}"
}  # fmt: skip


@pytest.fixture(params=_SETTLE)
def view(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InboxView]:
    monkeypatch.setattr(inbox, "WINDOW", 4)
    monkeypatch.setattr(inbox, "LATER", 8)
    (tmp_path / "a" / "inbound").mkdir(parents=True)
    for number in range(20):
        _write(tmp_path / "a/inbound", f"{number:02d}", number)
        (tmp_path / "a/inbound" / f"{number:02d}.done").touch()
    rules = f"{{root: a, watch: poll, settle: {_SETTLE[request.param]}, ignore: ['*.done'], handler: {{command: ['true']}}}}"
    config = loaded(tmp_path, f"state: state\ninboxes:\n  a: {rules}\n")
    made = InboxView("a", config.inboxes["a"], 3600.0, SystemClock(), lambda: None)
    made.start()
    yield made
    made.stop()


def _write(folder: Path, name: str, number: int) -> None:
    (folder / name).write_bytes(b"x" * number)
    os.utime(folder / name, (1000 + number, 1000 + number))


def _take(view: InboxView, count: int) -> list[tuple[str, int]]:
    """Name and size of the next ones, as they are claimed: those that have changed or gone are not."""
    taken: list[tuple[str, int]] = []
    for _ in range(100_000):
        view.look(3)
        for sighting in view.ready(1):
            with opened(view._path) as fd:
                found = look(fd, sighting.name)
            if found is None:
                continue
            if (found.st_ino, found.st_size, found.st_dev) == (sighting.ino, sighting.size, sighting.dev):
                taken.append((sighting.name, sighting.size))
                os.unlink(view._path / sighting.name)
            else:
                view.rescan()
        if len(taken) == count:
            break
    return taken


def test_all_come(view: InboxView) -> None:
    """In their order, but for those that stand still for the span sooner than others."""
    taken = _take(view, 20)
    assert (sorted(taken) if view._span else taken) == [(f"{number:02d}", number) for number in range(20)]
    assert not view.ready(1)


def test_one_that_changes_while_it_is_aside_comes_as_it_is(view: InboxView) -> None:
    first = _take(view, 1)
    changed, removed = [number for number in range(6, 9) if first != [(f"{number:02d}", number)]][:2]
    _write(view._path, f"{changed:02d}", 60)
    (view._path / f"{removed:02d}").unlink()
    others = [(f"{number:02d}", number) for number in range(20) if number not in (changed, removed)]
    assert sorted(first + _take(view, 18)) == sorted([(f"{changed:02d}", 60), *others])


def test_a_pass_that_was_cut_off_is_made_again_soon(view: InboxView, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there was no descriptor left for it; the next one by the clock would be in an hour."""
    advance, calls = inbox.Scan.advance, count()

    def cut(scan: inbox.Scan, budget: int) -> object:
        if next(calls) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return advance(scan, budget)

    monkeypatch.setattr(inbox.Scan, "advance", cut)
    monkeypatch.setattr(view._root, "every", 3600.0)
    taken: set[str] = set()

    def took_all() -> bool:
        taken.update(name for name, _size in _take(view, 1))
        return len(taken) == 20

    wait_until(took_all, "all files")
