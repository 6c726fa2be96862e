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


def test_an_inbox_is_told_of_its_own_and_of_the_ledger() -> None:
    outages = Outages(Standing())
    for what in ("orders", "other", results_of("orders"), LEDGER):
        outages.begin(what, f"{what} is away")
    assert outages.reasons("orders") == ["orders is away", "(results of orders) is away", "(ledger) is away"]
    assert len(outages.reasons()) == 4
