"""What tests say of the faults that they produce, for the table in docs/faults.md.

    @fault("File system", "the disk is full", how="a tmpfs of 2 MiB", shows="nothing is lost; it goes on when there is room")
    def test_full(site, tally):
        for _ in range(scale(3, 50)):
            ...
            tally()

Tests with the same section, fault and `how` share a row. Where INBOXD_FAULTS names a file, each run appends to it what
its tests came to; packaging/faults.py makes the page from that. INBOXD_ROUNDS=full asks for all rounds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

#: In the order of the page.
SECTIONS = (
    "Process death", "Power loss", "Workers and handlers", "System calls", "Disks", "Machine limits", "Ledger", "Watching",
    "Sources and destinations", "Uploaders", "Clocks", "All of it together",
)  # fmt: skip


def fault(section: str, what: str, *, how: str, shows: str) -> Any:
    """Mark a test: which fault, how it is produced, and what is seen to hold after it."""
    assert section in SECTIONS, section
    return pytest.mark.fault(section=section, what=what, how=how, shows=shows)


def scale(ci: T, full: T) -> T:
    """How many rounds to run, or which: few in CI, all for the table."""
    return full if os.environ.get("INBOXD_ROUNDS") == "full" else ci


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Call it once for each round that ended well (or with how many); a test that never does counts as one."""
    rounds = 0

    def count(more: int = 1) -> None:
        nonlocal rounds
        rounds += more

    yield count
    request.node.user_properties.append(("rounds", max(1, rounds)))


class Recorder:
    """The pytest plugin: marks travel with the reports, also from xdist's processes, and are written at the end."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", dict(mark.kwargs)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        faults = [value for key, value in report.user_properties if key == "fault"]
        # `rounds` is known when the fixture has ended; a call that failed is known before.
        if not faults or (report.when != "teardown" and report.passed):
            return
        rounds = sum(value for key, value in report.user_properties if key == "rounds") or 1
        place = report.nodeid.partition("::")[0]
        self._found += [{**one, "rounds": rounds, "result": report.outcome, "test": place} for one in faults]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = os.environ.get("INBOXD_FAULTS")
        if path and not hasattr(session.config, "workerinput"):
            with Path(path).open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(one) + "\n" for one in self._found)
