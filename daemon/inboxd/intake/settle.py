"""When a sighted file is complete. Pure: sightings and monotonic instants in, decisions out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inboxd.model import Sighting

Key = tuple[str, str]


Rank = tuple[object, ...]

#: What comes first, by the order of an inbox.
RANKS: dict[str, Callable[[Sighting], Rank] | None] = {
    "arrival": lambda sighting: (sighting.mtime_ns, sighting.folder, sighting.name),
    "name": lambda sighting: (sighting.folder, sighting.name),
    "none": None,
}


@dataclass(slots=True)
class _Waiting:
    sighting: Sighting
    since: float


class Settling:
    """Files that must stand still for `span` seconds (0: at once), then leave in the order of `rank`.

    At most `window` files are kept. When more come, the foremost stay and the rest is left to a later pass; `limit` is
    the rank from which on files may have been left. So the order holds over any number of files, if the caller says
    when a pass over everything begins and ends. Without `rank` nothing is displaced: what comes to a full window is
    left. Age is never taken from a file's own times, which may lie in the future: only from when *we* first saw it as
    it is.
    """

    def __init__(self, span: float, rank: Callable[[Sighting], Rank] | None, window: int) -> None:
        self._span = span
        self._rank = rank
        self._window = window
        self._waiting: dict[Key, _Waiting] = {}
        self._queue: deque[tuple[float, Key]] = deque()  # in the order of `since`
        self._due: list[tuple[Rank, Key]] = []  # a heap
        self._limit: Rank | None = () if rank else None  # () is before every rank: nothing is known yet
        self._hold: Rank | None = self._limit  # no file of this rank or behind leaves before the pass ends
        self.left_out = False  # files were left to a later pass

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    @property
    def room(self) -> int:
        """How many more can be kept now."""
        return self._window - len(self._waiting)

    @property
    def drained(self) -> bool:
        """So few are left that a new pass is worth its while, if files were left out."""
        return len(self._waiting) <= self._window // 2

    def begin_pass(self) -> None:
        """Everything will be noted from now on. What may be behind an unseen file is held until the end."""
        if self._hold is None:
            self._hold = self._limit
        if self.drained:
            self._limit = None
            self.left_out = False

    def end_pass(self) -> None:
        """Everything has been noted."""
        self._hold = None

    def note(self, sighting: Sighting, now: float) -> bool:
        """Seen. A file that has changed starts to wait again. False when it was left for a later pass."""
        key = sighting.key
        known = self._waiting.get(key)
        if known is not None:
            if known.sighting.same_content(sighting):
                return True
            del self._waiting[key]
        if self._is_left(sighting):
            self.left_out = True
            return False
        self._waiting[key] = _Waiting(sighting, now)
        self._queue.append((now, key))
        if self.room < 0:
            self._displace()
        if len(self._queue) > 2 * self._window:
            self._queue = deque(entry for entry in self._queue if self._is_current(*entry))
        return key in self._waiting

    def _is_left(self, sighting: Sighting) -> bool:
        if self._rank is None:
            return self.room <= 0
        return self._limit is not None and self._rank(sighting) >= self._limit

    def _displace(self) -> None:
        """Leave the hindmost quarter for later: rarely, so that it costs little per file."""
        assert self._rank is not None
        self.left_out = True
        ranked = sorted((self._rank(one.sighting), key) for key, one in self._waiting.items())
        kept = max(1, self._window * 3 // 4)
        self._limit = ranked[kept][0]
        for _rank, key in ranked[kept:]:
            del self._waiting[key]

    def _is_current(self, since: float, key: Key) -> bool:
        known = self._waiting.get(key)
        return known is not None and known.since == since

    def take(self, now: float, room: int) -> list[Sighting]:
        """At most `room` files that have stood still long enough, in order; they are forgotten here."""
        self._ripen(now)
        taken: list[Sighting] = []
        while self._due and len(taken) < room and (self._hold is None or self._due[0][0] < self._hold):
            rank, key = heapq.heappop(self._due)
            known = self._waiting.get(key)
            if known is not None and known.since + self._span <= now and self._rank_of(key) == rank:
                del self._waiting[key]
                taken.append(known.sighting)
        return taken

    def _rank_of(self, key: Key) -> Rank | None:
        known = self._waiting.get(key)
        if known is None:
            return None
        return self._rank(known.sighting) if self._rank else ()

    def _ripen(self, now: float) -> None:
        while self._queue and self._queue[0][0] + self._span <= now:
            since, key = self._queue.popleft()
            rank = self._rank_of(key)
            if rank is not None and self._is_current(since, key):
                heapq.heappush(self._due, (rank, key))
        if len(self._due) > 2 * self._window:
            self._due = [(rank, key) for rank, key in set(self._due) if rank == self._rank_of(key)]
            heapq.heapify(self._due)

    def next_due(self) -> float | None:
        """Monotonic seconds when the next file may be complete; None when none waits."""
        if self._due:
            return 0.0
        return self._queue[0][0] + self._span if self._queue else None

    def left(self, key: Key, now: float) -> float | None:
        """Seconds for which this file must still stand still; None when it is not here."""
        known = self._waiting.get(key)
        return None if known is None else max(0.0, known.since + self._span - now)

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._waiting.pop(key, None)


def read_digest(text: str, kind: str, name: str) -> str | None:
    """The digest in a checksum file: bare, or in a line of sha256sum(1) that names the file. None: there is none."""
    length = {"sha256": 64, "md5": 32}[kind]
    for line in text.splitlines():
        digest, _, rest = line.strip().partition(" ")
        is_digest = len(digest) == length and all(character in "0123456789abcdefABCDEF" for character in digest)
        if is_digest and (not rest.strip() or rest.strip().lstrip("*").removeprefix("./") == name):
            return digest.lower()
    return None
