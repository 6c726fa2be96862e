"""A reload takes effect between an operator's question and its answer: the answer is about what runs then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inboxd.clock import SystemClock
from inboxd.custody.retention import Pruned
from inboxd.errors import UsageError
from inboxd.operator import Operator
from inboxd.pauses import Pauses


class Lane:
    """One inbox, as far as it is paused and pruned."""

    def __init__(self, **retention: float | None) -> None:
        self.name, self.broken = "main", False
        self.paused: str | None = None
        ages = {"processed": None, "errors": None, **retention}
        self.rules = SimpleNamespace(retention=SimpleNamespace(**ages), folder=Path)

    def pause(self, reason: str) -> None:
        self.paused = reason

    def resume(self) -> None:
        self.paused = None


class Daemon:
    """A pipeline that swaps its lanes just before or just after it answers."""

    def __init__(self, folder: Path, old: Lane) -> None:
        self.lanes = {"main": old}
        self.ledger, self.draining, self.outages = Ledger(), False, SimpleNamespace(reasons=lambda *_: [])
        self.errands: Any = SimpleNamespace(sources={}, items=Book())
        self.outbox = SimpleNamespace(destinations={}, sends=None)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.pauses = Pauses(folder / "paused", self)  # type: ignore[arg-type]
        self.operator = Operator(self, History(), self, SystemClock())  # type: ignore[arg-type]

    def swap(self, new: Lane) -> Callable[[], None]:
        """reload.py, as far as it is about lanes."""

        def change() -> None:
            self.lanes = {"main": new}
            self.pauses.recall()

        return change

    def ask(self, question: Callable[[], Any]) -> Future[Any]:
        self.before()
        future: Future[Any] = Future()
        try:
            future.set_result(question())
        except UsageError as error:
            future.set_exception(error)
        self.after()
        return future

    def remember_pauses(self) -> None:
        self.pauses.remember()


class Ledger:
    """Nothing is written."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield


class Book:
    """Items of sources: none."""

    def hurry(self, source: str, now: float) -> int:
        return 0

    def change(self, verb: str, items: object) -> None:
        pass


class History:
    """What the ledger had: something is still to be sent to `lake`."""

    def send_counts(self) -> dict[str, object]:
        return {"lake": {}}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_the_inbox_that_runs_is_paused_and_resumed(tmp_path: Path, verb: str, when: str) -> None:
    old, new = Lane(), Lane()
    daemon = Daemon(tmp_path, old)
    if verb == "resume":
        daemon.operator.pause("main")
    setattr(daemon, when, daemon.swap(new))
    answer = getattr(daemon.operator, verb)("main")
    setattr(daemon, when, lambda: None)
    assert bool(new.paused) is bool(answer["paused"]) is (verb == "pause")
    daemon.swap(again := Lane())()
    assert bool(again.paused) is (verb == "pause")


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_inbox_that_is_gone_is_refused(tmp_path: Path, verb: str) -> None:
    daemon = Daemon(tmp_path, Lane())
    daemon.before = daemon.lanes.clear
    with pytest.raises(UsageError, match="there is no inbox 'main'"):
        getattr(daemon.operator, verb)("main")


def test_files_that_are_kept_for_longer_now_are_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = iter([Pruned(500, {}, "1"), Pruned(500, {}, "2"), Pruned(3, {}, "")])
    monkeypatch.setattr("inboxd.operator.prune", lambda *_: next(slices))
    daemon = Daemon(tmp_path, Lane(processed=60.0))
    daemon.after = daemon.swap(Lane(processed=3600.0))
    assert daemon.operator.prune()["removed"] == {"main": {"processed": 500, "errors": 0}}
    daemon.after = lambda: None
    assert daemon.operator.prune()["removed"] == {"main": {"processed": 503, "errors": 0}}


def test_the_source_that_runs_is_polled(tmp_path: Path) -> None:
    daemon, asked = Daemon(tmp_path, Lane()), []

    def source(which: str) -> object:
        return SimpleNamespace(
            name="acme", lane=SimpleNamespace(name="main"), polling=False, has_found=False, full="",
            ask_now=lambda: asked.append(which), may_fetch=lambda now: True,
        )  # fmt: skip

    daemon.errands.sources["acme"] = source("old")
    daemon.before = lambda: daemon.errands.sources.update(acme=source("new"))
    daemon.operator.poll("acme")
    assert asked == ["new"]


def test_a_destination_that_is_gone_is_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, Lane())
    daemon.outbox.destinations["lake"] = SimpleNamespace()
    daemon.before = daemon.outbox.destinations.clear
    with pytest.raises(UsageError, match="nothing can be sent to it"):
        daemon.operator.send("lake")
