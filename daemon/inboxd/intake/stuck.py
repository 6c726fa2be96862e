"""Files that could not be taken, though they are complete: tried again later, so that nobody waits for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inboxd.intake.later import Key

_FIRST, _LONGEST = 60.0, 3600.0  # seconds until the next try
_MOST = 1000


@dataclass(slots=True)
class _Kept:
    ino: int
    reason: str
    span: float
    until: float


class Stuck:
    """Instants in monotonic seconds."""

    def __init__(self) -> None:
        self._kept: dict[Key, _Kept] = {}

    def note(self, key: Key, ino: int, reason: str, now: float) -> None:
        """It could not be taken, again perhaps."""
        known = self._kept.get(key)
        span = min(known.span * 2, _LONGEST) if known is not None and known.ino == ino else _FIRST
        if known is not None or len(self._kept) < _MOST:
            self._kept[key] = _Kept(ino, reason, span, now + span)

    def holds(self, key: Key, ino: int, now: float) -> bool:
        """It is too early to try this very file again."""
        known = self._kept.get(key)
        return known is not None and known.ino == ino and now < known.until

    def forget(self, key: Key) -> None:
        """It is gone, or was taken."""
        self._kept.pop(key, None)

    def why(self, key: Key, now: float) -> str | None:
        """In words; None when nothing of the kind is known."""
        known = self._kept.get(key)
        return f"{known.reason}; the next try is in {max(0.0, known.until - now):.0f} s" if known else None
