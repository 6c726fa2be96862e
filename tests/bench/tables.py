"""The tables that are printed: plain text, one line for each scenario and candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from candidates import BARE, HANDWRITTEN
from measured import Results, median, ratios

_LABEL = 24  # characters
# What inboxd is compared with on a ledger of another kind.
SQLITE, EMPTY = "inboxd, SQLite", "inboxd, no rows"
_MIB = 1 / (1 << 20)


@dataclass(frozen=True, slots=True)
class Column:
    """`value` gives the number for one candidate; None is shown as a dash."""

    head: str
    value: Callable[[Results, str], float | None]
    digits: int = 0

    @property
    def width(self) -> int:
        return max(len(self.head) + 2, 9)

    def cell(self, results: Results, name: str) -> str:
        found = self.value(results, name)
        return f"{'-':>{self.width}}" if found is None else f"{found:{self.width},.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Table:
    """Some columns, for the scenarios that measure these."""

    title: str
    columns: tuple[Column, ...]

    def head(self) -> str:
        return " " * 2 * _LABEL + "".join(f"{column.head:>{column.width}}" for column in self.columns)

    def lines(self, scenario: str, results: Results) -> list[str]:
        return [
            f"{scenario:{_LABEL}}{name:{_LABEL}}" + "".join(column.cell(results, name) for column in self.columns)
            for name in results
        ]


def _figure(head: str, name: str, digits: int = 0, scale: float = 1.0) -> Column:
    """A field of Measured, times `scale`: the median of the rounds."""

    def value(results: Results, candidate: str) -> float | None:
        found = [getattr(run, name) for run in results[candidate]]
        return median([number * scale for number in found if number is not None])

    return Column(head, value, digits)


def _against(head: str, to: str) -> Column:
    return Column(head, lambda results, name: median(ratios(results, name, to)), 2)


def _worst(head: str, to: str) -> Column:
    return Column(head, lambda results, name: min(ratios(results, name, to), default=None), 2)


RATE = _figure("files/s", "rate")
STEADY = _figure("steady", "steady")
CPU = _figure("CPU s/1000", "cpu", 3)
LOST = _figure("lost", "lost")
MEMORY = (
    _figure("RSS MiB", "rss", scale=_MIB), _figure("parent", "parent", scale=_MIB), _figure("child", "child", scale=_MIB),
)  # fmt: skip
TO_BARE = _against("x bare", BARE.name)
TO_HANDWRITTEN = _against("x hand", HANDWRITTEN.name)

BACKLOG = Table(
    "Files that wait at the start: from the process's start to the last in processed/",
    (RATE, TO_BARE, TO_HANDWRITTEN, STEADY, CPU, *MEMORY, LOST),
)
COURSE = Table(
    "The same, from the start to the end: seconds to READY, to the first file, between them; files/s; MiB of the parent",
    (
        _figure("ready s", "ready", 2), _figure("first s", "first", 2), _figure("between", "between", 2),
        _figure("1st tenth", "early"), _figure("last tenth", "late"),
        _figure("at first", "parent_first", scale=_MIB), _figure("peak", "parent_peak", scale=_MIB),
    ),
)  # fmt: skip
LARGE = Table(
    "Large files that wait at the start: the same",
    (RATE, _figure("MiB/s", "bandwidth", scale=_MIB), TO_BARE, STEADY, CPU, *MEMORY, LOST),
)
COMMAND = Table(
    "A program for each file that waits at the start, two at once, or for each batch ({files}): the same",
    (RATE, TO_BARE, STEADY, CPU, *MEMORY, LOST),
)
LEDGER = Table(
    "Files that wait at the start, with the ledger on PostgreSQL: the same, less what the server takes",
    (RATE, _against("x SQLite", SQLITE), STEADY, CPU, *MEMORY, LOST),
)
ROWS = Table(
    "Files that wait at the start, with a ledger that knows many: the same",
    (RATE, _against("x empty", EMPTY), STEADY, CPU, *MEMORY, LOST),
)
BURST = Table(
    "Files renamed in as fast as that goes: from the first of them to the last in processed/",
    (RATE, TO_BARE, _worst("worst", BARE.name), TO_HANDWRITTEN, STEADY, CPU, *MEMORY, LOST),
)
LATENCY = Table(
    "Files that come one by one: from rename-in to processed/, less the span of `quiet`",
    (_figure("p50 ms", "p50", 1, 1000), _figure("p99 ms", "p99", 1, 1000), CPU, LOST),
)
IDLE = Table("Nothing to do", (_figure("core %", "idle", 3), *MEMORY))
SOURCES = Table("Items of a partner's API: until the last is processed and acknowledged", (RATE, TO_BARE))
ANSWERS = Table(
    "What the command line takes to answer, seconds", (_figure("status", "status", 2), _figure("files", "files", 2))
)
