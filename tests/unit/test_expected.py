"""Files that have to arrive by an hour of the day."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.intake.expected import WEEKDAYS, Arrivals, Expected, Finding, Memory, Window

BERLIN = ZoneInfo("Europe/Berlin")
WORKDAYS = WEEKDAYS[:5]
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def shown(window: Window) -> list[str]:
    return [datetime.fromtimestamp(instant, BERLIN).isoformat(timespec="minutes") for instant in window[1:]]


def arrived(*instants: str | float) -> Callable[[float, float], int]:
    """Counts as a ledger would."""
    known = sorted(at(one) if isinstance(one, str) else one for one in instants)
    return lambda begin, end: bisect_right(known, end) - bisect_right(known, begin)


def monday_to_friday(by: str = "06:30") -> Expected:
    return Expected(by, WORKDAYS, "Europe/Berlin")


def test_a_window_lasts_from_one_expected_hour_to_the_next() -> None:
    expected = monday_to_friday()
    assert shown(expected.window(date(2026, 11, 11))) == [
        "2026-11-10T06:30+01:00", "2026-11-11T06:30+01:00", "2026-11-11T18:30+01:00",
    ]  # fmt: skip
    monday, friday = expected.window(date(2026, 11, 9)), expected.window(date(2026, 11, 6))
    assert shown(monday)[0] == "2026-11-06T06:30+01:00", "the weekend belongs to Monday"
    assert friday.end == monday.begin
    assert shown(friday)[2] == "2026-11-07T18:30+01:00", "half of the way to Monday"


def test_once_a_week() -> None:
    window = Expected("00:00", ["sun"], "UTC").window(date(2026, 11, 8))
    assert window.end - window.begin == 7 * 24 * HOUR


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 29), 23), (date(2026, 3, 30), 24), (date(2026, 10, 25), 25), (date(2026, 10, 26), 24)],
)
def test_days_with_other_hours(day: date, hours: int) -> None:
    window = Expected("06:30", WEEKDAYS, "Europe/Berlin").window(day)
    assert window.end - window.begin == hours * HOUR


def test_an_hour_that_is_left_out_or_comes_twice() -> None:
    expected = Expected("02:30", WEEKDAYS, "Europe/Berlin")
    assert shown(expected.window(date(2026, 3, 29)))[1] == "2026-03-29T03:30+02:00"
    assert shown(expected.window(date(2026, 10, 25)))[1] == "2026-10-25T02:30+02:00"


def test_what_is_due() -> None:
    expected = monday_to_friday()
    since = at("2026-11-06T06:30")
    assert expected.ended(since, at("2026-11-09T06:29:59")) == []
    assert [one.day for one in expected.ended(since, at("2026-11-09T06:30"))] == [date(2026, 11, 9)]
    days = [one.day.day for one in expected.ended(since, at("2026-11-11T12:00"))]
    assert days == [9, 10, 11]
    assert expected.ended(at("2026-11-11T06:30"), at("2026-11-11T12:00")) == []
    assert expected.ended(at("2026-11-12T06:30"), at("2026-11-11T12:00")) == [], "the clock was set back"
    assert len(expected.ended(0.0, since)) <= 31


def test_all_is_well() -> None:
    arrivals = Arrivals(monday_to_friday(), 2, at("2026-11-09T07:00"))
    count = arrived("2026-11-09T06:30:01", "2026-11-10T06:30")
    assert arrivals.look(at("2026-11-10T06:00"), count) == []
    assert arrivals.look(at("2026-11-10T06:31"), count) == []
    assert arrivals.judged == at("2026-11-10T06:30")


def test_something_is_missing() -> None:
    arrivals = Arrivals(monday_to_friday(), 2, at("2026-11-09T07:00"))
    count = arrived("2026-11-09T06:30", "2026-11-10T06:00")
    (found,) = arrivals.look(at("2026-11-10T06:31"), count)
    assert found == Finding(
        date(2026, 11, 10), True, 2, 1,
        "1 of 2 files came that should be here by 06:30 on Tue 2026-11-10 (Europe/Berlin)",
    )  # fmt: skip
    assert arrivals.look(at("2026-11-10T06:32"), count) == [], "said once"


def test_nothing_came() -> None:
    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T07:00"))
    (found,) = arrivals.look(at("2026-11-10T06:31"), arrived())
    assert found.message == "no file came that should be here by 06:30 on Tue 2026-11-10 (Europe/Berlin)"


def test_it_came_late() -> None:
    arrivals = Arrivals(monday_to_friday(), 2, at("2026-11-09T07:00"))
    count = arrived("2026-11-10T06:00", "2026-11-10T07:42", "2026-11-10T07:50", "2026-11-11T06:00")
    assert len(arrivals.look(at("2026-11-10T06:31"), count)) == 1
    assert arrivals.look(at("2026-11-10T07:41"), count) == []
    (late,) = arrivals.look(at("2026-11-10T08:00"), count)
    assert (late.is_missing, late.expected, late.found) == (False, 2, 2)
    assert late.seconds == pytest.approx(72 * 60, abs=1.0)
    assert late.message.startswith(
        "what should be here by 06:30 on Tue 2026-11-10 (Europe/Berlin) has come, 1 h 12 min late"
    )
    assert arrivals.look(at("2026-11-10T09:00"), count) == []
    assert arrivals.look(at("2026-11-11T06:30"), count) == [], "07:50 counts for the next day, not for both"


def test_what_came_late_does_not_count_twice() -> None:
    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T07:00"))
    count = arrived("2026-11-10T08:00")
    told = [arrivals.look(at(f"2026-11-{day}T{hour:02}:31"), count) for day in (10, 11) for hour in range(24)]
    assert [(one.day.day, one.is_missing) for some in told for one in some] == [(10, True), (10, False), (11, True)]


def test_what_comes_towards_the_next_hour_is_the_next_days() -> None:
    """One day was left out for good; the days after it must not be told as late for ever."""
    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T07:00"))
    count = arrived("2026-11-11T06:00", "2026-11-12T06:00")
    told = [arrivals.look(at(f"2026-11-{day}T{hour:02}:31"), count) for day in (10, 11, 12) for hour in range(24)]
    assert [(one.day.day, one.is_missing) for some in told for one in some] == [(10, True)]


def test_a_daemon_that_was_away_over_the_hour() -> None:
    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T06:30"))
    count = arrived("2026-11-10T07:00", "2026-11-11T06:00")
    told = arrivals.look(at("2026-11-12T12:00"), count)
    assert [(one.day.day, one.is_missing) for one in told] == [(10, True), (10, False), (12, True)]
    assert told[1].seconds == pytest.approx(30 * 60, abs=1.0)


def test_nothing_is_counted_without_need() -> None:
    def never(begin: float, end: float) -> int:
        raise AssertionError("asked")

    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T07:00"))
    assert arrivals.look(at("2026-11-10T06:29"), never) == []


_INSTANTS = st.floats(
    datetime(2026, 3, 20, tzinfo=UTC).timestamp(), datetime(2026, 4, 10, tzinfo=UTC).timestamp(), allow_nan=False
)


@given(
    st.lists(_INSTANTS, max_size=40),
    st.lists(_INSTANTS, min_size=1, max_size=30),
    st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    st.integers(1, 4),
    st.times().map(lambda one: f"{one:%H:%M}"),
)
def test_whatever_comes(files: list[float], looks: list[float], weekdays: set[str], at_least: int, by: str) -> None:
    """A window is missing exactly when it is; each is told once, and late only after it was missing."""
    expected, count, start = Expected(by, weekdays, "Europe/Berlin"), arrived(*files), min(looks)
    arrivals = Arrivals(expected, at_least, start)
    told = [finding for now in sorted(looks) for finding in arrivals.look(now, count)]
    missing = [one.day for one in told if one.is_missing]
    late = [one.day for one in told if not one.is_missing]
    assert len(set(missing)) == len(missing)
    assert len(set(late)) == len(late)
    assert set(late) <= set(missing)
    for window in expected.ended(start, max(looks)):
        if count(window.begin, window.end) < at_least:
            assert window.day in missing
        elif window.day in missing:
            before = [one for one in told if not one.is_missing and expected.window(one.day).end == window.begin]
            assert before, "some of them were told as late for the day before"
    for one in told:
        assert (one.found >= at_least) is not one.is_missing
        assert one.is_missing or 0.0 < one.seconds <= expected.window(one.day).grace - expected.window(one.day).end


def test_what_is_late_is_waited_for_beyond_a_restart() -> None:
    """And what was told as late is not taken for the next day's then."""
    expected, count = monday_to_friday(), arrived("2026-11-10T08:00")
    arrivals = Arrivals(expected, 1, at("2026-11-09T07:00"))
    told = []
    for hour in range(6, 36):
        memory = Memory(*json.loads(json.dumps(arrivals.memory)))
        arrivals = Arrivals.recalled(expected, 1, memory)
        told += arrivals.look(at("2026-11-10T00:31") + hour * HOUR, count)
    assert [(one.day.day, one.is_missing) for one in told] == [(10, True), (10, False), (11, True)]


def test_how_it_stands() -> None:
    arrivals = Arrivals(monday_to_friday(), 2, at("2026-11-09T07:00"))
    count = arrived("2026-11-10T06:00", "2026-11-10T07:00", "2026-11-10T08:00", "2026-11-10T20:00", "2026-11-10T21:00")

    def stand(moment: str) -> tuple[int, int]:
        arrivals.look(at(moment), count)
        window, found = arrivals.stand(at(moment), count)
        return window.day.day, found

    assert stand("2026-11-09T08:00") == (10, 0)
    assert stand("2026-11-10T06:10") == (10, 1), "to come"
    assert stand("2026-11-10T06:30") == (10, 1), "missing"
    assert stand("2026-11-10T07:01") == (11, 0), "it came late, and the next one is awaited"
    assert stand("2026-11-10T09:00") == (11, 1)
    assert stand("2026-11-10T21:00") == (11, 3)


def test_what_is_here_is_not_counted_again() -> None:
    arrivals = Arrivals(monday_to_friday(), 1, at("2026-11-09T07:00"))
    assert arrivals.stand(at("2026-11-09T08:00"), arrived("2026-11-09T07:30"))[1] == 1

    def never(begin: float, end: float) -> int:
        raise AssertionError("asked")

    assert arrivals.stand(at("2026-11-10T06:00"), never)[1] == 1


def test_the_window_that_ends_next() -> None:
    expected = monday_to_friday()
    assert expected.coming(at("2026-11-10T06:29:59")).day == date(2026, 11, 10)
    assert expected.coming(at("2026-11-10T06:30")).day == date(2026, 11, 11)
    assert expected.coming(at("2026-11-07T12:00")).day == date(2026, 11, 9), "over the weekend"
