"""How files that wait are cut into batches, and items and results into errands. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_MOST_TOGETHER = 25  # things of one errand
_LARGE = 16 << 20  # bytes of them


def cut(waiting: int, idle: int, room: int, batch_size: int) -> list[int]:
    """The sizes of the batches to dispatch now.

    `idle` workers get everything that waits, split evenly, so that an idle system never waits to fill a batch.
    While all are busy, files gather: only full batches go ahead into the queue. `room` bounds the number of batches.
    """
    sizes: list[int] = []
    for left in range(min(idle, room), 0, -1):
        share = min(batch_size, -(-waiting // left))
        if share == 0:
            return sizes
        sizes.append(share)
        waiting -= share
    while waiting >= batch_size and len(sizes) < room:
        sizes.append(batch_size)
        waiting -= batch_size
    return sizes


def together(things: Sequence[T], size_of: Callable[[T], int], parallel: int) -> list[list[T]]:
    """What one errand each brings: small ones share it, so that no fetcher waits for every answer of ours."""
    return shares(things, size_of, max(1, min(_MOST_TOGETHER, math.ceil(len(things) / parallel))), _LARGE)


def shares(things: Sequence[T], size_of: Callable[[T], int], most: int, largest: int) -> list[list[T]]:
    """In their order, `most` things in each at most, of `largest` bytes together; one that is larger is alone."""
    found: list[list[T]] = []
    room = 0
    for thing in things:
        size = size_of(thing)
        if not found or len(found[-1]) >= most or size > room:
            found.append([])
            room = largest
        found[-1].append(thing)
        room -= size
    return found
