"""When a sighted file is complete. Pure: sightings and monotonic instants in, decisions out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inboxd.intake.later import Before, Key, Later, Rank, identity
from inboxd.model import Sighting

#: What comes first, by the order of an inbox; folder and name stand at the end of each rank.
_RANKS: dict[str, Callable[[Sighting], Rank]] = {
    "arrival": lambda sighting: (sighting.mtime_ns, sighting.folder, sighting.name),
    "name": lambda sighting: (sighting.folder, sighting.name),
    "none": lambda sighting: (sighting.folder, sighting.name),
}


@dataclass(slots=True)
class _Waiting:
    sighting: Sighting
    since: float
    rank: Rank


class Settling:
    """Files that must stand still for `span` seconds (0: at once), then leave in `order`.

    At most `window` files are kept whole. When more come, the foremost stay, the next ones are put aside as `Later`,
    and `recall` names them when there is room. Beyond that files are left to a later pass; `limit` is the rank from
    which on files may have been left. So the order holds over any number of files, if the caller says when a pass over
    everything begins and ends. With order "none" nothing is put aside: what comes to a full window is left. Age is
    never taken from a file's own times, which may lie in the future: only from when *we* first saw it as it is.

    The ranks of what is kept whole, of what is put aside and of what is left never overlap.
    """

    def __init__(self, span: float, order: str, window: int, later: int) -> None:
        self._span = span
        self._ordered = order != "none"
        self._rank = _RANKS[order]
        self._window = window
        self._waiting: dict[Key, _Waiting] = {}
        self._queue: deque[tuple[float, Key]] = deque()  # in the order of `since`
        self._due: list[Rank] = []  # a heap
        self._later = Later(later, by_time=order == "arrival")
        self._edge: Rank | None = None  # what is put aside begins here
        self._limit: Rank | None = () if self._ordered else None  # () is before every rank: nothing is known yet
        self._hold: Rank | None = self._limit  # no file of this rank or behind leaves before the pass ends
        self._recalled: dict[Key, Before] = {}
        self._aside: set[int] = set()  # identities of what was put aside when the pass under way began
        self.left_out = False  # files were left to a later pass

    def __len__(self) -> int:
        return len(self._waiting) + len(self._later)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    @property
    def room(self) -> int:
        """How many more can be kept now."""
        return self._window - len(self._waiting)

    @property
    def nearly_empty(self) -> bool:
        """So few are left that a new pass is worth its while, if files were left out."""
        return not self._later and len(self._waiting) <= self._window // 4

    @property
    def holds(self) -> bool:
        """What is complete may have to stay until the pass under way ends."""
        return self._hold is not None

    def begin_pass(self) -> None:
        """Everything will be noted from now on. What may be behind an unseen file is held until the end."""
        if self._hold is None:
            self._hold = self._limit
        if self.nearly_empty:
            self._limit = None
            self.left_out = False
        self._aside = self._later.identities()

    def end_pass(self) -> None:
        """Everything has been noted."""
        self._hold = None
        self._aside = set()

    @property
    def is_crowded(self) -> bool:
        """There are files that are not kept whole."""
        return self.left_out or bool(self._later)

    @property
    def may_recall(self) -> bool:
        """There is room for files that were put aside."""
        return bool(self._later) and len(self._waiting) <= self._window // 2

    def recall(self) -> dict[Key, Before]:
        """The foremost files that were put aside, as they were then: note them again."""
        self._recalled = self._later.take(self.room)
        self._edge = self._later.foremost()
        if self._aside:
            self._aside.difference_update(identity(key, before) for key, before in self._recalled.items())
        return self._recalled

    def note(self, sighting: Sighting, now: float) -> bool:
        """Seen. A file that has changed starts to wait again. False when it was left for a later pass."""
        key = sighting.key
        known = self._waiting.get(key)
        if known is not None:
            if known.sighting.same_content(sighting):
                return True
            del self._waiting[key]
        if self._aside and identity(key, sighting) in self._aside:
            return True
        rank = self._rank(sighting)
        if self._is_left(rank):
            self.left_out = True
            return False
        before = self._recalled.get(key)
        since = before.since if before is not None and before.is_as(sighting) else now
        if self._edge is not None and rank >= self._edge:
            self._put_aside(rank, sighting, since)
        else:
            self._keep(key, _Waiting(sighting, since, rank), now)
        return True

    def _is_left(self, rank: Rank) -> bool:
        if self._ordered:
            return self._limit is not None and rank >= self._limit
        return self.room <= 0

    def _keep(self, key: Key, one: _Waiting, now: float) -> None:
        self._waiting[key] = one
        if one.since + self._span <= now:
            heapq.heappush(self._due, one.rank)
        else:
            self._queue.append((one.since, key))
        if self.room < 0:
            self._displace()
        elif len(self._queue) > 2 * self._window or len(self._due) > 2 * self._window:
            self._forget_stale()

    def _displace(self) -> None:
        """Put the hindmost quarter aside: rarely, so that it costs little per file."""
        ranks = sorted(one.rank for one in self._waiting.values())
        kept = max(1, self._window * 3 // 4)
        self._edge = ranks[kept]
        for rank in ranks[kept:]:
            one = self._waiting.pop(rank[-2:])
            self._put_aside(rank, one.sighting, one.since)
        if self._span:
            self._forget_stale()
        else:
            self._due = ranks[:kept]  # all that wait are due, and what is sorted is a heap

    def _put_aside(self, rank: Rank, sighting: Sighting, since: float) -> None:
        if self._limit is not None and rank >= self._limit:
            return
        self._later.add(sighting, since)
        if self._later.is_full:
            self.left_out = True
            self._limit = self._later.leave()
            self._edge = self._later.foremost()

    def _forget_stale(self) -> None:
        """Drop what speaks of files that have gone, changed or been put aside."""
        waiting = self._waiting
        self._queue = deque((at, key) for at, key in self._queue if key in waiting and waiting[key].since == at)
        self._due = [rank for rank in set(self._due) if (key := rank[-2:]) in waiting and waiting[key].rank == rank]
        heapq.heapify(self._due)

    def take(self, now: float, room: int) -> list[Sighting]:
        """At most `room` files that have stood still long enough, in order; they are forgotten here."""
        self._ripen(now)
        taken: list[Sighting] = []
        while self._due and len(taken) < room and (self._hold is None or self._due[0] < self._hold):
            rank = heapq.heappop(self._due)
            key = rank[-2:]
            known = self._waiting.get(key)
            if known is not None and known.rank == rank and known.since + self._span <= now:
                del self._waiting[key]
                taken.append(known.sighting)
        return taken

    def _ripen(self, now: float) -> None:
        while self._queue and self._queue[0][0] + self._span <= now:
            since, key = self._queue.popleft()
            known = self._waiting.get(key)
            if known is not None and known.since == since:
                heapq.heappush(self._due, known.rank)

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
