"""A short storm; storm.py runs long ones."""

from __future__ import annotations

import pytest
from storm import prepare, storm, verdict

from support.site import Site


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm(site: Site, seed: int) -> None:
    prepare(site, "full" if seed % 2 else "process")
    storm(site, 1_500, 7, seed)
    found = verdict(site)
    assert not found, "\n".join(found[:40])
