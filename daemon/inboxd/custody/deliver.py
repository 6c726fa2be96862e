"""From work/ to processed/, errors/ or quarantine/: sidecar, results, rename, sync, record.

Everything here is done again from the DECIDED row when we die on the way, and doing it twice is harmless:

1. sidecar    NAME.error.json beside where an error will lie   (sidecar.py)
2. results    what the handler left, into outbound/            (each by rename; results.py)
3. `move`     rename, never onto another                       (a taken name: `redirect` commits the next name first)
4. (sync)     both folders are durable
5. `record`   rows DONE are committed
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from inboxd import events
from inboxd.beneath import look, open_folder
from inboxd.custody import disk, sidecar
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.results import Results
from inboxd.custody.rows import kept_moment
from inboxd.custody.sends import Sends
from inboxd.events import emit
from inboxd.model import Failure, InboxFile, Outcome
from inboxd.sends import Send
from inboxd.syncing import sync

_DELIVERY = 60.0  # seconds in which a file is renamed to its destination, if that is not away


@dataclass(slots=True)
class Moved:
    """What became of a batch of decided files."""

    delivered: list[InboxFile] = field(default_factory=list)
    redirected: list[InboxFile] = field(default_factory=list)  # the name was taken; a new destination to commit
    lost: list[InboxFile] = field(default_factory=list)  # somebody took them out of work/
    results: bool = False  # some of it are results, moved now or by an earlier try that was cut off
    sends: list[Send] = field(default_factory=list)  # results that wait in work/ for their destinations
    outage: OSError | None = None  # why the rest is not moved; to be tried again later

    def ids(self) -> set[str]:
        """Those that something became of."""
        return {file.id for file in (*self.delivered, *self.redirected, *self.lost)}


class _Known(NamedTuple):
    """What is known of decided files, besides their rows."""

    with_results: Collection[str]  # ids
    failures: dict[str, list[Failure]]  # of errors, by id


class Deliveries:
    """Delivers the files of one inbox."""

    def __init__(self, folders: dict[Outcome, Path], results: Results, work_fd: int, ledger: Ledger) -> None:
        self.config: Path | None = None  # which people name to reach the daemon
        self.results = results
        self.folders = folders
        self.inherited: set[str] = set()  # ids that a dead daemon decided: nobody knows how far it came with them
        self._work_fd = work_fd
        self._ledger = ledger
        self._sends = Sends(ledger)

    def move(self, files: Sequence[InboxFile], *, with_results: Collection[str] = ()) -> Moved:
        """Bring decided files to their destinations, as far as that goes.

        `with_results`: ids that left results. For those of what is inherited it is looked. Raises LedgerUnavailable
        before anything has been moved.
        """
        errors = [file.id for file in files if file.outcome is Outcome.ERROR]
        known, moved = _Known(with_results, {one: self._ledger.failures(one) for one in errors}), Moved()
        for (outcome, folder), group in groupby(files, key=_place):
            try:
                self._move_to(self.folders[outcome], folder, list(group), known, moved)
            except OSError as error:
                moved.outage = moved.outage or error
        return moved

    def _move_to(self, root: Path, folder: str, files: Sequence[InboxFile], known: _Known, moved: Moved) -> None:
        try:
            target_fd = open_folder(root, folder, make=True)
        except NotADirectoryError:
            if not folder:
                raise
            moved.redirected += [_above(file) for file in files]
            return
        try:
            for file in files:
                try:
                    self._move_one(file, target_fd, known, moved)
                except OSError as error:
                    moved.outage = moved.outage or error
        finally:
            os.close(target_fd)

    def _move_one(self, file: InboxFile, target_fd: int, known: _Known, moved: Moved) -> None:
        name = (file.destination or "").rpartition("/")[2]
        if file.id in self.inherited:
            self._drop_old_name(file, target_fd, name)
        if file.outcome is Outcome.ERROR:
            told = sidecar.content(file, known.failures[file.id], self.config)
            sidecar.place(self._work_fd, target_fd, name, file.id, told)
            failpoint("deliver.sidecar")
        if file.id in known.with_results or file.id in self.inherited:
            self._place_results(file, moved)
        try:
            disk.rename_new(self._work_fd, file.work_name, target_fd, name)
        except FileExistsError:
            if self._is_there(file, target_fd, name):
                self._drop_old_name(file, target_fd, name)
                moved.delivered.append(file)
            else:
                sidecar.remove(target_fd, name, file.id)
                moved.redirected.append(_elsewhere(file))
            return
        except FileNotFoundError:
            if look(self._work_fd, file.work_name) is not None:
                raise  # it is the folder that has gone, removed since we opened it: it is made again at the next try
            if not self._is_there(file, target_fd, name) and not _was_removed_by_its_handler(file):
                self._miss(file, moved)
                return
        failpoint("deliver.renamed")
        moved.delivered.append(file)
        if file.outcome is Outcome.PROCESSED and not file.message:
            _tell_if_changed(file, look(target_fd, name))

    def _miss(self, file: InboxFile, moved: Moved) -> None:
        """It is neither in work/ nor at its destination, and we have not moved it; a dead daemon may have."""
        about = {"inbox": file.inbox, "file_id": file.id, "file": file.below}
        if file.id in self.inherited:
            emit(events.FILE_TAKEN, **about, destination=file.destination)
            moved.delivered.append(file)
        else:
            emit(events.FILE_LOST, **about)
            moved.lost.append(file)

    def _is_there(self, file: InboxFile, target_fd: int, name: str) -> bool:
        """An earlier try, cut off, has moved it already."""
        found = look(target_fd, name)
        return found is not None and found.st_ino == file.ino

    def _drop_old_name(self, file: InboxFile, target_fd: int, name: str) -> None:
        """A power cut between rename and sync may leave both names of it; under the old one it would be adopted."""
        old, new = look(self._work_fd, file.work_name), look(target_fd, name)
        if old is not None and new is not None and old.st_ino == new.st_ino:
            os.unlink(file.work_name, dir_fd=self._work_fd)

    def _place_results(self, file: InboxFile, moved: Moved) -> None:
        processed = file.outcome is Outcome.PROCESSED
        moved.results = moved.results or processed
        sends = self.results.place(file.id) if processed else None
        if sends is None:
            disk.drop(self._work_fd, file.results_name)
            disk.drop(self._work_fd, file.copy_name)
        else:
            moved.sends += sends

    def sync(self, moved: Moved) -> None:
        """Make durable what was moved: the folders, and of results the bytes, too."""
        if moved.results:
            disk.sync_all(self._work_fd)
            return
        for outcome, folder in dict.fromkeys(_place(file) for file in moved.delivered):
            disk.sync_folder(self.folders[outcome], folder, self._work_fd)
        sync(self._work_fd)

    def record(self, moved: Moved, now: float) -> None:
        """Write down, in the open transaction, what has become of them. `now`: wall clock, seconds."""
        self._sends.queue(moved.sends)
        self._ledger.deliver(moved.delivered)
        self.inherited.difference_update(file.id for file in moved.delivered)
        self._ledger.redirect(moved.redirected)
        self._ledger.lose([file._replace(finished_at=now) for file in moved.lost])


def _place(file: InboxFile) -> tuple[Outcome, str]:
    assert file.outcome is not None and file.destination is not None  # a DECIDED row has both
    return file.outcome, file.destination.rpartition("/")[0]


def _elsewhere(file: InboxFile) -> InboxFile:
    """The same file bound for the next name: its id makes it free, unless somebody plays with us."""
    folder, name = os.path.split(file.destination or "")
    tag = file.id[-8:]
    if f".{tag}" in name:
        tag = f"{tag}-{os.urandom(4).hex()}"
    return _redirected(file, os.path.join(folder, disk.with_tag(file.name, tag)))


def _above(file: InboxFile) -> InboxFile:
    """The same file bound for a place without its own folder, in whose way a file lies; or without the layout's."""
    folder = os.path.dirname(file.destination or "")
    day = folder.removesuffix(file.folder).rstrip("/") if file.folder and folder != file.folder else ""
    return _redirected(file, os.path.join(day if day != folder else "", disk.with_tag(file.name, file.id[-8:])))


def _redirected(file: InboxFile, destination: str) -> InboxFile:
    emit(events.FILE_COLLISION, inbox=file.inbox, file_id=file.id, file=file.below, destination=destination)
    return file._replace(destination=destination)


def is_as_delivered(found: os.stat_result, file: InboxFile) -> bool:
    """What lies there is the very file. An inode's number alone is given away again as soon as its file is gone."""
    known = (file.ino, file.size, kept_moment(file.mtime_ns))
    return (found.st_ino, found.st_size, kept_moment(found.st_mtime_ns)) == known


def is_what_we_delivered(found: os.stat_result, file: InboxFile) -> bool:
    """Its handler may have written to it, of which the row does not know. Nobody has later, nor put it there later."""
    if is_as_delivered(found, file):
        return True
    ended = file.finished_at or 0.0
    return found.st_ino == file.ino and found.st_mtime <= ended and found.st_ctime <= ended + _DELIVERY


def _tell_if_changed(file: InboxFile, found: os.stat_result | None) -> None:
    """Until the end of its run the worker has looked: what came later was in nobody's hands."""
    known = (file.size, kept_moment(file.mtime_ns))
    if found is not None and (found.st_size, kept_moment(found.st_mtime_ns)) != known:
        emit(events.FILE_CHANGED, inbox=file.inbox, file_id=file.id, file=file.below, destination=file.destination)


def _was_removed_by_its_handler(file: InboxFile) -> bool:
    return file.reason == "input changed"


def destination(file: InboxFile, layout: str, now: float) -> str:
    """Where below its outcome's folder a file goes: the layout's folder (local time), its own folder, its name."""
    return "/".join(part for part in (_day(layout, now), file.folder, file.name) if part)


@lru_cache(maxsize=8)  # all that is decided in one turn is decided at the same moment
def _day(layout: str, now: float) -> str:
    return time.strftime(layout, time.localtime(now)) if layout else ""
