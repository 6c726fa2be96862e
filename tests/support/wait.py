"""Wait for a fact, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], what: str, timeout: float = 20.0, every: float = 0.01) -> T:
    """Ask `predicate` every `every` seconds until it gives something true, and return that.

    Raises AssertionError naming `what` after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while not (found := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(every)
    return found
