"""What happens in one simulation, as data: it can be made from a seed, drawn by hypothesis, shrunk, and told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

#: kind -> how often, among all. What each does is in world.py (faults, deaths), uploader.py and operator.py.
KINDS = {
    "drop": 30, "meddle": 12, "die": 12, "cut": 6, "fault": 12, "ledger": 8, "worker": 10, "operate": 5, "clock": 4,
    "away": 2, "flush": 3,
}  # fmt: skip
LONGEST = 120  # steps between two events
LARGEST = 1 << 16  # of `arg`


@dataclass(frozen=True, slots=True)
class Event:
    """`gap` steps after the one before it, something of this kind happens; `arg` says what exactly."""

    gap: int
    kind: str
    arg: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that decides a simulation."""

    seed: int = 0  # of what is left to chance: which worker is how far, what is durable of what was not synced
    model: str = "ordered"  # of the disk: tree.py
    durability: str = "full"
    settle: str = "renamed"  # or "quiet"
    duplicates: str = "process"
    claim: str = "rename"  # or "copy"
    files: int = 3  # that lie there before the first start
    events: tuple[Event, ...] = ()

    @classmethod
    def random(cls, seed: int, longest: int = 40) -> Schedule:
        """The schedule of a seed."""
        chance = random.Random(seed)
        kinds, weights = list(KINDS), list(KINDS.values())
        events = tuple(
            Event(int(chance.random() ** 2 * LONGEST), chance.choices(kinds, weights)[0], chance.randrange(LARGEST))
            for _ in range(chance.randint(1, longest))
        )
        return cls(
            seed=seed,
            model=chance.choice(["ordered", "subset"]),
            durability=chance.choice(["full", "full", "process"]),
            settle=chance.choice(["renamed", "quiet"]),
            duplicates=chance.choice(["process", "process", "skip", "error"]),
            files=chance.randint(0, 8),
            events=events,
            claim=chance.choice(["rename", "rename", "copy"]),
        )


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool], tries: int = 300) -> Schedule:
    """A smaller one that fails as well: events left out as long as it does, and `tries` last."""
    while True:
        candidates = itertools.islice(_smaller(schedule), tries)
        found = next(((number, one) for number, one in enumerate(candidates, 1) if fails(one)), None)
        if found is None:
            return schedule
        tries, schedule = tries - found[0], found[1]


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    events = schedule.events
    size = max(1, len(events) // 2)
    while size and events:
        for start in range(0, len(events), size):
            yield replace(
                schedule, events=events[:start] + _joined(events[start : start + size], events[start + size :])
            )
            yield replace(schedule, events=events[:start] + events[start + size :])
        size //= 2
    for fewer in range(schedule.files):
        yield replace(schedule, files=fewer)


def _joined(left_out: tuple[Event, ...], rest: tuple[Event, ...]) -> tuple[Event, ...]:
    """The rest, each event at the step at which it was."""
    return (replace(rest[0], gap=rest[0].gap + sum(one.gap for one in left_out)), *rest[1:]) if rest else ()
