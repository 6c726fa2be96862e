"""When what is away is tried again: never at once, for something else's sake."""

from __future__ import annotations

import math

from inboxd.outage import LEDGER, Outages, results_of


class Standing:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def test_each_waits_longer_and_for_itself() -> None:
    clock = Standing()
    outages = Outages(clock)
    outages.begin("main", "its folder is away")
    for _ in range(4):
        outages.begin(LEDGER, "it is locked")
    clock.now += 1.0  # the inbox may be tried, and is not while the ledger is away
    assert outages.next_try() == 0.0
    assert outages.next_try(of=LEDGER) > 1.0


def test_what_nobody_tries_wakes_nobody() -> None:
    clock = Standing()
    outages = Outages(clock)
    outages.begin(results_of("main"), "outbound/ is away")
    clock.now += 60.0
    assert outages.next_try() == 0.0
    assert outages.next_try(but={results_of("main")}) == math.inf
