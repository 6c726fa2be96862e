"""What reports of polls mean for their source: when it is asked again, and what an operator hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from inboxd import sourcestory
from inboxd.config.models import Inbox
from inboxd.config.sources import Source as Rules
from inboxd.custody.items import Items
from inboxd.errands import Errands
from inboxd.intake.remote import Health
from inboxd.lane import Lane
from inboxd.model import Ending, Report
from inboxd.source import Source
from inboxd.sourceview import condition
from inboxd.wire import Errand

HOUR = 3600.0


class Hands:
    """Two clocks that are set by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


class OneLane:
    """What a source needs of its lane."""

    name = "main"
    retiring = False
    paused = None

    def __init__(self, root: Path) -> None:
        self.rules = Inbox.model_validate({"root": root, "handler": {"command": ["true", "{path}"]}})

    def may_claim(self, _now: float) -> bool:
        return True

    has_space = may_claim

    def unfinished(self) -> int:
        return 0


class NoItems:
    """A ledger that has none."""

    def due(self, *_: Any) -> list[Any]:
        return []

    def next_due(self, *_: Any) -> None:
        return None


class Fetchers:
    """Each errand ends as `ending` says."""

    def __init__(self) -> None:
        self.errands: list[Errand] = []
        self.ending = Report("", Ending.DONE, result={"items": 0})

    def free(self, _source: str) -> int:
        return 1

    def dispatch(self, errand: Errand) -> list[tuple[str, Report]]:
        self.errands.append(errand)
        if self.ending.ending is Ending.DONE:
            Path(errand.files[0].path).touch()
        return [(errand.batch, self.ending._replace(file_id=item.id)) for item in errand.files]

    def reports(self) -> list[tuple[str, Report]]:
        return []


class Rig:
    """One source that is polled once an hour, and turns of a pipeline."""

    def __init__(self, root: Path) -> None:
        (root / "incoming").mkdir()
        place = {"host": "127.0.0.1", "user": "acme", "password": "x", "path": "/out"}
        rules = Rules.model_validate({"ftp": place, "every": "1h"})
        self.clock, self.fetchers = Hands(), Fetchers()
        self.errands = Errands(self.fetchers, cast("Items", NoItems()), self.clock)
        self.source = Source("acme", rules, cast("Lane", OneLane(root)), self.clock)
        self.errands.sources["acme"] = self.source

    def turns(self, seconds: float) -> int:
        """What the pipeline does in this time; returns how many polls that were."""
        before, until = len(self.fetchers.errands), self.clock.now + seconds
        while self.clock.now < until:
            self.errands.collect()
            if news := self.errands.news():
                news.new = {source.name: found for source, found in news.found}
                self.errands.apply(news)
            for going in self.errands.form():
                self.errands.dispatch(going)
            self.clock.now = min(until, max(self.clock.now + 0.001, self.errands.next_wake()))
        return len(self.fetchers.errands) - before


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Names of what an operator has heard since the last call."""
    heard: list[str] = []

    def since() -> list[str]:
        news, heard[:] = list(heard), []
        return news

    monkeypatch.setattr(sourcestory, "emit", lambda event, **_: heard.append(event.name))
    yield since


@pytest.mark.parametrize("ending", [Ending.CRASHED, Ending.TIMED_OUT, Ending.FAILED, Ending.REJECTED])
def test_a_source_whose_polls_bring_no_listing_rests_and_is_told_of_once(rig: Rig, told: Any, ending: Ending) -> None:
    rig.fetchers.ending = Report("", ending, message="it died of it")
    assert 5 <= rig.turns(60) < 60
    assert rig.source.agenda.breaker.health is not Health.CLOSED
    assert "it died of it" in condition(rig.source)
    assert told() == ["source.away"]
    rig.turns(HOUR)
    assert rig.turns(HOUR) < 300, "by retry.longest, 5 minutes, with jitter"
    assert told() == []
    rig.fetchers.ending = Report("", Ending.DONE, result={"items": 0})
    rig.turns(HOUR)
    assert (rig.source.agenda.breaker.health, told()[0]) == (Health.CLOSED, "source.back")
    assert rig.turns(10 * HOUR) in range(8, 13)


def test_a_poll_that_is_given_back_is_nobodys_fault(rig: Rig, told: Any) -> None:
    for begun in (True, False):
        rig.fetchers.ending = Report("", Ending.RELEASED, begun=begun)
        assert rig.turns(10) > 5
        assert (rig.source.agenda.breaker.failures, told()) == (0, [])
