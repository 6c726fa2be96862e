"""When the next child of a slot starts. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

_FIRST, _LONGEST = 0.5, 60.0  # seconds
_AT_ONCE = 3  # deaths in a row that files explain, before the next start waits


class Restarts:
    """A slot's deaths in a row, without a file finished between them."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._deaths = 0
        self.early = 0  # deaths before Ready, ever

    def finished(self) -> None:
        """The child has finished a file: whatever was wrong is over."""
        self._deaths = 0

    def died(self, *, explained: bool, early: bool = False) -> float:
        """Seconds to wait. `explained`: it died in the middle of a file, and others must not wait for that."""
        self._deaths += 1
        self.early += early
        if explained and self._deaths <= _AT_ONCE:
            return 0.0
        ceiling = min(_LONGEST, _FIRST * 2.0 ** min(self._deaths - 1, 30))
        return ceiling * (0.5 + self._jitter() / 2)
