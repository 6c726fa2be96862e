"""A reload takes effect between an operator's question and its answer: the answer is about what runs then."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from inboxd.clock import SystemClock
from inboxd.errors import UsageError
from inboxd.operator import Operator
from inboxd.pauses import Pauses


class Lane:
    """One inbox, as far as it is paused."""

    def __init__(self) -> None:
        self.name, self.broken = "main", False
        self.paused: str | None = None

    def pause(self, reason: str) -> None:
        self.paused = reason

    def resume(self) -> None:
        self.paused = None


class Daemon:
    """A pipeline that swaps its lanes just before or just after it answers."""

    def __init__(self, folder: Path, old: Lane) -> None:
        self.lanes = {"main": old}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.pauses = Pauses(folder / "paused", self)  # type: ignore[arg-type]
        self.operator = Operator(self, None, self, SystemClock())  # type: ignore[arg-type]

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
