"""The fourteen, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from inboxd.checker import items, sends
from inboxd.checker.evidence import Evidence
from inboxd.checker.facts import Facts, Installation
from inboxd.checker.files import (
    i1_one_place,
    i2_work_and_rows,
    i3_done_is_there,
    i4_no_leftovers,
    i5_runs_are_counted,
    i6_one_good_run,
    i7_nothing_missing,
    i10_legal_path,
    i11_same_bytes,
)
from inboxd.checker.machine import i12_sound_ledger, i13_no_survivors, i14_back_to_baseline


def i8_no_early_ack(facts: Facts) -> Iterator[str]:
    """No item is acknowledged before its bytes and its row are safe; and what came from a source is an item."""
    yield from items.early_acks(facts)
    yield from items.unknown_files(facts)
    yield from sends.unasked(facts)


def i9_acked_in_the_end(facts: Facts) -> Iterator[str]:
    """Every accepted item is acknowledged at least once, when all had time to finish."""
    yield from items.missing_acks(facts)
    yield from sends.unheard(facts)


CHECKS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    i1_one_place,
    i2_work_and_rows,
    i3_done_is_there,
    i4_no_leftovers,
    i5_runs_are_counted,
    i6_one_good_run,
    i7_nothing_missing,
    i8_no_early_ack,
    i9_acked_in_the_end,
    i10_legal_path,
    i11_same_bytes,
    i12_sound_ledger,
    i13_no_survivors,
    i14_back_to_baseline,
)


def violations(installation: Installation | Path, evidence: Evidence | None = None) -> list[str]:
    """Everything that does not hold, as "I7: ..."; an empty list when all is well. A path is a configuration's."""
    if isinstance(installation, Path):
        installation = Installation.read(installation)
    return of(Facts(installation, evidence or Evidence()))


def of(facts: Facts) -> list[str]:
    """Likewise, of what was read already. Without a ledger there is nothing to hold the folders against."""
    if facts.ledger_is_gone:
        return [f"I12: the ledger {facts.ledger.name} is missing or empty"]
    return [f"{check.__name__.split('_')[0].upper()}: {fault}" for check in CHECKS for fault in check(facts)]
