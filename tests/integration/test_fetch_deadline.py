"""Deadlines that hang up: what ends because of it has not ended well."""

from __future__ import annotations

import threading

import pytest

from inboxd.fetch.deadline import cut_after, cut_when_still
from inboxd.fetch.errors import Away, TooLarge


@pytest.mark.parametrize("deadline", [cut_after, cut_when_still])
def test_an_end_of_our_own_making_is_none(deadline) -> None:
    cut = threading.Event()
    with pytest.raises(Away, match="too slow"), deadline(0.01, cut.set, "too slow"):
        cut.wait()


@pytest.mark.parametrize("deadline", [cut_after, cut_when_still])
def test_what_fails_because_of_it_is_away_and_what_fails_before_is_as_it_was(deadline) -> None:
    cut = threading.Event()
    with pytest.raises(Away, match="too slow") as caught, deadline(0.01, cut.set, "too slow"):
        cut.wait()
        raise OSError("broken pipe")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(OSError, match="no route"), deadline(60.0, cut.set, "too slow"):
        raise OSError("no route")


def test_too_large_stays_too_large() -> None:
    cut = threading.Event()
    with pytest.raises(TooLarge), cut_after(0.01, cut.set, "too slow"):
        cut.wait()
        raise TooLarge("it is larger")


def test_it_ends_in_time() -> None:
    cut = threading.Event()
    with cut_after(60.0, cut.set, "too slow"), cut_when_still(60.0, cut.set, "it is still") as move:
        move()
    assert not cut.is_set()
