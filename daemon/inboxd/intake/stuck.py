"""Files that could not be taken, though they are complete: tried again later, so that nobody waits for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inboxd.intake.later import Key
from inboxd.model import InboxFile, Sighting

_FIRST, _LONGEST = 5.0, 3600.0  # seconds until the next try
_LONGEST_OF_ALL = 600.0  # of a folder: others in it may be free to move
_MOST = (1000, 2000, 10_000)  # known in all, from which on no file, no folder, nothing more is noted
_SWEEP = 60.0  # seconds between two looks for what was never tried again

_Identity = tuple[int, int, int]  # inode, size, mtime: an inode number alone may be a successor's


@dataclass(slots=True)
class _Kept:
    identity: _Identity | None  # None: of all that lies there
    reason: str
    span: float
    until: float


class Stuck:
    """Instants in monotonic seconds.

    One by one as far as they can be counted. When there are more, all that lies in the folder of such a file waits with
    it; with too many folders, all below one of inbound/'s own folders. Never everything: an inbox may be many people's.
    What is too much even for that is tried at each pass.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, _Kept] = {}
        self._wide = False  # there are folders among them
        self._swept = 0.0

    def note(self, file: InboxFile | Sighting, reason: str, now: float) -> None:
        """It could not be taken, again perhaps."""
        key = self._place(file, now)
        if key is None:
            return
        identity = _identity(file) if key == _key(file) else None
        known = self._kept.get(key)
        same = known is not None and known.identity == identity
        if known is not None and same and now < known.until:
            return  # another one of its folder has just said so
        longest = _LONGEST if identity else _LONGEST_OF_ALL
        span = min(known.span * 2, longest) if known is not None and same else _FIRST
        self._kept[key] = _Kept(identity, reason, span, now + span)
        self._wide = self._wide or identity is None

    def _place(self, file: InboxFile | Sighting, now: float) -> Key | None:
        """What waits: the file alone, if that many can be known."""
        if len(self._kept) >= _MOST[0] and now >= self._swept + _SWEEP:
            self._sweep(now)
        for key, most in zip(_places(file.folder, file.name), _MOST, strict=True):
            if key in self._kept or len(self._kept) < most:
                return key
        return None

    def _sweep(self, now: float) -> None:
        """What could have been tried for that long, and was not noted again, is gone or was taken."""
        self._swept = now
        self._kept = {key: kept for key, kept in self._kept.items() if now < kept.until + _LONGEST}
        self._wide = any(kept.identity is None for kept in self._kept.values())

    def holds(self, sighting: Sighting, now: float) -> bool:
        """It is too early to try this very file again."""
        if not self._kept:
            return False
        keys = _places(sighting.folder, sighting.name) if self._wide else [_key(sighting)]
        kept = (self._kept.get(key) for key in keys)
        return any(one and one.identity in (None, _identity(sighting)) and now < one.until for one in kept)

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._kept.pop(key, None)

    def why(self, key: Key, now: float) -> str | None:
        """In words; None when nothing of the kind is known."""
        known = next((self._kept[place] for place in _places(*key) if place in self._kept), None)
        return f"{known.reason}; the next try is in {max(0.0, known.until - now):.0f} s" if known else None


def _places(folder: str, name: str) -> Iterator[Key]:
    """The file; its folder; that one of inbound/'s own folders that it is in. No file is called "" or "/"."""
    yield folder, name
    yield folder, ""
    yield folder.partition("/")[0], "/"


def _key(file: InboxFile | Sighting) -> Key:
    return file.folder, file.name


def _identity(file: InboxFile | Sighting) -> _Identity:
    return file.ino, file.size, file.mtime_ns
