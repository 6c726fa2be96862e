"""A short soak; soak.py is for long ones (`./dev soak`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from soak import Soak

from support.faults import fault, scale


@fault(
    "All of it together", "mixed load for a long time, on one daemon",
    how="workers and fetchers killed, ledger locked, folders and partners away, reloads, pauses; a round is one such fault",
    shows="sound; memory, descriptors, threads and the ledger's log are flat",
)  # fmt: skip
@pytest.mark.timeout(7200)
def test_a_soak(tmp_path: Path, tally: Callable[..., None]) -> None:
    soak = Soak(tmp_path / "site", 5)
    seconds = scale(40, 3600)
    found = soak.run(seconds, min(60, seconds))
    assert not found, "\n".join(found[:40])
    tally(len(soak.passed))
