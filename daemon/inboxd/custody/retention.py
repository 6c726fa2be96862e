"""Old delivered files and their rows are removed, a slice at a time.

In slices, since thousands of deletions at once make the uploaders' creates on an ext4 file system about ten times
slower for minutes (measured; it walks past inodes that were freed a moment ago).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inboxd.beneath import look, opened
from inboxd.custody import sidecar
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.model import InboxFile, Outcome


def prune(ledger: Ledger, inbox: str, outcome: Outcome, folder: Path, before: float, limit: int) -> int:
    """Remove at most `limit` files that ended before `before` (wall clock). Returns how many rows are forgotten."""
    files = ledger.prune(inbox, outcome, before, limit)
    for file in files:
        _remove(file, folder)
    failpoint("prune.removed")
    if files:
        with ledger.transaction():
            ledger.forget([file.id for file in files])
    return len(files)


def _remove(file: InboxFile, root: Path) -> None:
    """Only the very file we delivered; what somebody put in its place is not ours."""
    folder, name = os.path.split(file.destination or "")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(root, folder) as fd:
        found = look(fd, name)
        if found is None or found.st_ino != file.ino:  # a device's number may change with a reboot
            return
        os.unlink(name, dir_fd=fd)
        sidecar.remove(fd, name, file.id)
    _remove_empty(root, folder)


def _remove_empty(root: Path, folder: str) -> None:
    """A layout folder goes with its last file."""
    while folder:
        try:
            os.rmdir(root / folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
