"""Which settings are tried, and which is recommended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inboxd.tune.plan import Figures, Run, Setting, Wishes, best, grid, lines, rounds

NOW = Setting(3, 100, "full")


def test_what_suits_the_machine_is_tried_and_what_is_configured() -> None:
    tried = grid(NOW, 4, Wishes(), 9_999)
    assert {setting.processes for setting in tried} == {1, 2, 3, 4, 8}
    assert {setting.batch_size for setting in tried} == {10, 100, 500}
    assert {setting.durability for setting in tried} == {"full"}
    assert tried.count(NOW) == 1


def test_what_needs_more_files_than_there_are_is_not_tried() -> None:
    """Two batches for each worker: else chance says which of them gets the files."""
    tried = [(setting.processes, setting.batch_size) for setting in grid(NOW, 4, Wishes(), 200)]
    assert tried == [(1, 10), (1, 100), (2, 10), (3, 100), (4, 10), (8, 10)]
    assert grid(NOW, 4, Wishes(), 1) == [NOW]


def test_wishes_are_followed() -> None:
    tried = grid(NOW, 4, Wishes((7,), (9,), ("full", "process")), 1)
    assert tried == [NOW, Setting(7, 9, "full"), Setting(7, 9, "process")]


def test_rounds_are_interleaved() -> None:
    a, b = Setting(1, 1, "full"), Setting(2, 1, "full")
    assert list(rounds([a, b], 3)) == [a, b, b, a, a, b]


def test_figures_are_the_median_and_the_worst() -> None:
    runs = [Run(10.0, 5, 0), Run(30.0, 7, 2), Run(11.0, 6, 0)]
    assert Figures.of(runs) == Figures(11.0, 7, 2)


def test_a_setting_with_a_trial_that_was_given_up_has_no_rate() -> None:
    assert Figures.of([Run(10.0, 5, 0), Run(0.0, 0, 9)]) == Figures(0.0, 5, 9)


def test_the_cheapest_of_the_fastest_is_best() -> None:
    figures = {
        Setting(1, 100, "full"): Figures(50.0, 1, 0), Setting(2, 100, "full"): Figures(97.0, 1, 0),
        Setting(2, 500, "full"): Figures(99.0, 1, 0), Setting(8, 100, "full"): Figures(100.0, 1, 0),
        Setting(1, 100, "process"): Figures(900.0, 1, 0),
    }  # fmt: skip
    assert best(figures, "full") == Setting(2, 100, "full")
    assert best(figures, "full", Setting(8, 100, "full")) == Setting(8, 100, "full")
    assert best(figures, "full", Setting(1, 100, "full")) == Setting(2, 100, "full")
    assert best(figures, "process") == Setting(1, 100, "process")
    assert lines(Setting(1, 100, "process"))[0] == "durability: process"
    assert best({}, "full", NOW) is None


@given(st.dictionaries(st.integers(1, 9), st.floats(1.0, 1e6), min_size=1))
def test_what_is_recommended_is_nearly_the_fastest(rates: dict[int, float]) -> None:
    figures = {Setting(number, 1, "full"): Figures(rate, 0, 0) for number, rate in rates.items()}
    chosen = best(figures, "full")
    assert chosen is not None
    assert rates[chosen.processes] >= 0.9 * max(rates.values())
    assert all(number >= chosen.processes for number, rate in rates.items() if rate >= rates[chosen.processes] / 0.9)
