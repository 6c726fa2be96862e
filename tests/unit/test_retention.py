"""A wall clock that leaps ahead removes nothing, until somebody had the time to notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboxd.retention import Doubt

HOUR, DAY = 3600.0, 86400.0


class Clock:
    def __init__(self) -> None:
        self.up, self.wall = 1000.0, 1.7e9

    def monotonic(self) -> float:
        return self.up

    def uptime(self) -> float:
        return self.up

    def time(self) -> float:
        return self.wall

    def pass_by(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_clock_that_goes_is_believed(clock: Clock, tmp_path: Path) -> None:
    doubt = Doubt(clock, tmp_path / "clock.json")
    for _ in range(5):
        assert doubt.left() == 0.0
        clock.pass_by(HOUR)
        clock.wall += 60.0  # slewed, or stepped by little


def test_one_that_leaps_ahead_is_not_for_three_days(clock: Clock, tmp_path: Path) -> None:
    doubt = Doubt(clock, tmp_path / "clock.json")
    assert doubt.left() == 0.0
    clock.wall += 10 * 365 * DAY
    assert doubt.left() == 3 * DAY
    clock.pass_by(3 * DAY - 1)
    assert doubt.left() == 1.0
    clock.pass_by(1)
    assert doubt.left() == 0.0
    clock.pass_by(HOUR)
    assert doubt.left() == 0.0


def test_one_that_is_set_right_again_is_believed_at_once(clock: Clock, tmp_path: Path) -> None:
    doubt = Doubt(clock, tmp_path / "clock.json")
    assert doubt.left() == 0.0
    clock.wall += DAY
    assert doubt.left() > 0.0
    clock.wall -= DAY
    assert doubt.left() == 0.0
    clock.wall -= 365 * DAY  # nothing looks older than it is
    assert doubt.left() == 0.0


def test_a_restart_does_not_make_it_believed(clock: Clock, tmp_path: Path) -> None:
    assert Doubt(clock, tmp_path / "clock.json").left() == 0.0
    clock.pass_by(30 * DAY)  # the daemon was down meanwhile, and the machine up
    assert Doubt(clock, tmp_path / "clock.json").left() == 0.0
    clock.wall += 365 * DAY
    for _ in range(2):
        assert Doubt(clock, tmp_path / "clock.json").left() == 3 * DAY


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"boot": "another", "offset": 0}'])
def test_after_a_reboot_nothing_is_known(clock: Clock, tmp_path: Path, content: str) -> None:
    (tmp_path / "clock.json").write_text(content)
    assert Doubt(clock, tmp_path / "clock.json").left() == 0.0
