"""What is expected is counted in the ledger: damage that only this count meets is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inboxd import arrivals
from inboxd.arrivals import Expectations, Subject
from inboxd.clock import SystemClock
from inboxd.config.load import load
from inboxd.config.sources import Expect
from inboxd.custody.history import History
from inboxd.errors import LedgerError, LedgerRefused, LedgerUnavailable
from support.limits import no_more_threads
from support.site import Site
from support.wait import wait_until


def test_damage_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    error: LedgerError = LedgerUnavailable("away")

    def count(*_asked: Any, **_how: Any) -> int:
        raise error

    monkeypatch.setattr(arrivals, "emit", lambda _event, **fields: told.append(fields))
    monkeypatch.setattr(History, "arrivals", count)
    expectations = Expectations(tmp_path, History(f"sqlite:///{tmp_path}/ledger.sqlite"), SystemClock())
    wanted = {"inbox main": (Subject("main", None, False), Expect(by="06:30", zone="UTC"))}
    expectations.look(wanted)
    assert told == []
    error = LedgerRefused("the ledger is damaged", hint="restore it")
    for _ in range(3):
        expectations.look(wanted)
    assert [fields["message"] for fields in told] == ["arrivals can't be counted: the ledger is damaged (restore it)"]


def test_a_look_waits_for_a_thread(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.inbox("main", expect={"by": "06:30", "zone": "UTC"})
    site.state.mkdir()
    config = load(site.config)
    expectations = Expectations(site.state, History(f"sqlite:///{tmp_path}/ledger.sqlite"), SystemClock())
    with no_more_threads():
        expectations.start(config)
    assert not (site.state / "expected").exists()
    expectations.start(config)
    wait_until((site.state / "expected").exists, "a look")
