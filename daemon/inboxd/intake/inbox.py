"""One inbox as the pipeline sees it: what lies in inbound/, and what of it is complete.

The scan is the truth, the watch a hint: events only say which entries to look at before the next scan does. Used by
the pipeline's thread, all but the hints.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable
from itertools import groupby

from inboxd import events
from inboxd.beneath import look, opened
from inboxd.clock import Clock
from inboxd.config.models import Checksum, Inbox, Quiet
from inboxd.config.units import show_duration
from inboxd.errors import PreconditionError
from inboxd.events import emit
from inboxd.intake.asking import Asking
from inboxd.intake.companions import companions_of
from inboxd.intake.hints import Hints
from inboxd.intake.match import Matcher
from inboxd.intake.root import Root
from inboxd.intake.scan import DEEPEST, Scan, may_enter
from inboxd.intake.settle import Settling
from inboxd.intake.strange import Strangers
from inboxd.intake.stuck import Stuck
from inboxd.model import InboxFile, Sighting

WINDOW = 1_000  # files kept while they settle
_WIDE = 2_500  # likewise where none are put aside behind them, or for batches of so many
LATER = 40_000  # files put aside until there is room for them; the rest waits for a later pass
_AWAY = 1.0  # seconds between two looks for a folder that is away


class InboxView:
    """Looks only; never changes a file. Instants in monotonic seconds."""

    def __init__(
        self, name: str, rules: Inbox, rescan: float, clock: Clock, wake: Callable[[], None], batch_size: int = 1
    ) -> None:  # fmt: skip
        self.backlog = 0
        self._name = name
        self._rules = rules
        self._clock = clock
        self._matcher = Matcher(rules.match, rules.ignore, rules.ignore_temporary)
        self._span = rules.settle.quiet if isinstance(rules.settle, Quiet) else 0.0
        window = _WIDE if rules.order == "none" else max(WINDOW, min(batch_size, _WIDE))
        self._settling = Settling(self._span, rules.order, window, LATER)
        self._strangers = Strangers()
        self._stuck = Stuck()
        self._asking = Asking(lambda: self._settling.room)
        self._companions = companions_of(rules, self._asking)
        self._waits = rules.order == "none" or isinstance(rules.settle, Checksum)  # passes do, for room
        self._hints = Hints(self._takes)
        self._root = Root(name, rules, rescan, self._hints, wake, self.rescan)
        self._path = self._root.path
        self._scan: Scan | None = None
        self._again: set[str] = set()  # folders to be looked through; "" means everything
        self._next_scan = 0.0
        self._whole = False  # the pass goes over everything
        self._seen = 0  # files that a pass over everything has met so far, less those taken meanwhile
        self._passed = False  # a pass over everything has ended
        self._device = 0  # that all of it is on: no pass leads to another

    @property
    def condition(self) -> str:
        """How inbound/ is looked at, or that it is away, and why."""
        return self._root.condition

    @property
    def has_looked(self) -> bool:
        """Everything has been looked at once, or as much as can be kept; or it is away."""
        crowded = self._settling.is_crowded or (self._scan is not None and self._room() <= 0)
        return self._passed or self._root.is_away or crowded

    def start(self) -> None:
        """Watch first, then look. Raises PreconditionError when inbound/ can't be used."""
        try:
            self._root.start()
        except OSError as error:
            raise PreconditionError(f"inbox {self._name}: {self._path} can't be looked at: {error.strerror}") from error

    def stop(self) -> None:
        """No more hints."""
        self._root.stop()
        self._give_up()

    def _check_root(self) -> bool:
        if self._root.check():
            return True
        self._next_scan = self._clock.monotonic() + _AWAY
        self._give_up()
        return False

    # Looking

    def rescan(self) -> None:
        """Look through everything again, soon."""
        self._again.add("")

    def look_anew(self) -> None:
        """The folder may be another one than a moment ago, or be looked at through another mount."""
        self._next_scan = 0.0

    def look(self, budget: int) -> None:
        """Take in hints, and go on with a pass over at most `budget` entries."""
        now = self._clock.monotonic()
        heard = self._hints.take()
        if heard.overflow:
            emit(events.INBOX_OVERFLOW, inbox=self._name)
            self.rescan()
        due = now >= self._next_scan and self._scan is None
        if (heard.root_lost or due) and not self._check_root():
            return
        if self._root.is_away:
            return
        if due or (self._scan is None and self._may_take_left()):
            self.rescan()
        self._again |= heard.folders
        self._look_at(heard.names, now)
        self._advance(budget, now)
        if self._settling.may_recall:
            self._recall(now)
        self.backlog = max(self.backlog, len(self._settling), self._seen)

    def _look_at(self, keys: Iterable[tuple[str, str]], now: float) -> None:
        by_folder: dict[str, list[str]] = {}
        for folder, name in keys:
            by_folder.setdefault(folder, []).append(name)
        for folder, names in by_folder.items():
            try:
                with opened(self._path, folder) as fd:
                    for name in names:
                        found = look(fd, name)
                        if found is None:
                            self._forget((folder, name))
                        else:
                            self._consider(folder, name, found, now, fd)
            except (FileNotFoundError, NotADirectoryError):
                pass  # gone with all that was in it; where it was moved within the inbox, the watch says so
            except OSError:
                self.rescan()

    def _recall(self, now: float) -> None:
        """What was put aside is believed to be as it was: whoever takes it looks. But not what lies beside it."""
        before = self._settling.recall()
        if self._companions is not None:
            self._look_at(before, now)
            return
        for (folder, name), file in before.items():
            self._settling.note(
                Sighting(self._name, folder, name, self._device, file.ino, file.size, file.mtime_ns), now
            )

    def _forget(self, key: tuple[str, str]) -> None:
        self._settling.forget(key)
        self._strangers.forget(key)
        self._stuck.forget(key)

    def _advance(self, budget: int, now: float) -> None:
        if self._scan is None:
            if not self._again:
                return
            self._scan = self._begin(now)
        try:
            for folder, name, found in self._scan.advance(min(budget, self._room())):
                self._seen += self._consider(folder, name, found, now, None) and self._whole
        except OSError:
            self._give_up()
            if self._check_root():  # it was something else, and not all has been seen: soon again
                self._next_scan = min(self._next_scan, now + _AWAY)
            self._settling.end_pass()
            return
        if self._scan.finished:
            self._finish()

    def _room(self) -> int:
        """Entries that a pass may look at; at 0 it waits where it is, unless what settles waits for its end."""
        if not self._waits or self._settling.holds:
            return sys.maxsize
        return self._asking.room

    def _may_take_left(self) -> bool:
        """Files were left out, and there is room for them now."""
        left_out = self._settling.left_out or self._asking.left_out
        return left_out and self._settling.nearly_empty and self._asking.nearly_empty

    def _begin(self, now: float) -> Scan:
        self._whole = "" in self._again
        folders = [""] if self._whole else sorted(self._again)
        self._again.clear()
        if self._whole:
            self._next_scan = now + self._root.every
            self._seen = 0
            self._settling.begin_pass()
            self._asking.begin_pass()
        return Scan(self._path, folders, self._rules.recursive, self._root.cover)

    def _finish(self) -> None:
        if self._whole:
            self._passed = True
            self._settling.end_pass()
            self.backlog = max(len(self._settling), self._seen if self._settling.left_out else 0)
            self._seen = 0
        self._scan = None

    def _give_up(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None

    def _consider(self, folder: str, name: str, found: os.stat_result, now: float, fd: int | None) -> bool:
        """One entry: to be left, strange, or (True) to settle."""
        if stat.S_ISDIR(found.st_mode) or not self._takes(name):
            return False
        sighting = Sighting(
            self._name, folder, name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns,
            stat.S_ISREG(found.st_mode), found.st_nlink,
        )  # fmt: skip
        if self._stuck.holds(sighting, now):
            return False
        if not sighting.regular or sighting.links > 1:
            self._strangers.note(sighting, now)
            return False
        self._strangers.forget(sighting.key)
        if self._companions is not None:
            complete = self._companions.consider(sighting, fd)
            if complete is None:
                return False
            if complete.links > 1:
                self._strangers.note(complete, now)
                return False
            sighting = complete
        self._device = found.st_dev
        self._settling.note(sighting, now)
        return True

    def _takes(self, name: str) -> bool:
        return self._matcher.takes(self._subject(name))

    def _subject(self, name: str) -> str:
        """The name that the patterns are about: for a marker, that of the file it speaks for."""
        return self._companions.subject(name) if self._companions is not None else name

    # What is complete

    def ready(self, room: int) -> list[Sighting]:
        """At most `room` complete files, looked at just now; they leave this view."""
        if room <= 0 or self._root.is_away:
            return []
        now = self._clock.monotonic()
        taken = self._settling.take(now, room)
        self.backlog = max(0, self.backlog - len(taken), len(self._settling))
        self._seen = max(0, self._seen - len(taken))
        # Since it was seen, its folder may have been found to be closed.
        taken = [sighting for sighting in taken if not self._stuck.holds(sighting, now)]
        return self._unchanged(taken, now) if isinstance(self._rules.settle, Quiet) else taken

    def _unchanged(self, taken: list[Sighting], now: float) -> list[Sighting]:
        """Those that are still as they were when they began to stand still; the others wait on."""
        still: list[Sighting] = []
        for folder, group in groupby(taken, key=lambda sighting: sighting.folder):
            try:
                with opened(self._path, folder) as fd:
                    for sighting in group:
                        found = look(fd, sighting.name)
                        if found is not None and _is_as(found, sighting):
                            still.append(sighting)
                        elif found is not None:
                            self._consider(folder, sighting.name, found, now, fd)
            except OSError:
                self.rescan()  # the folder is gone or swapped: the next pass tells
        return still

    def strange(self) -> list[Sighting]:
        """Entries for quarantine: no regular file, or several names for too long."""
        if self._root.is_away:
            return []
        now, still = self._clock.monotonic(), []
        for sighting in self._strangers.due(now):
            try:
                with opened(self._path, sighting.folder) as fd:
                    found = look(fd, sighting.name)
                    if found is not None and _still_strange(found, sighting):
                        beside = self._companions.beside(sighting, found, fd) if self._companions is not None else ()
                        still.append(sighting._replace(links=found.st_nlink, companions=beside))
                    elif found is not None:
                        self._consider(sighting.folder, sighting.name, found, now, fd)
            except OSError:
                continue
        return still

    def put_back(self, sightings: list[Sighting]) -> None:
        """They were not claimed after all; they have settled already, and only wait again for their turn."""
        now = self._clock.monotonic() - self._span
        for sighting in sightings:
            if sighting.regular and sighting.links == 1:
                self._settling.note(sighting, now)
            else:
                self._strangers.note(sighting, now)
        self.backlog = max(self.backlog, len(self._settling))

    def set_aside(self, file: InboxFile) -> None:
        """It could not be taken, for the reason that it bears."""
        self._stuck.note(file, file.reason or "", self._clock.monotonic())

    def to_hash(self) -> list[Sighting]:
        """Files whose content must be read by a worker before they are complete."""
        return self._asking.take()

    def hashed(self, sighting: Sighting, digest: str | None) -> None:
        """A worker has read it: "" when that can't be done, None when it was cut off."""
        if self._companions is not None and (complete := self._companions.hashed(sighting, digest)):
            self._settling.note(complete, self._clock.monotonic())

    def next_wake(self) -> float | None:
        """When `look` or `ready`, with room for more, may have something new, if nobody wakes us before."""
        if self._root.is_away:
            return self._next_scan
        moments = [self._next_scan, self._strangers.next_due(), self._settling.next_due()]
        may_advance = self._room() > 0 if self._scan is not None else bool(self._again) or self._may_take_left()
        if may_advance or self._settling.may_recall:
            moments.append(0.0)
        soonest = min(moment for moment in moments if moment is not None)
        return max(soonest, self._clock.monotonic())

    # In words

    def explain(self, folder: str, name: str) -> str | None:
        """What this entry of inbound/ waits for; None when nothing here holds it."""
        if self._root.is_away:
            return f"the inbox is {self.condition}"
        if folder and not self._rules.recursive:
            return "it lies in a folder below inbound/, and the inbox is not recursive"
        if not may_enter(folder):
            return f"it lies in more than {DEEPEST} folders, one in the other; move it up"
        try:
            with opened(self._path, folder) as fd:
                found = look(fd, name)
        except OSError as error:
            return f"its folder can't be looked at: {error.strerror}"
        why_not = self._matcher.why_not(self._subject(name))
        if found is None:
            return f"it is not there, and would not be taken: {why_not}" if why_not else "it is not there"
        if why_not:
            return why_not
        return self._explain_found(folder, name, found)

    def _explain_found(self, folder: str, name: str, found: os.stat_result) -> str | None:
        if stat.S_ISDIR(found.st_mode):
            alone = f"inbox {self._name} is not recursive, so what lies in it is left alone"
            return f"it is a folder; {'files in it are taken' if self._rules.recursive else alone}"
        now = self._clock.monotonic()
        if not stat.S_ISREG(found.st_mode):
            return f"it is no regular file; it goes to quarantine/ {self._strange_in(folder, name, now)}"
        if found.st_nlink > 1:
            due = self._strange_in(folder, name, now)
            return f"it has more than one name (hard links); if it keeps them, it goes to quarantine/ {due}"
        stuck = self._stuck.why((folder, name), now)
        if stuck:
            return stuck
        left = self._settling.left((folder, name), now)
        if left:
            span = show_duration(self._rules.settle.quiet) if isinstance(self._rules.settle, Quiet) else ""
            return f"it must stand still for {span}; {left:.1f} s are left, if it does not change"
        if left is not None:
            return f"it is complete and waits for its turn ({_files(len(self._settling))} here)"
        if self._companions is not None:
            return self._companions.explain(folder, name)
        if self._settling.is_crowded:
            return f"it waits for its turn ({_files(self.backlog)} here)"
        return f"it has not been seen yet; the inbox is looked through {self._next_pass(now)}"

    def _strange_in(self, folder: str, name: str, now: float) -> str:
        """When: one that was made in place, not renamed in, may be seen by the next pass only."""
        left = self._strangers.left((folder, name), now)
        return f"in {left:.0f} s" if left is not None else f"once the inbox is looked through, {self._next_pass(now)}"

    def _next_pass(self, now: float) -> str:
        return "now" if self._scan or self._again else f"in {max(0.0, self._next_scan - now):.0f} s at the latest"


def _files(count: int) -> str:
    return "1 file waits" if count == 1 else f"{count} files wait"


def _is_as(found: os.stat_result, sighting: Sighting) -> bool:
    same = (found.st_ino, found.st_size, found.st_mtime_ns) == (sighting.ino, sighting.size, sighting.mtime_ns)
    return same and found.st_nlink == 1


def _still_strange(found: os.stat_result, sighting: Sighting) -> bool:
    """The same entry; an inode number alone may be that of its successor."""
    same = found.st_ino == sighting.ino and stat.S_ISREG(found.st_mode) == sighting.regular
    return same and not (sighting.regular and found.st_nlink == 1)
