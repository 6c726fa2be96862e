"""What `cut` promises for any heap, any pool and any size of batch."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inboxd.batching import cut, shares

_ANY = {
    "waiting": st.integers(0, 5000),
    "idle": st.integers(0, 40),
    "room": st.integers(0, 40),
    "size": st.integers(1, 300),
}


@given(**_ANY)
def test_no_batch_is_empty_too_large_or_too_many(waiting: int, idle: int, room: int, size: int) -> None:
    sizes = cut(waiting, idle, room, size)
    assert sum(sizes) <= waiting
    assert len(sizes) <= room
    assert all(1 <= one <= size for one in sizes)


@given(**_ANY)
def test_no_worker_is_idle_while_files_wait(waiting: int, idle: int, room: int, size: int) -> None:
    sizes = cut(waiting, idle, room, size)
    assert len(sizes) >= min(waiting, idle, room)


@given(**_ANY)
def test_an_idle_system_leaves_nothing(waiting: int, idle: int, room: int, size: int) -> None:
    served = min(idle, room)
    assume(waiting <= served * size)
    sizes = cut(waiting, idle, room, size)
    assert sum(sizes) == waiting
    assert not sizes or max(sizes) - min(sizes) <= 1  # shared evenly


@given(**_ANY)
def test_a_busy_system_sends_full_batches_ahead(waiting: int, idle: int, room: int, size: int) -> None:
    sizes = cut(waiting, idle, room, size)
    assert all(one == size for one in sizes[idle:])
    assert len(sizes) == room or waiting - sum(sizes) < size


@pytest.mark.parametrize(
    ("waiting", "idle", "room", "size", "expected"),
    [
        (0, 4, 4, 100, []),
        (1, 4, 4, 100, [1]),
        (10, 4, 4, 100, [3, 3, 2, 2]),
        (1000, 2, 4, 100, [100, 100, 100, 100]),
        (250, 2, 4, 100, [100, 100]),
        (99, 0, 4, 100, []),
        (100, 0, 4, 100, [100]),
        (5, 3, 1, 100, [5]),
        (5, 3, 0, 100, []),
        (5, 9, 9, 1, [1, 1, 1, 1, 1]),
    ],
)
def test_cut(waiting: int, idle: int, room: int, size: int, expected: list[int]) -> None:
    assert cut(waiting, idle, room, size) == expected


@given(st.lists(st.integers(0, 20), max_size=50), st.integers(1, 9), st.integers(1, 30))
def test_a_share_is_as_large_as_it_may_be(sizes: list[int], most: int, largest: int) -> None:
    found = shares(sizes, int, most, largest)
    assert [size for share in found for size in share] == sizes
    assert all(len(share) == 1 or (len(share) <= most and sum(share) <= largest) for share in found)
    assert all(len(share) == most or sum(share) + after[0] > largest for share, after in pairwise(found))
