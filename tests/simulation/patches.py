"""The daemon's modules, led to the simulation for a while: their `os`, their random numbers, their failpoints."""

from __future__ import annotations

import contextlib
import fcntl
import random
import shutil
import types
from collections.abc import Iterator
from typing import Any

from inboxd import beneath, model, syncing
from inboxd.custody import (
    claim,
    deliver,
    disk,
    failpoints,
    ledger,
    outcomes,
    reconcile,
    recovery,
    relics,
    results,
    retention,
    session,
    sidecar,
    takeback,
    workfolder,
)
from inboxd.intake import companions, inbox, mounts, scan
from simulation.ledger import engine_of, statements
from simulation.world import World

_MODULES = (
    beneath, model, syncing, claim, deliver, disk, outcomes, reconcile, recovery, relics, results, retention, sidecar, takeback,
    workfolder, companions, inbox, mounts, scan,
)  # fmt: skip


class _Kept:
    """Each function is the same one whenever it is asked for: shutil tells by that which is next (since Python 3.13)."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        value = vars(self)[name] = getattr(self._calls, name)
        return value


class _Everywhere:
    """A failpoint that is armed under every name, and tells the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.name = self

    def __eq__(self, name: object) -> bool:
        self._world.before(f"failpoint {name}")
        self._world.after(f"failpoint {name}")
        return False

    __hash__ = None  # type: ignore[assignment]


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """Everything that the daemon does to files, it does to the world's."""
    calls = world.calls
    lock = types.SimpleNamespace(flock=calls.flock, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, LOCK_UN=fcntl.LOCK_UN)
    changes: list[tuple[Any, str, Any]] = [
        *((module, "os", calls) for module in _MODULES),
        (shutil, "os", _Kept(calls)),
        (beneath, "open", calls.proc),
        (workfolder, "fcntl", lock),
        (disk, "rename_new", calls.rename_new),
        (disk, "sync_all", calls.syncfs),
        (claim.Claims, "renew", lambda *_: None),  # a sync that fails loses nothing on this disk
        (model, "time", types.SimpleNamespace(time=world.clock.time)),
        (model, "_last_id", 0),
        (session, "make_engine", engine_of),
        (ledger, "Statements", statements),
        (failpoints, "_armed", [_Everywhere(world)]),
    ]
    state = random.getstate()
    random.seed(world.schedule.seed)
    with contextlib.ExitStack() as stack:
        for module, name, value in changes:
            stack.callback(_restore, module, name, vars(module).get(name, _restore))
            setattr(module, name, value)
        try:
            yield
        finally:
            random.setstate(state)


def _restore(module: Any, name: str, value: Any) -> None:
    if value is _restore:
        delattr(module, name)
    else:
        setattr(module, name, value)
