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
    """Remove at most `limit` files, and forget their rows.

    Raises LedgerUnavailable; OSError when the folder can't be opened: what is there stays known, its disk may be away.
    """
    files = ledger.prune(old.inbox, old.outcome, old.before, limit, after_id)
    kept: dict[str, OSError] = {}
    if files:
        with opened(old.folder):
            pass
    for file in files:
        try:
            _remove(file, old.folder, ledger)
        except OSError as error:
            kept[file.id] = error
    failpoint("prune.removed")
    gone = [file.id for file in files if file.id not in kept]
    if gone:
        with ledger.transaction():
            ledger.forget(gone)
    return Pruned(len(gone), kept, files[-1].id if len(files) == limit else "")


def _remove(file: InboxFile, root: Path, ledger: Ledger) -> None:
    """Only the very file we delivered; what somebody put in its place, or has changed since, is not ours."""
    folder, name = os.path.split(file.destination or "")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(root, folder) as fd:
        found = look(fd, name)
        if found is not None and (is_what_we_delivered(found, file) or _was_mended(found, file, ledger)):
            os.unlink(name, dir_fd=fd)
        sidecar.remove(fd, name, file.id)
    _remove_empty(root, folder)


def _was_mended(found: os.stat_result, file: InboxFile, ledger: Ledger) -> bool:
    """An error may be changed where it lies, and not be retried. But its inode may be that of the next error, too."""
    if file.outcome is not Outcome.ERROR or found.st_ino != file.ino:
        return False
    rows = ledger.ended_at(file.inbox, Outcome.ERROR, file.destination or "")
    return not any(is_what_we_delivered(found, one) for one in rows if one.id != file.id)


def _remove_empty(root: Path, folder: str) -> None:
    """A layout folder goes with its last file."""
    while folder:
        try:
            os.rmdir(root / folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
