"""A worker dies at its n-th system call: in the middle of a message, a mark, or a result. Its file is charged, no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.daemon import run_daemon
from support.faults import fault
from support.rounds import Rounds, spread
from support.shim import WORKERS, Shim
from support.site import Site
from support.wait import wait_until

Tally = Callable[..., None]


@fault(
    "Workers and handlers", "a worker dies at its n-th call", how="preloaded shim, SIGKILL; half of a write done",
    shows="its file is run again, no other is charged; a part of a message is no report",
)  # fmt: skip
@pytest.mark.parametrize("action", ["kill", "torn"])
def test_the_nth_call_of_a_worker_is_the_last(site: Site, tally: Tally, action: str) -> None:
    site.inbox("main", retry={"first": "10ms", "longest": "100ms", "max_failures": 5})
    rounds = Rounds(site)
    shim = Shim(site.base.parent, "read,write,open,rename,unlink,mkdir", action, command=WORKERS)
    with run_daemon(site.config, shim.env) as daemon:
        for number in spread(1, 4, 11, 25, 40, 70):
            before = shim.struck
            wait_until(lambda: len(daemon.ready_workers()) == 2, "both workers")
            shim.strike(shim.counted + number)
            rounds.drop()
            rounds.finish(daemon)
            shim.lift()
            if shim.struck == before:
                break
            tally()
        innocent = {name for name in site.listed("errors") if not name.startswith(("fail-r", "reject-r"))}
        assert not innocent
        assert daemon.stop() == 0
