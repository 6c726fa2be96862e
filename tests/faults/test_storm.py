"""Kill storms; storm.py runs longer ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from storm import Storm

from support.faults import fault, scale


@fault(
    "Process death", "daemon, workers and fetchers are killed at random instants under load",
    how="SIGKILL; a round is one death of the daemon, a third of them before it is ready",
    shows="nothing lost, nothing overwritten, no outcome twice; a file runs again only if it was running",
)  # fmt: skip
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("durability", "seed"), [("full", 1), ("process", 2)])
def test_a_storm(tmp_path: Path, tally: Callable[..., None], durability: str, seed: int) -> None:
    lives = scale(26, 501)
    with Storm(tmp_path / "site", durability, seed) as storm:
        storm.rage(60 * lives, lives)
        found = storm.verdict()
        assert not found, "\n".join(found[:40])
        tally(storm.toll.daemons)
