"""When a sighted file is complete. Pure: sightings and monotonic instants in, decisions out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inboxd.model import Sighting

Key = tuple[str, str]


@dataclass(slots=True)
class _Waiting:
    sighting: Sighting
    since: float


class Settling:
    """Files that must stand still for `span` seconds (0: at once), then leave in `order`.

    At most `window` files are kept; the caller hears of it by `full`, and looks again later. Age is never taken from
    a file's own times, which may lie in the future: only from when *we* first saw it as it is.
    """

    def __init__(self, span: float, order: Callable[[Sighting], tuple[object, ...]], window: int) -> None:
        self._span = span
        self._order = order
        self._window = window
        self._waiting: dict[Key, _Waiting] = {}
        self._queue: deque[tuple[float, Key]] = deque()  # in the order of `since`
        self._due: list[tuple[tuple[object, ...], Key]] = []  # a heap

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    @property
    def full(self) -> bool:
        """No more can be kept now."""
        return len(self._waiting) >= self._window

    @property
    def room(self) -> int:
        """How many more can be kept now."""
        return self._window - len(self._waiting)

    def note(self, sighting: Sighting, now: float) -> bool:
        """Seen. A file that has changed starts to wait again. False when there was no room for it."""
        known = self._waiting.get(sighting.key)
        if known is None and self.full:
            return False
        if known is None or not known.sighting.same_content(sighting):
            self._waiting[sighting.key] = _Waiting(sighting, now)
            self._queue.append((now, sighting.key))
        return True

    def take(self, now: float, room: int) -> list[Sighting]:
        """At most `room` files that have stood still long enough, in order; they are forgotten here."""
        self._ripen(now)
        taken: list[Sighting] = []
        while self._due and len(taken) < room:
            _order, key = heapq.heappop(self._due)
            known = self._waiting.get(key)
            if known is not None and known.since + self._span <= now:
                del self._waiting[key]
                taken.append(known.sighting)
        return taken

    def _ripen(self, now: float) -> None:
        while self._queue and self._queue[0][0] + self._span <= now:
            since, key = self._queue.popleft()
            known = self._waiting.get(key)
            if known is not None and known.since == since:
                heapq.heappush(self._due, (self._order(known.sighting), key))

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
