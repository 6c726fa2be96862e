"""From inbound/ into work/: announce, rename, check, sync, record. What came from a source goes the same way, from
incoming/, where it lies as <id>.part.

The steps of one batch, and what recovery does when we die after each (docs/recovery.md):

1. `announce`  rows CLAIMING are committed             file in inbound/: abandoned, the scan finds it again
2. `take`      rename into work/ under the fresh id,
               compare with what was sighted           file in work/: claimed
3. (sync)      bytes and folders are durable           as 2
4. `record`    rows CLAIMED are committed              accepted: never lost from here on
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from inboxd import events
from inboxd.beneath import look, opened
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.workfolder import hold
from inboxd.events import emit
from inboxd.items import Item
from inboxd.model import InboxFile, Outcome, Report, Sighting, State, new_id

_FEW = 4


@dataclass(slots=True)
class Taken:
    """What became of a batch of announced files."""

    claimed: list[InboxFile] = field(default_factory=list)
    strange: list[InboxFile] = field(default_factory=list)  # claimed, and bound for quarantine/
    gone: list[InboxFile] = field(default_factory=list)  # never ours, or put back

    def quarantined(self) -> list[InboxFile]:
        """The strange ones, decided: to quarantine/, without anybody having opened them."""
        return [_quarantined(file) for file in self.strange]


class Claims:
    """Takes the files of one inbox."""

    def __init__(self, inbound: Path, incoming: Path, work: Path, ledger: Ledger) -> None:
        self._inbound = inbound
        self.incoming = incoming
        self._ledger = ledger
        self.work = hold(work)
        self.work_fd = self.work.fd  # the same for life, wherever work/ has to be opened anew

    def close(self) -> None:
        """Give the work folder back."""
        self.work.release()

    def announce(self, sightings: Iterable[Sighting], now: float) -> list[InboxFile]:
        """Write down, in the open transaction, what we are about to take. `now`: wall clock, seconds."""
        files = [_row(sighting, now) for sighting in sightings]
        self._ledger.announce(files)
        return files

    def announce_fetched(self, fetched: Iterable[tuple[Item, Report]], now: float) -> list[InboxFile]:
        """Likewise for items whose bytes are here, under their own ids. One that has gone is left out."""
        with opened(self.incoming) as incoming_fd:
            found = [(item, report, look(incoming_fd, item.part_name)) for item, report in fetched]
        files = [_fetched_row(item, report, there, now) for item, report, there in found if there is not None]
        self._ledger.announce(files)
        return files

    def take(self, files: Sequence[InboxFile]) -> Taken:
        """Rename announced files into work/. An OSError after a rename goes up: only recovery may judge then."""
        taken = Taken()
        for place, group in groupby(files, key=self.place):
            members = list(group)
            with contextlib.ExitStack() as stack:
                try:
                    inbound_fd = stack.enter_context(opened(*place))
                except OSError as error:
                    reason = f"its folder can't be opened: {error.strerror}"
                    taken.gone += [file._replace(reason=reason) for file in members]
                    continue
                for file in members:
                    self._take_one(inbound_fd, file, taken)
        return taken

    def place(self, file: InboxFile) -> tuple[Path, str]:
        """Where it comes from: a folder of ours, and one below it."""
        return (self._inbound if file.source is None else self.incoming), file.folder

    def _take_one(self, inbound_fd: int, file: InboxFile, taken: Taken) -> None:
        work_name = file.work_name
        try:
            disk.rename_new(inbound_fd, lies_as(file), self.work_fd, work_name)
        except FileNotFoundError:
            taken.gone.append(file._replace(reason="it was gone"))
            return
        except OSError as error:
            taken.gone.append(file._replace(reason=f"it can't be moved: {error.strerror}"))
            return
        failpoint("claim.renamed")
        self.judge(inbound_fd, file, os.stat(work_name, dir_fd=self.work_fd, follow_symlinks=False), taken)

    def judge(self, inbound_fd: int, file: InboxFile, found: os.stat_result, taken: Taken) -> None:
        """It is in work/ now: as it was sighted, strange, or to be put back. `found`: its lstat there."""
        if not stat.S_ISREG(found.st_mode):
            taken.strange.append(as_found(file, found)._replace(reason=kind_of(found.st_mode)))
        elif found.st_nlink > 1 and file.reason:
            taken.strange.append(as_found(file, found)._replace(reason="it has more than one name"))
        elif found.st_nlink > 1 or not _as_sighted(file, found):
            self._put_back(inbound_fd, file, taken)
        else:
            drop_companions(inbound_fd, file)
            taken.claimed.append(file)

    def _put_back(self, inbound_fd: int, file: InboxFile, taken: Taken) -> None:
        """Replaced or written to since it settled: it waits on, under its name or, if that is taken, beside it."""
        try:
            disk.rename_new(self.work_fd, file.work_name, inbound_fd, lies_as(file))
        except FileExistsError:
            disk.rename_new(self.work_fd, file.work_name, inbound_fd, disk.with_tag(file.name, file.id[-8:]))
        emit(events.FILE_PUT_BACK, inbox=file.inbox, file_id=file.id, file=file.name)
        taken.gone.append(file._replace(reason="it changed while it was claimed"))

    def sync(self, files: Sequence[InboxFile]) -> None:
        """Make claimed files durable: their bytes, and the folders they went between.

        A few one by one; many by one syncfs(2), which costs about as much as a handful of fsyncs.
        """
        if len(files) > _FEW:
            disk.sync_all(self.work_fd)
            return
        for file in files:
            disk.sync_file(self.work_fd, file.work_name)
        os.fsync(self.work_fd)
        for place in {self.place(file) for file in files}:
            with contextlib.suppress(FileNotFoundError), opened(*place) as inbound_fd:
                os.fsync(inbound_fd)

    def record(self, taken: Taken) -> None:
        """Write down, in the open transaction, what has been taken."""
        self._ledger.claim([*taken.claimed, *taken.strange])
        self._ledger.decide(taken.quarantined())
        self._ledger.abandon(taken.gone)


def _row(sighting: Sighting, now: float) -> InboxFile:
    strange = "" if sighting.regular and sighting.links == 1 else "strange"
    return InboxFile(
        id=new_id(now), inbox=sighting.inbox, folder=sighting.folder, name=sighting.name,
        dev=sighting.dev, ino=sighting.ino, size=sighting.size, mtime_ns=sighting.mtime_ns,
        state=State.CLAIMING, claimed_at=now, sha256=sighting.sha256, companions=sighting.companions,
        reason=strange or None,
    )  # fmt: skip


def _fetched_row(item: Item, report: Report, found: os.stat_result, now: float) -> InboxFile:
    sha256 = (report.result or {}).get("sha256")
    return InboxFile(
        id=item.id, inbox=item.inbox, folder="", name=item.name, dev=found.st_dev, ino=found.st_ino,
        size=found.st_size, mtime_ns=found.st_mtime_ns, state=State.CLAIMING, claimed_at=now, sha256=sha256,
        source=item.source,
    )  # fmt: skip


def lies_as(file: InboxFile) -> str:
    """Its name where it comes from."""
    return file.name if file.source is None else file.part_name


def _quarantined(file: InboxFile) -> InboxFile:
    destination = os.path.join(file.folder, file.name)
    return file._replace(
        state=State.DECIDED,
        outcome=Outcome.QUARANTINE,
        destination=destination,
        finished_at=file.claimed_at,
    )


def as_found(file: InboxFile, found: os.stat_result) -> InboxFile:
    """The record with the identity that lstat(2) shows now."""
    return file._replace(dev=found.st_dev, ino=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns)


def _as_sighted(file: InboxFile, found: os.stat_result) -> bool:
    return (file.ino, file.size, file.mtime_ns, file.dev) == (
        found.st_ino, found.st_size, found.st_mtime_ns, found.st_dev,
    )  # fmt: skip


def drop_companions(inbound_fd: int, file: InboxFile) -> None:
    """Remove the marker or checksum files that spoke for this file; one left over would speak for the next."""
    for name in file.companions:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=inbound_fd)


def kind_of(mode: int) -> str:
    """What an entry that is no regular file is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
    }  # fmt: skip
    return "it is " + kinds.get(stat.S_IFMT(mode), "no regular file")
