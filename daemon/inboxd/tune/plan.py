"""Which settings are tried, and which of them to take: pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_NOISE = 0.10  # of the best rate: what is less apart from it is as good
_BATCHES = (10, 100, 500)
_SHARE = 2  # batches of each worker that a trial should have files for: with fewer, chance says who gets them


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What is varied. In the order of what it costs: processes hold memory, large batches wait for each other."""

    processes: int
    batch_size: int
    durability: str


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one setting, once."""

    rate: float  # files per second; 0: given up, since it kills its workers
    memory: int  # bytes, at the peak: daemon and workers
    errors: int  # files that ended in errors/


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all runs of one setting: the median of the rates, 0 where one was given up, and the worst of the rest."""

    rate: float
    memory: int
    errors: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Figures:
        """At least one."""
        return cls(
            statistics.median(run.rate for run in runs) if all(run.rate for run in runs) else 0.0,
            max(run.memory for run in runs),
            max(run.errors for run in runs),
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; an empty list means what suits the machine."""

    processes: Sequence[int] = ()
    batches: Sequence[int] = ()
    durabilities: Sequence[str] = ()


def grid(present: Setting, cores: int, wishes: Wishes, files: int) -> list[Setting]:
    """The settings to try with so many files, the present one among them."""
    processes = wishes.processes or sorted({1, max(1, cores // 2), cores, 2 * cores})
    batches = wishes.batches or _BATCHES
    durabilities = wishes.durabilities or (present.durability,)
    tried = {Setting(number, size, how) for number in processes for size in batches for how in durabilities}
    chosen = tried if wishes.batches else {one for one in tried if needs(one) <= files}
    return sorted(chosen | {present})


def needs(setting: Setting) -> int:
    """Files for a trial that says something of this setting."""
    return _SHARE * setting.processes * setting.batch_size


def rounds(settings: Sequence[Setting], count: int) -> Iterable[Setting]:
    """Interleaved, every other round backwards: what changes on the machine meanwhile, all have their share of."""
    for number in range(count):
        yield from settings if number % 2 == 0 else reversed(settings)


def best(working: Mapping[Setting, Figures], durability: str, present: Setting | None = None) -> Setting | None:
    """Of those with this durability the cheapest that is as fast as the fastest, within noise; or `present`."""
    mine = {setting: found for setting, found in working.items() if setting.durability == durability}
    if not mine:
        return None
    enough = max(found.rate for found in mine.values()) * (1 - _NOISE)
    fast = [setting for setting, found in mine.items() if found.rate >= enough]
    return present if present in fast else min(fast)


def lines(chosen: Setting) -> list[str]:
    """What to write into the configuration."""
    return [
        f"durability: {chosen.durability}",
        "workers:",
        f"  processes: {chosen.processes}",
        f"  batch_size: {chosen.batch_size}",
    ]
