"""Durations and sizes: read, shown, refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.config.models import Workers
from inboxd.config.units import DURATION, SIZE, duration, show_duration, show_size, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("0s", 0.0), ("1.5s", 1.5), ("10s", 10.0), ("5m", 300.0), ("2h", 7200.0), ("1d", 86400.0)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1 s", "1S", "1w", "1h30m", ".5s", "1.s", "١s", "10s\n", 10, 1.0, None, True]
)
def test_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="250ms, 10s, 5m, 2h or 1d"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("0B", 0), ("100B", 100), ("64KiB", 65536), ("1.5GiB", 3 << 29), ("2TiB", 2 << 40)]
)
def test_a_size(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "10", "1KB", "1kib", "1 GiB", "-1B", "1e3B", 10, None])
def test_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="64KiB, 512MiB or 1GiB"):
        size(text)


def test_what_no_clock_or_disk_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="36500d"):
        duration("36501d")
    with pytest.raises(ValueError, match="smaller"):
        size("999999999TiB")


@given(st.integers(1, 999), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_shown_duration_reads_the_same(number: int, unit: str) -> None:
    seconds = duration(f"{number}{unit}")
    assert duration(show_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(1, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_a_shown_size_reads_the_same(number: int, unit: str) -> None:
    assert size(show_size(size(f"{number}{unit}"))) == size(f"{number}{unit}")


@given(st.floats(0, 86400.0 * 36500))
def test_any_span_is_shown_as_a_duration(seconds: float) -> None:
    assert duration(show_duration(seconds)) == pytest.approx(seconds, rel=0.05, abs=0.001)


@given(st.from_regex(str(DURATION.json_schema["pattern"]), fullmatch=True).filter(str.isascii))
def test_the_schema_knows_durations(text: str) -> None:
    try:
        duration(text)
    except ValueError:
        assert re.search(r"[0-9]{5}", text), "only huge numbers are refused"


@given(st.text(max_size=8))
def test_what_is_read_the_schema_knows(text: str) -> None:
    for read, schema in ((duration, DURATION), (size, SIZE)):
        try:
            read(text)
        except ValueError:
            continue
        assert re.search(str(schema.json_schema["pattern"]), text)


def test_numbers_need_no_unit_in_python() -> None:
    assert Workers(timeout=5, max_memory=1 << 20).timeout == 5
