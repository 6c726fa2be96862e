"""Files that wait behind the window of those that settle: by name and identity only, foremost first. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from inboxd.model import Sighting

Key = tuple[str, str]  # folder and name
Rank = tuple[Any, ...]  # what comes first, by the order of an inbox; it ends in folder and name


class Before(NamedTuple):
    """How a file was when it was put aside, and since when it was so, in monotonic seconds."""

    since: float
    ino: int
    size: int
    mtime_ns: int

    def is_as(self, sighting: Sighting) -> bool:
        """It has not changed."""
        return (self.ino, self.size, self.mtime_ns) == (sighting.ino, sighting.size, sighting.mtime_ns)


def identity(key: Key, file: Before | Sighting) -> int:
    """A number for this file as it is now. Of two that shared one, of 2^64, the second would be found a pass later."""
    return hash((*key, file.ino, file.size, file.mtime_ns))


class Later:
    """At most `most` of them, each at about 270 bytes; a sighting that settles takes 600."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: list[Rank] = []  # each a rank and what stands in Before, in one tuple
        self._sorted = True  # the foremost last

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._most

    def add(self, rank: Rank, sighting: Sighting, since: float) -> None:
        """Put aside. One that comes twice, or has gone meanwhile, is harmless: it is looked at again when taken."""
        self._entries.append((*rank, since, sighting.ino, sighting.size, sighting.mtime_ns))
        self._sorted = False

    def foremost(self) -> Rank | None:
        """The rank of the first."""
        self._sort()
        return self._entries[-1][:-4] if self._entries else None

    def take(self, most: int) -> dict[Key, Before]:
        """At most so many, the foremost; they are forgotten here."""
        self._sort()
        taken = self._entries[-most:]
        del self._entries[-most:]
        return {entry[-6:-4]: Before(*entry[-4:]) for entry in reversed(taken)}

    def leave(self) -> Rank:
        """Forget the hindmost quarter, of at least one; returns the rank from which on they are forgotten."""
        self._sort()
        left = max(1, len(self._entries) // 4)
        limit = self._entries[left - 1][:-4]
        del self._entries[:left]
        return limit

    def identities(self) -> set[int]:
        """Of all of them, as `identity` has it: a quarter of the memory that their names would take once more."""
        return {hash((*entry[-6:-4], *entry[-3:])) for entry in self._entries}

    def _sort(self) -> None:
        if not self._sorted:
            self._entries.sort(reverse=True)
            self._sorted = True
