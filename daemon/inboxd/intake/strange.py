"""Entries that are no regular file, or have more than one name: watched for a moment, then offered for quarantine."""

from __future__ import annotations

from inboxd.model import Sighting

_MOMENT = 1.0  # seconds: a rename may be seen half done
_LINK_GRACE = 60.0  # seconds: publishing by link(2) and unlink(2) has two names for a while
_MOST = 1000


class Strangers:
    """Instants in monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[Sighting, float]] = {}

    def note(self, sighting: Sighting, now: float) -> None:
        """Seen."""
        known = self._seen.get(sighting.key)
        if known is not None and known[0].ino == sighting.ino and known[0].regular == sighting.regular:
            return
        if len(self._seen) < _MOST:
            self._seen[sighting.key] = (sighting, now)

    def forget(self, key: tuple[str, str]) -> None:
        """It is gone, or has become an ordinary file."""
        self._seen.pop(key, None)

    def due(self, now: float) -> list[Sighting]:
        """Those that have stayed strange; they are forgotten here."""
        ripe = [sighting for sighting, since in self._seen.values() if since + _grace(sighting) <= now]
        for sighting in ripe:
            del self._seen[sighting.key]
        return ripe

    def left(self, key: tuple[str, str], now: float) -> float | None:
        """Seconds until this one is due; None when it has not been seen."""
        known = self._seen.get(key)
        return max(0.0, known[1] + _grace(known[0]) - now) if known is not None else None

    def next_due(self) -> float | None:
        """When the next one has been strange for long enough."""
        return min((since + _grace(sighting) for sighting, since in self._seen.values()), default=None)


def _grace(sighting: Sighting) -> float:
    return _LINK_GRACE if sighting.regular else _MOMENT
