"""What the children of a crew are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Terms(Protocol):
    """config.models.Workers has them for the workers, FetchTerms for fetchers."""

    @property
    def count(self) -> int:
        """How many children at most."""

    @property
    def timeout(self) -> float:
        """Seconds for one file or item."""

    @property
    def max_memory(self) -> int:
        """Bytes above which a child is recycled."""

    @property
    def max_files(self) -> int:
        """Files or items after which it is recycled."""


@dataclass(frozen=True, slots=True)
class FetchTerms:
    """For the fetchers of one source. The time limit is above their own: it is for those that hang."""

    count: int
    timeout: float
    max_memory: int = 512 << 20
    max_files: int = 100_000
