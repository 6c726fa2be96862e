"""How files that wait are cut into batches. Pure."""

from __future__ import annotations


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
