"""The pipeline in simulation: whatever strikes it at any of its calls, the invariants hold, and all comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inboxd.custody import claim, results
from inboxd.pipeline import Pipeline
from simulation.schedule import KINDS, LARGEST, LONGEST, Event, Schedule, shrunk
from simulation.simulation import Simulation
from support.faults import fault, scale

_events = st.builds(Event, st.integers(0, LONGEST), st.sampled_from(sorted(KINDS)), st.integers(0, LARGEST - 1))
_schedules = st.builds(
    Schedule, seed=st.integers(0, 1 << 16), model=st.sampled_from(["ordered", "subset"]),
    durability=st.sampled_from(["full", "process"]), settle=st.sampled_from(["renamed", "quiet"]),
    duplicates=st.sampled_from(["process", "skip", "error"]), claim=st.sampled_from(["rename", "copy"]), files=st.integers(0, 6),
    events=st.lists(_events, max_size=25).map(tuple),
)  # fmt: skip
_SEEDS = (0, 17, 99, 506, 553, 583, 610, 4127, 4610, 5103, 6333, 8730)  # each has shown something that did not hold
_COPYING = (60, 217, 731)  # likewise, with `claim: copy`


@fault(
    "All of it together", "any of these, at any call of the pipeline, in any order",
    how="simulation: the real pipeline on a simulated disk, pool and clock; schedules drawn by hypothesis",
    shows="nothing is lost or overwritten, one end per file, all comes to its end; a power cut takes nothing accepted",
)  # fmt: skip
@settings(
    max_examples=scale(25, 5000), derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(schedule=_schedules)
def test_whatever_strikes_the_invariants_hold(schedule: Schedule, tally: Callable[..., None]) -> None:
    told = Simulation(schedule).run()
    assert not told.violation, told.violation
    tally()


@pytest.mark.parametrize(
    ("seed", "claim"), [*((seed, "rename") for seed in _SEEDS), *((seed, "copy") for seed in _COPYING)]
)
def test_what_was_once_found_stays_mended(seed: int, claim: str) -> None:
    told = Simulation(replace(Schedule.random(seed), claim=claim)).run()
    assert not told.violation, told.violation


def test_a_file_with_a_second_name_does_not_come_back_from_quarantine() -> None:
    """Its name in inbound/ is gone for good, though no byte of it was synced for it."""
    events = ((0, "drop", 10155), (94, "fault", 2792), (14, "drop", 2890), (0, "drop", 36833), (60, "cut", 51135),
              (739, "cut", 14708))  # fmt: skip
    told = Simulation(
        Schedule(seed=3186, model="subset", duplicates="error", files=0, events=tuple(Event(*one) for one in events))
    ).run()
    assert not told.violation, told.violation


@pytest.mark.parametrize("seed", [0, 2])
def test_a_retry_that_recovery_finishes_is_durable(seed: int) -> None:
    """The daemon dies after the rename, the next one adopts the file, and then the power is cut."""
    for cut in (15, 21, 27):
        events = (Event(0, "drop", 4), Event(420, "operate", 2), Event(6, "die", 0), Event(cut, "cut", 0))
        told = Simulation(Schedule(seed=seed, model="subset", files=0, events=events)).run()
        assert not told.violation, told.violation


def test_a_schedule_replays_exactly() -> None:
    schedule = Schedule.random(7)
    first, again = (Simulation(schedule, verbose=True).run() for _ in range(2))
    assert first == again and first.steps > 100


def _fails(seeds: range) -> Schedule | None:
    return next((one for one in map(Schedule.random, seeds) if Simulation(one).run().violation), None)


def test_it_finds_a_sync_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim.Claims, "sync", lambda self, files: None)
    found = _fails(range(60))
    assert found is not None
    small = shrunk(found, lambda one: bool(Simulation(one).run().violation), tries=25)
    assert len(small.events) < len(found.events)


def test_it_finds_results_that_are_not_synced_before_their_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.Results, "sync", lambda self: None)
    one_file = [
        Schedule(seed=gap, files=0, events=(Event(0, "drop", 3), Event(gap, "cut", 0))) for gap in range(60, 180)
    ]
    assert any("is not" in Simulation(one).run().violation for one in one_file)


def test_it_finds_two_lines_of_a_turn_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """DONE is recorded before the rename is durable."""
    sync, record = Pipeline._sync, Pipeline._record

    def record_then_sync(self: Pipeline) -> None:
        taken, moved = list(self._taken), list(self._moved)
        record(self)
        self._taken, self._moved = taken, moved
        sync(self)
        self._taken, self._moved = [], []

    monkeypatch.setattr(Pipeline, "_sync", lambda self: None)
    monkeypatch.setattr(Pipeline, "_record", record_then_sync)
    assert _fails(range(60)) is not None


def test_shrinking_leaves_what_matters() -> None:
    schedule = replace(Schedule.random(3), files=2)
    wanted = schedule.events[4]
    small = shrunk(schedule, lambda one: any(event.arg == wanted.arg for event in one.events))
    assert [event.arg for event in small.events] == [wanted.arg] and small.files == 0
