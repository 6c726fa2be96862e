"""What can happen to an item of a source, and what follows from an errand's report. Pure, as lifecycle.py is for files.

An item is the source's until its bytes lie in work/ and its row says so; from then on the file of the same id goes its
own way, and what is left of the item is what we owe the source: to tell it that we have it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from inboxd.lifecycle import Limits, backoff
from inboxd.model import Ending, Report


class ItemState(StrEnum):
    """DISCOVERED  A listing has it, and it is not fetched. Taken by fetch, or given up.
    FETCHING    A fetcher has it, or a dead one had it. Taken by its report; by recovery, which gives it back.
    HELD        Its file is CLAIMED: bytes and row are safe here. Waits for the handler's success, where the source is
                to hear of that only. Taken by owe.
    ACK_DUE     The source is to be told, and told again until it has answered. Taken by ack.
    ACKED       The source knows, or wants to know nothing. Final.
    ABANDONED   Given up before it was ours: gone at the source, too large, or failed too often. Taken by an operator.
    """

    DISCOVERED = "DISCOVERED"
    FETCHING = "FETCHING"
    HELD = "HELD"
    ACK_DUE = "ACK_DUE"
    ACKED = "ACKED"
    ABANDONED = "ABANDONED"


Jitter = Callable[[], float]
LONGEST_ASKED = 3600.0  # seconds: nobody makes us wait longer by Retry-After
_S = ItemState

ITEM_TRANSITIONS: dict[tuple[ItemState, str], ItemState] = {
    (_S.DISCOVERED, "fetch"): _S.FETCHING,
    (_S.FETCHING, "release"): _S.DISCOVERED,
    (_S.FETCHING, "abandon"): _S.ABANDONED,
    (_S.FETCHING, "hold"): _S.HELD,
    (_S.HELD, "owe"): _S.ACK_DUE,  # at once, or after the handler's success, as the source wants it
    (_S.ACK_DUE, "tell"): _S.ACK_DUE,  # it may have heard us from here on
    (_S.ACK_DUE, "wait"): _S.ACK_DUE,
    (_S.ACK_DUE, "ack"): _S.ACKED,
    (_S.HELD, "close"): _S.ACKED,  # a source that wants to hear nothing
    (_S.ABANDONED, "renew"): _S.DISCOVERED,  # an operator wants it after all
}


class Item(NamedTuple):
    """One row of the ledger: an item in one version of a source."""

    source: str
    item: str  # what the source calls it
    version: str  # "" where the source has none
    inbox: str
    id: str  # of the file that it becomes
    state: ItemState = ItemState.DISCOVERED
    name: str = ""
    url: str = ""
    size: int | None = None  # bytes, as announced
    digest: str = ""
    ack: str = ""  # "held", "processed", or "" for no acknowledgement
    attempts: int = 0  # fetches begun; then acknowledgements sent of which nobody knows whether they were heard
    failures: int = 0  # of the fetch, then of the acknowledgement
    not_before: float = 0.0  # wall clock seconds; nothing is done for it before
    message: str | None = None
    discovered_at: float = 0.0  # wall clock seconds
    fetched_at: float | None = None
    acked_at: float | None = None

    @property
    def part_name(self) -> str:
        """Its only name in incoming/."""
        return self.id + ".part"


class Judged(NamedTuple):
    """An item after its report: the new record, the verb that writes it, and what it means for the source."""

    item: Item
    verb: str  # "release", "abandon", "ack"; "hold" for bytes that are here; "wait" for an ack that is tried again
    delay: float = 0.0  # seconds until the next try
    charged: bool = False


#: The source, not the item: nothing is laid to the item.
SOURCE_FAULTS = frozenset({Ending.UNAVAILABLE, Ending.BROKEN})
#: A clear no. After all else but success, an acknowledgement may have been heard.
_UNHEARD = frozenset({Ending.FAILED, Ending.BROKEN})


def delay_of(report: Report, failures: int, limits: Limits, jitter: Jitter) -> float:
    """Seconds until the next try: as long as the other side asked for, within reason, or by the policy."""
    return min(report.after, LONGEST_ASKED) if report.after is not None else backoff(failures, limits, jitter)


def judge_fetch(item: Item, report: Report, limits: Limits, now: float, jitter: Jitter = random.random) -> Judged:
    """What becomes of an item that was to be fetched. `now`: wall clock, seconds."""
    if report.ending is Ending.DONE:
        return Judged(item._replace(attempts=0, failures=0, not_before=0.0, message=None, fetched_at=now), "hold")
    told = item._replace(state=_S.DISCOVERED, message=report.message or str(report.ending))
    if not report.begun:
        return Judged(item._replace(state=_S.DISCOVERED, attempts=max(0, item.attempts - 1)), "release")
    if report.ending is Ending.RELEASED:
        return Judged(told, "release")
    if report.ending in SOURCE_FAULTS:
        delay = delay_of(report, item.attempts, limits, jitter)
        return Judged(told._replace(not_before=now + delay), "release", delay)
    failures = item.failures + 1
    if report.ending is Ending.REJECTED or failures >= limits.max_failures:
        return Judged(told._replace(state=_S.ABANDONED, failures=failures), "abandon", charged=True)
    delay = delay_of(report, failures, limits, jitter)
    return Judged(told._replace(failures=failures, not_before=now + delay), "release", delay, charged=True)


def judge_ack(item: Item, report: Report, limits: Limits, now: float, jitter: Jitter = random.random) -> Judged:
    """What becomes of an item that was to be acknowledged: it is never given up. What is gone needs no telling."""
    if report.ending in (Ending.DONE, Ending.REJECTED):
        return Judged(item._replace(state=_S.ACKED, failures=0, message=None, acked_at=now), "ack")
    if not report.begun or report.ending in _UNHEARD:
        item = item._replace(attempts=max(0, item.attempts - 1))
    if not report.begun or report.ending is Ending.RELEASED:
        return Judged(item, "wait")
    told = item._replace(message=report.message or str(report.ending))
    failures = item.failures + 1
    delay = delay_of(report, failures, limits, jitter)
    return Judged(told._replace(failures=failures, not_before=now + delay), "wait", delay, charged=True)
