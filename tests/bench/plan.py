"""What is measured, with whom, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from candidates import ALL, BARE, CAREFUL, INBOXD, INBOXD_FULL, ISOLATED, SPAWNING, Candidate
from ledgers import answers, on_postgresql, with_rows
from measured import Measured, Results
from scenarios import backlog, burst, idle, old_backlog
from sources import BARE_FETCH, fetch
from tables import (
    ANSWERS,
    BACKLOG,
    BURST,
    COMMAND,
    COURSE,
    EMPTY,
    IDLE,
    LARGE,
    LATENCY,
    LEDGER,
    ROWS,
    SOURCES,
    SQLITE,
    Table,
)
from trickle import trickle

_SPAN = 0.5  # seconds


@dataclass(slots=True)
class Scenario:
    """Some lines of tables: how each candidate is run, and what came of it."""

    name: str
    run: Callable[[Candidate, Path], Measured]
    tables: tuple[Table, ...]
    rounds: int = 3
    candidates: tuple[Candidate, ...] = ALL
    waiting: int = 0  # files, if it is a backlog of the usual ones
    results: Results = field(default_factory=dict)


def plan(*, quick: bool, huge: bool, rows: int) -> list[Scenario]:
    """In the order in which they are measured. `huge`: also what takes long, with a ledger of so many `rows`."""
    usual = [
        *_backlogs(quick), *_large(quick), *_commands(quick), *_ledgers(quick), *_bursts(quick), *_latencies(quick), *_idle(quick),
        *_sources(quick),
    ]  # fmt: skip
    return [*usual, *(_huge(quick, rows) if huge else ())]


def _backlogs(quick: bool) -> list[Scenario]:
    rounds = {100: 3, 500: 3, 1_000: 3, 10_000: 3} if quick else {100: 3, 500: 3, 1_000: 3, 10_000: 3, 100_000: 1}
    return [_backlog(count, times) for count, times in rounds.items()]


def _backlog(count: int, rounds: int, run: Callable[..., Measured] = backlog) -> Scenario:
    every = (*ALL, CAREFUL, ISOLATED)
    return Scenario(f"backlog {count:,}", partial(run, count=count), (BACKLOG, COURSE), rounds, every, waiting=count)


def _large(quick: bool) -> list[Scenario]:
    return [
        Scenario(
            f"{count:,} of {text}", partial(backlog, count=count, size=size), (LARGE,), 3, (INBOXD, INBOXD_FULL, BARE)
        )
        for count, size, text in ((2_000, 64 << 10, "64 KiB"), (2 if quick else 10, 100 << 20, "100 MiB"))
    ]


def _commands(quick: bool) -> list[Scenario]:
    count = 500 if quick else 10_000
    candidates = (
        *_both(inbox={"handler": {"command": ["/bin/true", "{path}"]}}),
        replace(
            INBOXD, name="inboxd, {files}", inbox={"handler": {"command": ["/bin/true", "{files}"], "batch": True}}
        ),
        SPAWNING,
    )
    return [Scenario(f"command {count:,}", partial(backlog, count=count), (COMMAND,), candidates=candidates)]


def _ledgers(quick: bool) -> list[Scenario]:
    count = 1_000 if quick else 10_000
    run = partial(backlog, count=count)
    return [
        Scenario(
            f"ledger {count:,}, {word}", run, (LEDGER,),
            candidates=(replace(one, name=SQLITE), replace(one, name="inboxd, PostgreSQL", ledger=on_postgresql)),
        )
        for word, one in (("process", INBOXD), ("full", INBOXD_FULL))
    ]  # fmt: skip


def _bursts(quick: bool) -> list[Scenario]:
    return [
        Scenario(f"burst {count:,}", partial(burst, count=count), (BURST,), rounds, (*ALL, CAREFUL, ISOLATED))
        for count, rounds in ((1_000, 5), (10_000, 3))
    ]


def _latencies(quick: bool) -> list[Scenario]:
    count = 400 if quick else 6_000
    return [
        Scenario("200 files/s", partial(trickle, count=count), (LATENCY,), candidates=(*ALL, CAREFUL, ISOLATED)),
        Scenario(
            "200 files/s, quiet", partial(trickle, count=count, span=_SPAN), (LATENCY,),
            candidates=_both(inbox={"settle": {"quiet": f"{_SPAN:g}s"}}),
        ),
    ]  # fmt: skip


def _idle(quick: bool) -> list[Scenario]:
    seconds = 3.0 if quick else 60.0  # a rescan or two
    return [
        Scenario(name, partial(idle, seconds=seconds), (IDLE,), 1, _both(inboxes=inboxes))
        for name, inboxes in (("idle", 1), ("idle, 10 inboxes", 10))
    ]


def _sources(quick: bool) -> list[Scenario]:
    count = 1_000 if quick else 10_000
    return [Scenario(f"sources {count:,}", partial(fetch, count=count), (SOURCES,), 3, (INBOXD, BARE_FETCH))]


def _huge(quick: bool, rows: int) -> list[Scenario]:
    pair = (replace(INBOXD, name=EMPTY), replace(INBOXD, name=f"inboxd, {rows:,} rows", ledger=with_rows(rows)))
    return [
        _backlog(100_000 if quick else 1_000_000, 1, old_backlog),
        Scenario("rows, backlog 10,000", partial(backlog, count=10_000), (ROWS,), candidates=pair),
        Scenario("rows, 200 files/s", partial(trickle, count=400 if quick else 6_000), (LATENCY,), candidates=pair),
        Scenario("rows, answers", answers, (ANSWERS,), candidates=pair),
    ]


def _both(**changes: Any) -> tuple[Candidate, ...]:
    """inboxd at both durabilities, with these fields changed."""
    return tuple(replace(one, **changes) for one in (INBOXD, INBOXD_FULL))
