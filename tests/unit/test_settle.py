"""When a file is complete, and which one is first: without disk, clock or process."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inboxd.intake.settle import Settling
from inboxd.intake.strange import Strangers
from inboxd.intake.stuck import Stuck
from inboxd.model import Sighting


def seen(name: str, *, version: int = 0, folder: str = "", regular: bool = True, links: int = 1) -> Sighting:
    return Sighting("a", folder, name, 1, 2, version, version, regular, links)


def known(span: float, order: str = "name", window: int = 100, later: int = 100) -> Settling:
    """Everything has been looked through once, and nothing was found."""
    settling = Settling(span, order, window, later)
    settling.begin_pass()
    settling.end_pass()
    return settling


def names(sightings: list[Sighting]) -> list[str]:
    return [sighting.name for sighting in sightings]


# Quiet


def test_it_must_stand_still() -> None:
    settling = known(1.0)
    settling.note(seen("x"), 10.0)
    assert settling.next_due() == 11.0
    assert settling.take(10.9, 9) == []
    assert settling.left(("", "x"), 10.9) == pytest.approx(0.1)
    assert names(settling.take(11.0, 9)) == ["x"]
    assert len(settling) == 0
    assert settling.next_due() is None


def test_a_changed_file_starts_again() -> None:
    settling = known(1.0)
    settling.note(seen("x", version=1), 10.0)
    settling.note(seen("x", version=2), 10.9)
    assert settling.take(11.5, 9) == []
    assert names(settling.take(11.9, 9)) == ["x"]


def test_a_file_that_is_seen_again_unchanged_does_not_start_again() -> None:
    settling = known(1.0)
    for now in (10.0, 10.4, 10.8):
        settling.note(seen("x"), now)
    assert names(settling.take(11.0, 9)) == ["x"]


def test_a_file_that_was_due_and_has_changed_waits() -> None:
    settling = known(1.0)
    settling.note(seen("x", version=1), 10.0)
    assert settling.take(12.0, 0) == []
    settling.note(seen("x", version=2), 12.0)
    assert settling.take(12.5, 9) == []
    assert [one.size for one in settling.take(13.0, 9)] == [2]


def test_times_of_the_file_do_not_count() -> None:
    settling = known(1.0, "arrival")
    settling.note(seen("future", version=1 << 62), 10.0)
    settling.note(seen("past", version=0), 10.0)
    assert settling.take(10.5, 9) == []
    assert names(settling.take(11.0, 9)) == ["past", "future"]


def test_without_a_span_it_is_complete_at_once() -> None:
    settling = known(0.0)
    settling.note(seen("x"), 10.0)
    assert names(settling.take(10.0, 9)) == ["x"]


def test_what_is_gone_is_forgotten() -> None:
    settling = known(0.0)
    settling.note(seen("x"), 10.0)
    settling.forget(("", "x"))
    assert settling.take(10.0, 9) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 4)), max_size=60))
def test_nothing_leaves_before_it_has_stood_still(steps: list[tuple[str, int, int]]) -> None:
    """For any story of changes: what leaves is as it last was, and has been so for the span."""
    settling, now = known(3.0), 0.0
    latest: dict[str, tuple[int, float]] = {}
    for name, version, wait in steps:
        now += wait
        if name not in latest or latest[name][0] != version:
            latest[name] = (version, now)
        settling.note(seen(name, version=version), now)
        for one in settling.take(now, 9):
            last, since = latest.pop(one.name)
            assert one.size == last
            assert since + 3.0 <= now
    assert set(names(settling.take(now + 3.0, 9))) == set(latest)


@pytest.mark.parametrize("taking", [True, False])
def test_memory_does_not_grow_with_changes(taking: bool) -> None:
    """A file that is written to for ever, in an inbox that may be paused, costs what one file costs."""
    settling = known(0.5, "arrival", window=10)
    for step in range(5000):
        settling.note(seen("x", version=step), float(step))
        if taking:
            settling.take(float(step) + 0.9, 0)
    assert len(settling._queue) + len(settling._due) <= 50
    assert names(settling.take(1e6, 9)) == ["x"]


# Order and window


@given(st.permutations(range(30)), st.integers(1, 40))
def test_by_name(order: list[int], room: int) -> None:
    settling = known(0.0, "name")
    for number in order:
        settling.note(seen(f"{number:02}"), 1.0)
    assert names(settling.take(1.0, room)) == [f"{number:02}" for number in range(min(room, 30))]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_by_arrival_then_by_name(times: list[int]) -> None:
    settling = known(0.0, "arrival")
    for number, when in enumerate(times):
        settling.note(seen(f"{number:02}", version=when), 1.0)
    assert names(settling.take(1.0, 99)) == [f"{n:02}" for _when, n in sorted((w, n) for n, w in enumerate(times))]


@settings(max_examples=200)
@given(st.permutations(range(60)), st.integers(1, 12), st.integers(0, 20), st.integers(1, 12), st.integers(1, 7))
def test_the_order_holds_beyond_the_window(files: list[int], window: int, later: int, room: int, budget: int) -> None:
    """Passes in slices, files taken in between: still every file once, and in order."""
    settling, there = Settling(0.0, "name", window, later), dict.fromkeys(files)
    taken: list[int] = []
    while there:
        settling.begin_pass()
        listed = list(there)
        for start in range(0, len(listed), budget):
            for number in listed[start : start + budget]:
                if number in there:
                    settling.note(seen(f"{number:02}"), 1.0)
            _take(settling, room, there, taken)
        settling.end_pass()
        while not (settling.left_out and settling.nearly_empty) and there:
            _take(settling, room, there, taken)
    assert taken == sorted(files)


def _take(settling: Settling, room: int, there: dict[int, None], taken: list[int]) -> None:
    for _folder, name in settling.recall() if settling.may_recall else ():
        if int(name) in there:
            settling.note(seen(name), 1.0)
    for one in settling.take(1.0, room):
        taken.append(int(one.name))
        del there[int(one.name)]


def test_nothing_leaves_before_all_has_been_seen_once() -> None:
    settling = Settling(0.0, "name", 100, 100)
    settling.begin_pass()
    settling.note(seen("b"), 1.0)
    assert settling.take(1.0, 9) == []
    settling.note(seen("a"), 1.0)
    settling.end_pass()
    assert names(settling.take(1.0, 9)) == ["a", "b"]


def test_without_order_files_leave_during_the_first_pass() -> None:
    settling = Settling(0.0, "none", 2, 100)
    settling.begin_pass()
    assert settling.note(seen("b"), 1.0)
    assert names(settling.take(1.0, 9)) == ["b"]


def test_without_order_a_full_window_takes_no_more() -> None:
    settling = Settling(0.0, "none", 2, 100)
    assert [settling.note(seen(name), 1.0) for name in "abc"] == [True, True, False]
    assert settling.left_out
    assert settling.room == 0
    assert not settling.nearly_empty
    assert settling.note(seen("a"), 1.0)  # known already


def test_what_was_put_aside_has_stood_still_meanwhile() -> None:
    settling = known(5.0, window=4, later=100)
    for number in range(10):
        settling.note(seen(f"{number}"), 10.0)
    assert names(settling.take(15.0, 99)) == ["0", "1", "2"]
    recalled = settling.recall()
    assert [name for _folder, name in recalled] == ["3", "4", "5", "6"]
    for _folder, name in recalled:
        settling.note(seen(name, version=name == "4"), 16.0)
    assert names(settling.take(16.0, 99)) == ["3", "5", "6"]  # 4 has changed
    assert names(settling.take(21.0, 99)) == ["4"]


def test_what_comes_before_those_put_aside_goes_first() -> None:
    settling = known(0.0, window=4, later=100)
    for number in range(10, 20):
        settling.note(seen(f"{number}"), 1.0)
    settling.note(seen("05"), 1.0)
    settling.note(seen("15a"), 1.0)
    assert names(settling.take(1.0, 2)) == ["05", "10"]


class AnyStory(RuleBasedStateMachine):
    """Whatever is noted, taken and forgotten: the window holds, and a full pass finds all that is there."""

    @initialize(later=st.integers(0, 9), span=st.sampled_from([0.0, 2.5]))
    def begin(self, later: int, span: float) -> None:
        self.settling = known(span, "arrival", window=5, later=later)
        self.most = 5 + later
        self.there: dict[str, int] = {}
        self.now = 0.0

    @rule(name=st.sampled_from("abcdefghij"), version=st.integers(0, 20))
    def arrives(self, name: str, version: int) -> None:
        self.now += 1.0
        self.there[name] = version
        self.settling.note(seen(name, version=version), self.now)

    @rule(name=st.sampled_from("abcdefghij"))
    def goes(self, name: str) -> None:
        self.there.pop(name, None)
        self.settling.forget(("", name))

    @rule(room=st.integers(0, 6))
    def take(self, room: int) -> None:
        taken = self.settling.take(self.now, room)
        assert len(taken) <= room
        for one in taken:
            assert self.there.pop(one.name) == one.size

    @precondition(lambda self: self.settling.may_recall)
    @rule()
    def recall(self) -> None:
        for _folder, name in self.settling.recall():
            if name in self.there:
                self.settling.note(seen(name, version=self.there[name]), self.now)

    @rule()
    def look_through(self) -> None:
        self.now += 1.0
        self.settling.begin_pass()
        for name, version in self.there.items():
            self.settling.note(seen(name, version=version), self.now)
        self.settling.end_pass()
        assert self.settling.left_out or len(self.settling) >= len(self.there)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.settling) <= self.most

    def teardown(self) -> None:
        for _ in range(40):
            self.look_through()
            if self.settling.may_recall:
                self.recall()
            self.take(6)
        assert not self.there


TestAnyStory = AnyStory.TestCase


# Entries that are no regular file


def test_a_strange_entry_is_watched_for_a_moment() -> None:
    strangers = Strangers()
    strangers.note(seen("link", regular=False), 10.0)
    strangers.note(seen("link", regular=False), 10.9)
    assert strangers.next_due() == 11.0
    assert strangers.due(10.9) == []
    assert names(strangers.due(11.0)) == ["link"]
    assert strangers.next_due() is None


def test_two_names_are_allowed_for_a_minute() -> None:
    strangers = Strangers()
    strangers.note(seen("x", links=2), 10.0)
    assert strangers.due(69.9) == []
    assert names(strangers.due(70.0)) == ["x"]


def test_one_that_became_ordinary_is_forgotten() -> None:
    strangers = Strangers()
    strangers.note(seen("x", links=2), 10.0)
    strangers.forget(("", "x"))
    assert strangers.due(1e9) == []


def test_strange_entries_are_bounded() -> None:
    strangers = Strangers()
    for number in range(5000):
        strangers.note(seen(str(number), regular=False), 10.0)
    assert len(strangers.due(11.0)) == 1000


# Entries that can't be taken


def test_each_try_comes_later_than_the_last() -> None:
    stuck, one = Stuck(), seen("x")
    assert stuck.why(one.key, 0.0) is None
    now, spans = 0.0, []
    for _try in range(12):
        stuck.note(one, "it can't be moved", now)
        until = next(second for second in range(10_000) if not stuck.holds(one, now + second))
        spans.append(until)
        now += until
    assert spans == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert "can't be moved" in str(stuck.why(one.key, now))
    stuck.forget(one.key)
    assert stuck.why(one.key, now) is None


@pytest.mark.parametrize("change", [{"ino": 8}, {"mtime_ns": 8}, {"size": 8}])
def test_a_successor_does_not_inherit_the_wait(change: dict[str, int]) -> None:
    """Nor does the file itself, once it was written to; an inode number is reused at once."""
    stuck, one = Stuck(), seen("x")._replace(ino=7)
    for now in (0.0, 5.0, 15.0, 35.0):
        stuck.note(one, "it can't be moved", now)
    other = one._replace(**change)
    assert stuck.holds(one, 36.0) and not stuck.holds(other, 36.0)
    stuck.note(other, "it can't be moved", 36.0)
    assert stuck.holds(other, 40.9) and not stuck.holds(other, 41.0)


def test_where_too_many_are_stuck_their_folder_waits_and_no_other() -> None:
    stuck = Stuck()
    for number in range(5000):
        stuck.note(seen(str(number), folder="a/locked"), "it can't be moved", 1.0)
    assert stuck.holds(seen("4999", folder="a/locked"), 5.9)
    assert not stuck.holds(seen("4999", folder="a/locked"), 6.0)
    assert "can't be moved" in str(stuck.why(("a/locked", "4999"), 2.0))
    for folder in ("", "a", "a/other", "b"):
        assert not stuck.holds(seen("x", folder=folder), 2.0)
    for number in range(5000):
        stuck.note(seen("x", folder=f"a/{number}"), "it can't be moved", 1.0)
    assert stuck.holds(seen("x", folder="a/other"), 2.0)
    assert not stuck.holds(seen("x"), 2.0) and not stuck.holds(seen("x", folder="b/c"), 2.0)
    assert len(stuck._kept) <= 2001


def test_what_is_stuck_is_bounded_and_what_has_gone_is_forgotten() -> None:
    stuck = Stuck()
    for number in range(15_000):
        stuck.note(seen("x", folder=f"{number}/below"), "it can't be moved", 1.0)
    assert len(stuck._kept) == 10_000
    assert not stuck.holds(seen("x", folder="another"), 2.0)
    stuck.note(seen("x"), "it can't be moved", 4000.0)
    assert len(stuck._kept) == 1
    assert not stuck.holds(seen("y"), 4001.0)
