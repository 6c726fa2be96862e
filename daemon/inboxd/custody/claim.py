"""From inbound/ into work/: announce, rename, check, sync, record. What came from a source goes the same way, from
incoming/, where it lies as <id>.part.

The steps of one batch, and what recovery does when we die after each (docs/recovery.md):

1. `announce`  rows CLAIMING are committed             file in inbound/: abandoned, the scan finds it again
2. `take`      rename into work/ under the fresh id,
               compare with what was sighted           file in work/: claimed
3. (sync)      bytes and folders are durable           as 2
4. `record`    rows CLAIMED are committed              accepted: never lost from here on

With `claim: copy` a worker then copies the file inside work/, and `replace` puts the copy in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from inboxd import events
from inboxd.beneath import SHORTAGES, look, open_folder, opened
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.workfolder import hold
from inboxd.events import emit
from inboxd.items import Item
from inboxd.model import Ending, InboxFile, Outcome, Report, Sighting, State, new_id, unsynced_name
from inboxd.syncing import sync
from inboxd.wire import OrderedFile
from inboxd.work.content import copy_file

_FEW = 4
_MARK = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Taken:
    """What became of a batch of announced files."""

    claimed: list[InboxFile] = field(default_factory=list)
    strange: list[InboxFile] = field(default_factory=list)  # claimed, and bound for quarantine/
    gone: list[InboxFile] = field(default_factory=list)  # never ours, or put back
    copied: list[InboxFile] = field(default_factory=list)  # claimed before, and now in a file of our own
    returned: list[InboxFile] = field(default_factory=list)  # errors that an operator has taken back
    shortage: OSError | None = None  # why some of them could not be had, whatever file it were

    def miss(self, files: Iterable[InboxFile], what: str, error: OSError) -> None:
        """These can't be taken: for a reason of their own, or since the machine or the disk has no more to give."""
        self.gone += [file._replace(reason=f"{what}: {error.strerror}") for file in files]
        if error.errno in SHORTAGES:
            self.shortage = error

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
        """Likewise for items whose bytes are here, under their own ids. One that has gone since will not be had."""
        with opened(self.incoming) as incoming_fd:
            found = [(item, report, look(incoming_fd, item.part_name)) for item, report in fetched]
        files = [_fetched_row(item, report, there, now) for item, report, there in found]
        self._ledger.announce(files)
        return files

    def take(self, files: Sequence[InboxFile]) -> Taken:
        """Rename announced files into work/. An OSError after a rename goes up: only recovery may judge then."""
        taken = Taken()
        for place, group in groupby(files, key=self.place):
            members = list(group)
            try:
                inbound_fd = open_folder(*place)
            except (FileNotFoundError, NotADirectoryError):  # or a link stands in its place
                taken.gone += [file._replace(reason="its folder was gone") for file in members]
                continue
            except OSError as error:
                taken.miss(members, "its folder can't be opened", error)
                continue
            try:
                for file in members:
                    self._take_one(inbound_fd, file, taken)
            finally:
                os.close(inbound_fd)
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
            taken.miss([file], "it can't be moved", error)
            return
        failpoint("claim.renamed")
        self.judge(inbound_fd, file, os.stat(work_name, dir_fd=self.work_fd, follow_symlinks=False), taken)

    def judge(self, inbound_fd: int, file: InboxFile, found: os.stat_result, taken: Taken) -> None:
        """It is in work/ now: as it was sighted, strange, or to be put back. `found`: its lstat there.

        A folder was never sighted: it has taken the entry's place, and files in it wait for their turn.
        """
        if stat.S_ISDIR(found.st_mode):
            self._put_back(inbound_fd, file, found, taken)
        elif not stat.S_ISREG(found.st_mode):
            drop_companions(inbound_fd, file)
            taken.strange.append(as_found(file, found)._replace(reason=kind_of(found.st_mode)))
        elif found.st_nlink > 1 and file.reason:
            drop_companions(inbound_fd, file)
            taken.strange.append(as_found(file, found)._replace(reason="it has more than one name"))
        elif found.st_nlink > 1 or not _as_sighted(file, found):
            self._put_back(inbound_fd, file, found, taken)
        else:
            drop_companions(inbound_fd, file)
            taken.claimed.append(file)

    def _put_back(self, inbound_fd: int, file: InboxFile, found: os.stat_result, taken: Taken) -> None:
        """Replaced or written to since it settled: it waits on, under its name or, if that is taken, beside it."""
        try:
            try:
                disk.rename_new(self.work_fd, file.work_name, inbound_fd, lies_as(file))
            except FileExistsError:
                disk.rename_new(self.work_fd, file.work_name, inbound_fd, disk.with_tag(file.name, file.id[-8:]))
        except OSError as error:
            _keep(as_found(file, found), found, error, taken)
            return
        emit(events.FILE_PUT_BACK, inbox=file.inbox, file_id=file.id, file=file.below)
        taken.gone.append(file._replace(reason="it changed while it was claimed"))

    def replace(self, files: Sequence[InboxFile]) -> Taken:
        """Put copies in the places of their files. A file for whose copy that can't be done will be copied again."""
        failpoint("copy.made")
        taken = Taken()
        for file in files:
            try:
                self._rename_copy(file)
            except OSError:
                taken.copied.append(file)
            else:
                taken.copied.append(self._replaced(file))
        return taken

    def _rename_copy(self, file: InboxFile) -> None:
        os.rename(file.copy_name, file.work_name, src_dir_fd=self.work_fd, dst_dir_fd=self.work_fd)

    def _replaced(self, file: InboxFile) -> InboxFile:
        failpoint("copy.renamed")
        found = os.stat(file.work_name, dir_fd=self.work_fd, follow_symlinks=False)
        return as_found(file, found)._replace(copied=True)

    def sync(self, taken: Taken) -> None:
        """Make claimed files durable: their bytes, and the folders they went between.

        A few one by one; many by one syncfs(2), which costs about as much as a handful of fsyncs; and so what is
        strange, which nobody opens, and what was taken back, from wherever. An OSError is fatal, since the next sync of
        the same bytes may succeed and not be true (fsync(2)): they are marked for `renew`.
        """
        try:
            self._sync(taken)
        except OSError:
            for file in taken.claimed:
                with contextlib.suppress(OSError):
                    os.close(os.open(unsynced_name(file.id), _MARK, 0o600, dir_fd=self.work_fd))
            raise

    def renew(self, taken: Taken) -> None:
        """After such a death: bytes that could not be synced are written anew, as others are with `claim: copy`."""
        for file in [file for file in taken.claimed if look(self.work_fd, unsynced_name(file.id))]:
            order = OrderedFile(file.id, f"{self.work.path}/{file.work_name}", file.name, file.size, file.attempts)
            report = copy_file(order, "", durable=True)
            if report.ending is Ending.UNAVAILABLE:
                raise OSError(errno.ENOSPC, "no room to write anew what could not be synced", order.path)
            taken.claimed.remove(file)
            if report.ending is Ending.COPIED:
                self._rename_copy(file)
                taken.claimed.append(self._replaced(file))
            else:
                taken.strange.append(file._replace(reason=f"its bytes can't be saved: {report.message}"))

    def _sync(self, taken: Taken) -> None:
        files = taken.claimed
        if len(files) > _FEW or taken.strange or taken.returned:
            disk.sync_all(self.work_fd)
            return
        for file in files:
            disk.sync_file(self.work_fd, file.work_name)
        sync(self.work_fd)
        for place in dict.fromkeys(self.place(file) for file in files):
            disk.sync_folder(*place, self.work_fd)

    def record(self, taken: Taken) -> None:
        """Write down, in the open transaction, what has been taken."""
        self._ledger.claim([*taken.claimed, *taken.strange])
        self._ledger.decide(taken.quarantined())
        self._ledger.abandon(taken.gone)
        self._ledger.identify(taken.copied)
        self._ledger.retry(taken.returned)


def disown(ledger: Ledger, inboxes: Container[str]) -> None:
    """Between two turns no claim is under way: abandon rows of a commit that failed, and came through nevertheless.

    Their files were never touched, and have been announced anew.
    """
    stale = [file for file in ledger.open_files(State.CLAIMING) if file.inbox in inboxes]
    with ledger.transaction():
        ledger.abandon([file._replace(reason="the ledger went away before it was taken") for file in stale])


def _row(sighting: Sighting, now: float) -> InboxFile:
    strange = "" if sighting.regular and sighting.links == 1 else "strange"
    return InboxFile(
        id=new_id(now), inbox=sighting.inbox, folder=sighting.folder, name=sighting.name,
        dev=sighting.dev, ino=sighting.ino, size=sighting.size, mtime_ns=sighting.mtime_ns,
        state=State.CLAIMING, claimed_at=now, sha256=sighting.sha256, companions=sighting.companions,
        reason=strange or None,
    )  # fmt: skip


def _fetched_row(item: Item, report: Report, found: os.stat_result | None, now: float) -> InboxFile:
    sha256 = (report.result or {}).get("sha256")
    row = InboxFile(
        id=item.id, inbox=item.inbox, folder="", name=item.name, dev=0, ino=0, size=0, mtime_ns=0,
        state=State.CLAIMING, claimed_at=now, sha256=sha256, source=item.source,
    )  # fmt: skip
    return as_found(row, found) if found is not None else row


def lies_as(file: InboxFile) -> str:
    """Its name where it comes from."""
    return file.name if file.source is None else file.part_name


def _quarantined(file: InboxFile) -> InboxFile:
    destination = file.below
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
    """Remove the marker or checksum files that spoke for this file; one left over would speak for the next.

    Its uploader may have put something else in its place, or closed the folder: that is his next file's affair.
    """
    for name in file.companions:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=inbound_fd)


def _keep(ours: InboxFile, found: os.stat_result, error: OSError, taken: Taken) -> None:
    """It can't be put back. Where its uploader has removed the folder, or closed it, a file is ours as it is; where the
    disk has failed nobody knows whether it is whole, and it may not run.
    """
    if not stat.S_ISREG(found.st_mode):
        taken.strange.append(ours._replace(reason=kind_of(found.st_mode)))
    elif found.st_nlink > 1:
        taken.strange.append(ours._replace(reason="it has more than one name"))
    elif isinstance(error, FileNotFoundError | PermissionError):
        taken.claimed.append(ours)
    else:
        reason = f"it changed while it was claimed, and can't be put back: {error.strerror}"
        taken.strange.append(ours._replace(reason=reason))


def kind_of(mode: int) -> str:
    """What an entry that is no regular file is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
    }  # fmt: skip
    return "it is " + kinds.get(stat.S_IFMT(mode), "no regular file")
