"""Files whose content a worker must read before they are complete, and those whose content was wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable

from inboxd.intake.later import Key
from inboxd.model import Sighting

_MOST_WRONG = 40_000  # some 100 bytes of memory each


class Asking:
    """No more are asked for at a time than can be kept when they are complete; others are left to a later pass.

    What was wrong is known by numbers for its name and its state, of 64 bits each: of two that shared one, the second
    would be taken for the first.
    """

    def __init__(self, kept: Callable[[], int]) -> None:
        """`kept`: how many more complete files can be kept now."""
        self._kept = kept
        self._to_read: dict[Key, Sighting] = {}
        self._reading: set[Key] = set()
        self._wrong: dict[int, int | None] = {}  # None: it can't be read, and no state tells when it can
        self.left_out = False  # files were left to a later pass

    def __len__(self) -> int:
        return len(self._to_read) + len(self._reading)

    def __contains__(self, key: Key) -> bool:
        return key in self._to_read or key in self._reading

    @property
    def room(self) -> int:
        """How many more can be asked for now."""
        return self._kept() - len(self)

    @property
    def nearly_empty(self) -> bool:
        """So few are left that a new pass is worth its while, if files were left out."""
        return len(self) <= self._kept() // 4

    def begin_pass(self) -> None:
        """Everything will be seen from now on."""
        self.left_out = False

    def ask(self, sighting: Sighting, state: int) -> None:
        """Have it read, unless that is under way, or was done when it was in this state."""
        key = sighting.key
        if key in self._reading or self._wrong.get(hash(key)) == state:
            return
        if key in self._to_read or self.room > 0:
            self._to_read[key] = sighting
        else:
            self.left_out = True

    def take(self) -> list[Sighting]:
        """Those to be read; each is given out once."""
        taken = list(self._to_read.values())
        self._reading.update(self._to_read)
        self._to_read.clear()
        return taken

    def put_back(self, sighting: Sighting) -> None:
        """Nobody has read it to its end."""
        self._reading.discard(sighting.key)
        self._to_read[sighting.key] = sighting

    def was_read(self, key: Key) -> None:
        """It has been read; what was known of it is forgotten."""
        self._reading.discard(key)
        self._wrong.pop(hash(key), None)

    def note_wrong(self, key: Key, state: int | None) -> None:
        """Its content was wrong in this state; None: it can't be read."""
        if len(self._wrong) >= _MOST_WRONG:
            self._wrong.clear()  # many of them may have gone; those that have not are read once more
        self._wrong[hash(key)] = state

    def is_wrong(self, key: Key) -> bool:
        """Its content was wrong, or could not be read."""
        return hash(key) in self._wrong

    def is_unreadable(self, key: Key) -> bool:
        """Its content could not be read."""
        return self.is_wrong(key) and self._wrong[hash(key)] is None
