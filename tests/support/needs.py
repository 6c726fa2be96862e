"""What a test needs, and this machine does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unmet(reason: str) -> NoReturn:
    """Skip. In CI a test that can't run fails."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
