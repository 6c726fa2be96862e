"""An operator's retry: a delivered error goes back into work/ under its own id.

The file is renamed first and recorded second; cut off in between, recovery finds it in work/ with a DONE row and
finishes the retry.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inboxd.beneath import opened
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.errors import UsageError
from inboxd.model import InboxFile, Outcome, State


def take_back(file: InboxFile, errors: Path, work_fd: int, ledger: Ledger) -> InboxFile:
    """Move an error back and record it CLAIMED with no attempts. Raises UsageError where it can't be done."""
    if file.state is not State.DONE or file.outcome is not Outcome.ERROR:
        raise UsageError(f"{file.id} is {file.state}, {file.outcome or 'without outcome'}: only errors are retried")
    folder, name = os.path.split(file.destination or "")
    try:
        with opened(errors, folder) as errors_fd:
            disk.rename_new(errors_fd, name, work_fd, file.work_name)
            for sidecar in (disk.fit(name, ".error.json"), disk.fit(name, f".{file.id[-8:]}.error.json")):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(sidecar, dir_fd=errors_fd)
            os.fsync(errors_fd)
        os.fsync(work_fd)
    except FileNotFoundError:
        raise UsageError(
            f"{file.id}: {errors / (file.destination or '')} is not there any more",
            hint="put it back, or drop it anew",
        ) from None
    failpoint("retry.renamed")
    found = os.stat(file.work_name, dir_fd=work_fd, follow_symlinks=False)
    back = file._replace(
        state=State.CLAIMED,
        attempts=0,
        failures=0,
        dev=found.st_dev,
        ino=found.st_ino,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        outcome=None,
        reason=None,
        message=None,
        destination=None,
        started_at=None,
        finished_at=None,
        sha256=None,  # it may have been mended
    )
    with ledger.transaction():
        ledger.retry([back])
    failpoint("retry.recorded")
    return back
