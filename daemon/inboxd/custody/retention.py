"""Old delivered files and their rows are removed, a slice at a time.

In slices, since thousands of deletions at once make the uploaders' creates on an ext4 file system about ten times
slower for minutes (measured; it walks past inodes that were freed a moment ago).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from inboxd.beneath import look, opened
from inboxd.custody import sidecar
from inboxd.custody.deliver import is_what_we_delivered
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.model import InboxFile, Outcome


class Pruned(NamedTuple):
    """What became of a slice."""

    forgotten: int
    kept: dict[str, OSError]  # by id: why it could not be removed
    last: str  # the id to go on after; "" when there are no more


class Old(NamedTuple):
    """What is to go: files of an inbox that ended so, in this folder, before then (wall clock, seconds)."""

    inbox: str
    outcome: Outcome
    folder: Path
    before: float


def prune(ledger: Ledger, old: Old, limit: int, after_id: str = "") -> Pruned:
    """Remove at most `limit` files, and forget their rows. What was mended lately waits for another time.

    Raises LedgerUnavailable; OSError when the folder can't be opened: what is there stays known, its disk may be away.
    """
    files = ledger.prune(old.inbox, old.outcome, old.before, limit, after_id)
    gone: list[str] = []
    kept: dict[str, OSError] = {}
    if files:
        with opened(old.folder):
            pass
    for file in files:
        try:
            if _remove(file, old, ledger):
                gone.append(file.id)
        except OSError as error:
            kept[file.id] = error
    failpoint("prune.removed")
    if gone:
        with ledger.transaction():
            ledger.forget(gone)
    return Pruned(len(gone), kept, files[-1].id if len(files) == limit else "")


def _remove(file: InboxFile, old: Old, ledger: Ledger) -> bool:
    """Only the very file we delivered; what somebody put in its place, or has changed since, is not ours.

    Returns whether its row may go: not that of an error that was mended lately.
    """
    folder, name = os.path.split(file.destination or "")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(old.folder, folder) as fd:
        found = look(fd, name)
        if found is not None and _may_be_mended(found, file):
            if max(found.st_mtime, found.st_ctime) >= old.before:
                return False
            ours = not _is_the_next(found, file, ledger)
        else:
            ours = found is not None and is_what_we_delivered(found, file)
        if ours:
            os.unlink(name, dir_fd=fd)
        sidecar.remove(fd, name, file.id)
    _remove_empty(old.folder, folder)
    return True


def _may_be_mended(found: os.stat_result, file: InboxFile) -> bool:
    """An error may be changed where it lies, and not be retried. But its inode may be that of another file by now."""
    return file.outcome is Outcome.ERROR and found.st_ino == file.ino and not is_what_we_delivered(found, file)


def _is_the_next(found: os.stat_result, file: InboxFile, ledger: Ledger) -> bool:
    """Another error was delivered there since, and got the inode."""
    rows = ledger.ended_at(file.inbox, Outcome.ERROR, file.destination or "")
    return any(is_what_we_delivered(found, one) for one in rows if one.id != file.id)


def _remove_empty(root: Path, folder: str) -> None:
    """A layout folder goes with its last file."""
    while folder:
        try:
            os.rmdir(root / folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
