"""When the next child of a slot starts. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

_FIRST, _LONGEST = 0.5, 60.0  # seconds
_AT_ONCE = 3  # deaths of ready workers in a row, before the next start waits


class Restarts:
    """A slot's deaths in a row: of children that were not ready yet, and of those that were.

    A ready worker is followed at once by the next, since a poison file must not slow the others down; only when
    several in a row have not got a single file done does the next one wait.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._early = 0
        self._late = 0
        self.early = 0  # deaths before Ready, ever
        self.deaths = 0  # all, ever; making room for a fresh child is none

    def ready(self) -> None:
        """The child has come up."""
        self._early = 0

    def finished(self) -> None:
        """The child has got a file done."""
        self._late = 0

    def died(self, *, early: bool) -> float:
        """Seconds until the next start. `early`: it had not said Ready."""
        self.deaths += 1
        if early:
            self.early += 1
            self._early += 1
            return self._delay(self._early)
        self._late += 1
        return self._delay(self._late - _AT_ONCE)

    def _delay(self, count: int) -> float:
        if count <= 0:
            return 0.0
        return min(_LONGEST, _FIRST * 2.0 ** min(count - 1, 30)) * (0.5 + self._jitter() / 2)
