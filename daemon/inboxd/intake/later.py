"""Files that wait behind the window of those that settle: by name and identity only, foremost first. Pure."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from inboxd.model import Sighting

Key = tuple[str, str]  # folder and name
Rank = tuple[Any, ...]  # what comes first, by the order of an inbox; it ends in folder and name

_TIME = struct.Struct(">QI")  # seconds since the first that 64 bits can tell, and nanoseconds: in the order of time
_REST = struct.Struct("=dQQ")  # since, ino, size
_SECOND = 10**9


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
    """At most `most` of them. Each is one string of bytes, in the order of ranks: some 110 bytes of memory, where a
    tuple of it all takes 270, and a sighting that settles 600.
    """

    def __init__(self, most: int, *, by_time: bool) -> None:
        """`by_time`: a rank begins with the time of its file."""
        self._most = most
        self._by_time = by_time
        self._entries: list[bytes] = []
        self._sorted = True  # the foremost last

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._most

    def add(self, sighting: Sighting, since: float) -> None:
        """Put aside. One that comes twice, or has gone meanwhile, is harmless: it is looked at again when taken."""
        self._entries.append(self._packed(sighting, since))
        self._sorted = False

    def foremost(self) -> Rank | None:
        """The rank of the first."""
        self._sort()
        return self._rank(self._entries[-1]) if self._entries else None

    def take(self, most: int) -> dict[Key, Before]:
        """At most so many, the foremost; they are forgotten here."""
        self._sort()
        taken = self._entries[max(0, len(self._entries) - most) :]
        del self._entries[len(self._entries) - len(taken) :]
        return dict(map(self._unpacked, reversed(taken)))

    def leave(self) -> Rank:
        """Forget the hindmost quarter, of at least one; returns the rank from which on they are forgotten."""
        self._sort()
        left = max(1, len(self._entries) // 4)
        limit = self._rank(self._entries[left - 1])
        del self._entries[:left]
        return limit

    def identities(self) -> set[int]:
        """Of all of them, as `identity` has it: a quarter of the memory that their names would take once more."""
        return {identity(key, before) for key, before in map(self._unpacked, self._entries)}

    def _sort(self) -> None:
        if not self._sorted:
            self._entries.sort(reverse=True)
            self._sorted = True

    def _packed(self, sighting: Sighting, since: float) -> bytes:
        """A name ends with NUL, so that it comes before a longer one; UTF-8 keeps the order of characters."""
        seconds, rest = divmod(sighting.mtime_ns, _SECOND)
        time = _TIME.pack(seconds + (1 << 63), rest)
        key = f"{sighting.folder}\0{sighting.name}\0".encode("utf-8", "surrogatepass")
        return (time + key if self._by_time else key + time) + _REST.pack(since, sighting.ino, sighting.size)

    def _unpacked(self, entry: bytes) -> tuple[Key, Before]:
        ranked, rest = entry[: -_REST.size], entry[-_REST.size :]
        if self._by_time:
            time, key = ranked[: _TIME.size], ranked[_TIME.size :]
        else:
            key, time = ranked[: -_TIME.size], ranked[-_TIME.size :]
        folder, name, _end = key.decode("utf-8", "surrogatepass").split("\0")
        seconds, nanoseconds = _TIME.unpack(time)
        since, ino, size = _REST.unpack(rest)
        return (folder, name), Before(since, ino, size, (seconds - (1 << 63)) * _SECOND + nanoseconds)

    def _rank(self, entry: bytes) -> Rank:
        key, before = self._unpacked(entry)
        return (before.mtime_ns, *key) if self._by_time else key
