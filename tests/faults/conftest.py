from __future__ import annotations

from pathlib import Path

import pytest

from support.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A fresh installation that has never run."""
    return Site(tmp_path / "site")
