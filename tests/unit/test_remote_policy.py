"""When a source is asked, and when it is left in peace: on clocks that jump, in years that have 23 and 25 hours."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.agenda import Agenda
from inboxd.config.sources import Source
from inboxd.errors import IllegalTransition
from inboxd.intake.remote import LOOK_AHEAD, TRANSITIONS, Breaker, Cron, Every, Health, follow, next_moment, schedule
from inboxd.lifecycle import Limits
from inboxd.model import Ending, Report

BERLIN = ZoneInfo("Europe/Berlin")
LIMITS = Limits(first=1.0, longest=300.0)


class Hands:
    """Two clocks that are set by hand."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.now = 100.0
        self.wall = wall

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    def go(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def at(text: str, fold: int = 0) -> float:
    """An instant by the clocks of Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, BERLIN).isoformat()


# Schedules


def test_an_interval_begins_at_once_and_is_shaken() -> None:
    for dice, span in ((0.0, 54.0), (0.5, 60.0), (1.0, 66.0)):
        clock = Hands()
        every = Every(60.0, clock, lambda dice=dice: dice)
        assert every.left() == 0.0
        every.begin()
        assert every.left() == every.wait() == pytest.approx(span)
        clock.go(span - 1.0)
        assert every.left() == pytest.approx(1.0)
        clock.go(100.0)
        assert every.left() == 0.0


@given(st.floats(0.001, 1e6), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_an_interval_stays_within_a_tenth(span: float, dice: list[float]) -> None:
    clock = Hands()
    throws = iter(dice)
    every = Every(span, clock, lambda: next(throws))
    for _ in dice:
        every.begin()
        assert 0.9 * span * 0.999 <= every.left() <= 1.1 * span * 1.001
        clock.go(every.left() + 1e-6)
        assert every.left() == 0.0


def test_an_interval_does_not_see_the_wall_clock() -> None:
    clock = Hands()
    every = Every(60.0, clock, lambda: 0.5)
    every.begin()
    clock.wall -= 1e6
    assert every.left() == pytest.approx(60.0)


def test_a_cron_schedule_waits_for_its_moment() -> None:
    clock = Hands(at("2026-11-09T06:02:10"))
    cron = schedule(60.0, "*/5 6-20 * * 1-5", "Europe/Berlin", clock)
    assert isinstance(cron, Cron)
    assert cron.left() == 170.0
    assert cron.wait() == LOOK_AHEAD
    clock.go(169.5)
    assert cron.wait() == 0.5
    clock.go(0.6)
    assert cron.left() == 0.0
    cron.begin()
    assert cron.left() == pytest.approx(299.9)


def test_a_moment_that_is_now_does_not_come_twice() -> None:
    clock = Hands(at("2026-11-09T06:04:59"))
    cron = Cron("*/5 * * * *", "Europe/Berlin", clock)
    clock.go(1.0)
    assert cron.left() == 0.0
    cron.begin()
    assert cron.left() == 300.0


def test_moments_that_were_slept_through_are_made_good_once() -> None:
    clock = Hands(at("2026-11-09T06:00:01"))
    cron = Cron("*/5 * * * *", "Europe/Berlin", clock)
    clock.wall += 86400.0
    assert cron.left() == 0.0
    cron.begin()
    assert cron.left() == 299.0


def test_a_clock_that_is_set_back() -> None:
    clock = Hands(at("2026-11-09T06:00:01"))
    cron = Cron("*/5 * * * *", "Europe/Berlin", clock)
    assert cron.left() == 299.0
    clock.wall -= 0.5
    assert cron.left() == 299.5
    clock.wall -= 86400.0
    assert cron.left() <= 300.0


@pytest.mark.parametrize(
    ("expression", "after", "moments"),
    [
        # put forward on 2026-03-29: 02:00 is followed by 03:00
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("0 * * * *", "2026-03-29T00:30", ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]),
        ("*/30 * * * *", "2026-03-29T01:10", ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"]),
        # put back on 2026-10-25: 03:00 is followed by 02:00
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("0 * * * *", "2026-10-25T01:30", ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]),
        ("0 6 29 2 *", "2026-01-01T00:00", ["2028-02-29T06:00:00+01:00"]),
    ],
)  # fmt: skip
def test_days_with_other_hours(expression: str, after: str, moments: list[str]) -> None:
    moment = at(after)
    for expected in moments:
        moment = next_moment(expression, BERLIN, moment)
        assert shown(moment) == expected


def test_a_fixed_hour_does_not_come_again_within_the_second_one() -> None:
    """The library alone gives a moment of the first hour here, which has passed."""
    found = next_moment("30 2 * * *", BERLIN, at("2026-10-25T02:15", fold=1))
    assert shown(found) == "2026-10-26T02:30:00+01:00"


_EXPRESSIONS = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * *", "59 23 * * 0", "15 2-3 * * 1-5", "0 0 1 * *"]


@given(
    st.sampled_from(_EXPRESSIONS),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)).map(lambda one: one.replace(tzinfo=UTC).timestamp()),
)
def test_the_next_moment_is_later(expression: str, zone: str, after: float) -> None:
    found = next_moment(expression, ZoneInfo(zone), after)
    assert after < found < after + timedelta(days=32).total_seconds()
    assert next_moment(expression, ZoneInfo(zone), found - 0.001) == found


def test_an_expression_that_never_comes() -> None:
    assert next_moment("0 0 */40 * 1#5", ZoneInfo("UTC"), 0.0) == math.inf


# The breaker


def breaker(dice: float = 1.0, limits: Limits = LIMITS) -> tuple[Breaker, Hands]:
    clock = Hands()
    return Breaker(limits, clock, lambda: dice), clock


def test_it_opens_after_five_in_a_row() -> None:
    guard, _clock = breaker()
    for _ in range(4):
        assert not guard.fail("reset")
        assert guard.lets_pass
    assert guard.text() == "does not answer: 4 failures in a row: reset"
    guard.succeed()
    assert guard.text() == ""
    for _ in range(4):
        assert not guard.fail("reset")
    assert guard.fail("connection refused")
    assert (guard.health, guard.lets_pass, guard.is_refused) == (Health.OPEN, False, False)
    assert guard.text() == "rests after 5 failures in a row, the next try is in 1 s: connection refused"


def test_a_rest_doubles_up_to_the_longest() -> None:
    guard, clock = breaker()
    for _ in range(5):
        guard.fail("away")
    rests = []
    for _ in range(12):
        rests.append(guard.left())
        clock.go(guard.left())
        assert guard.lets_pass
        guard.begin()
        assert not guard.fail("away"), "an outage is told once"
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_one_errand_goes_to_see() -> None:
    guard, clock = breaker()
    for _ in range(5):
        guard.fail("away")
        clock.go(2.0)
    clock.go(60.0)
    guard.begin()
    assert (guard.health, guard.lets_pass, guard.left()) == (Health.PROBING, False, math.inf)
    assert guard.text() == "is tried again after 5 failures in a row: away"
    with pytest.raises(IllegalTransition):
        guard.begin()
    clock.go(3.0)
    assert guard.succeed() == 73.0, "since the first failure"
    assert (guard.health, guard.failures, guard.text()) == (Health.CLOSED, 0, "")
    assert guard.succeed() is None


def test_a_refusal_opens_at_once_and_rests_long() -> None:
    guard, clock = breaker(0.0)
    assert guard.fail("status 401", refused=True)
    assert guard.left() == 150.0, "half of the longest at least, whatever the dice say"
    assert guard.text() == "refuses us, the next try is in 150 s: status 401"
    clock.go(150.0)
    guard.begin()
    assert not guard.fail("status 401", refused=True)
    assert guard.left() == 150.0
    clock.go(150.0)
    guard.begin()
    assert guard.succeed() == 300.0
    assert not guard.is_refused


@pytest.mark.parametrize(("longest", "rest"), [(2.0, 300.0), (300.0, 300.0), (1000.0, 500.0)])
def test_who_is_refused_asks_no_sooner_than_usual(longest: float, rest: float) -> None:
    clock = Hands()
    guard = Breaker(Limits(first=0.5, longest=longest), clock, lambda: 0.0, seldom=300.0)
    for _ in range(3):
        guard.fail("status 401", refused=True)
        assert guard.left() == rest
        clock.go(rest)
        guard.begin()
    guard.fail("status 401", refused=True)
    guard.hurry()
    assert guard.lets_pass, "an operator has said so"


def test_an_outage_is_not_asked_as_seldom_as_a_refusal() -> None:
    clock = Hands()
    guard = Breaker(LIMITS, clock, lambda: 1.0, seldom=300.0)
    for _ in range(5):
        guard.fail("away")
    assert guard.left() == 1.0
    assert guard.fail("status 401", refused=True), "of an errand that was under way"
    assert guard.left() == 300.0


def test_a_source_that_refuses_us_is_asked_after_its_interval() -> None:
    place = {"list": "http://127.0.0.1/list"}
    rules = Source.model_validate({"http": place, "every": "5m", "retry": {"first": "500ms", "longest": "2s"}})
    clock = Hands()
    agenda = Agenda(rules, clock)
    asked = []
    while clock.now < 900.0:
        if agenda.room() and agenda.poll_is_due():
            asked.append(clock.now)
            agenda.began("poll")
            agenda.failed(Report("", Ending.BROKEN, message="status 401"))
            agenda.poll_failed()
        clock.go(1.0)
    assert asked == [100.0, 400.0, 700.0]
    assert not agenda.room()
    agenda.ask()
    assert agenda.room() and agenda.poll_is_due()


def test_an_outage_that_turns_out_to_be_a_refusal_is_told() -> None:
    guard, clock = breaker()
    for _ in range(5):
        guard.fail("away")
    clock.go(1.0)
    guard.begin()
    assert guard.fail("wrong host key", refused=True)
    clock.go(guard.left())
    guard.begin()
    assert not guard.fail("away"), "the same outage"
    assert not guard.is_refused


def test_errands_that_were_under_way_make_no_rest_longer() -> None:
    guard, _clock = breaker()
    for _ in range(8):
        guard.fail("away")
    assert guard.left() == 1.0
    assert guard.fail("status 403", refused=True)
    assert guard.is_refused
    assert guard.succeed() == 0.0


def test_a_probe_that_is_given_back() -> None:
    guard, clock = breaker()
    for _ in range(5):
        guard.fail("away")
    clock.go(1.0)
    guard.begin()
    guard.release()
    assert (guard.health, guard.lets_pass) == (Health.OPEN, True)
    guard.begin()
    guard.succeed()
    guard.begin()
    guard.release()
    assert guard.lets_pass


def test_a_source_that_asks_for_a_pause_gets_it() -> None:
    guard, clock = breaker()
    assert not guard.fail("status 429", after=12.0)
    assert (guard.health, guard.lets_pass, guard.left()) == (Health.CLOSED, False, 12.0)
    assert guard.text() == "asked us to wait, for 12 s more: status 429"
    guard.succeed()
    assert guard.left() == 12.0, "another errand's success does not end it"
    clock.go(12.0)
    assert guard.lets_pass
    assert guard.text() == ""
    guard.fail("status 503", after=1e9)
    assert guard.left() == 3600.0
    clock.go(3600.0)
    for _ in range(4):
        guard.fail("status 503", after=50.0)
    assert (guard.health, guard.left()) == (Health.OPEN, 50.0)
    guard.fail("status 503", after=0.0)
    assert guard.left() == 50.0, "no shorter"


def test_somebody_is_in_a_hurry() -> None:
    """The rest is over, the outage is not: whoever waits for its end hears of it."""
    guard, clock = breaker()
    guard.fail("no such user", refused=True)
    clock.go(20.0)
    assert not guard.lets_pass
    guard.hurry()
    assert (guard.lets_pass, guard.health) == (True, Health.OPEN)
    guard.begin()
    guard.hurry()
    assert not guard.lets_pass, "one goes to see, and no other"
    assert guard.succeed() == 20.0
    guard.fail("503", after=60.0)
    assert not guard.lets_pass
    guard.hurry()
    assert guard.lets_pass


def test_the_table() -> None:
    for health in Health:
        for event in ("succeed", "fail", "trip", "probe", "release"):
            if (health, event) in TRANSITIONS:
                assert follow(health, event) in Health
                assert f"{health}" in (Health.__doc__ or "")
            else:
                with pytest.raises(IllegalTransition):
                    follow(health, event)


@given(
    st.lists(
        st.sampled_from(["begin", "succeed", "fail", "refuse", "pause", "release", "second", "hour"]), max_size=60
    ),
    st.floats(0, 1),
)
def test_whatever_happens(steps: list[str], dice: float) -> None:
    """Never two at once while it is probed, never shut for ever, and each outage told once and ended once."""
    guard, clock = breaker(dice)
    under_way = 0
    for step in steps:
        if step == "begin" and guard.lets_pass:
            guard.begin()
            under_way += 1
        elif step in ("second", "hour"):
            clock.go(1.0 if step == "second" else 3600.0)
        elif step != "begin" and under_way:
            under_way -= 1
            closed, refused_before = guard.health is Health.CLOSED, guard.is_refused
            if step == "succeed":
                assert (guard.succeed() is None) == closed
            elif step == "release":
                guard.release()
            else:
                refused = step == "refuse"
                told = guard.fail("why", refused=refused, after=5.0 if step == "pause" else None)
                opened = closed and guard.health is Health.OPEN
                assert told == (opened or (refused and not refused_before))
        assert guard.health is Health.PROBING or guard.left() <= 3600.0
        assert bool(guard.text()) == (not guard.lets_pass or guard.health is not Health.CLOSED or guard.failures > 0)
        assert (guard.failures == 0) <= (guard.health is Health.CLOSED)
