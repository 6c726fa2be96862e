"""An operator's last words about a delivered error: it goes back into work/ under its own id, or is forgotten.

In a retry the file is renamed first and recorded second; cut off in between, recovery finds it in work/ with a DONE row
and finishes the retry.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inboxd.beneath import look, opened
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.errors import UsageError
from inboxd.model import InboxFile, Outcome, State


def take_back(file: InboxFile, errors: Path, work_fd: int, ledger: Ledger) -> InboxFile:
    """Move an error back and record it CLAIMED with no attempts. Raises UsageError where it can't be done."""
    _must_be_error(file, "retried")
    folder, name = os.path.split(file.destination or "")
    try:
        with opened(errors, folder) as errors_fd:
            disk.rename_new(errors_fd, name, work_fd, file.work_name)
            _drop_sidecars(errors_fd, name, file.id)
            os.fsync(errors_fd)
        os.fsync(work_fd)
    except FileNotFoundError:
        raise UsageError(
            f"{file.id}: {errors / (file.destination or '')} is not there any more",
            hint=f"put it back; or, if it is gone for good, let go of it: `inboxd forget {file.id}`",
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


def let_go(file: InboxFile, errors: Path, ledger: Ledger) -> None:
    """Forget an error whose file was removed from errors/: its row, its sidecar, its place in the totals.

    Raises UsageError while the file is there, OSError where that can't be seen.
    """
    _must_be_error(file, "forgotten")
    folder, name = os.path.split(file.destination or "")
    with opened(errors):  # it must be there to be believed that the file is not
        pass
    with contextlib.suppress(FileNotFoundError), opened(errors, folder) as errors_fd:
        if look(errors_fd, name) is not None:
            raise UsageError(
                f"{file.id}: {errors / (file.destination or '')} is there",
                hint=f"`inboxd retry {file.id}` runs it again; to be rid of it, remove the file first",
            )
        _drop_sidecars(errors_fd, name, file.id)
        os.fsync(errors_fd)
    with ledger.transaction():
        ledger.dismiss([file.id])


def _must_be_error(file: InboxFile, wish: str) -> None:
    if file.state is not State.DONE or file.outcome is not Outcome.ERROR:
        raise UsageError(f"{file.id} is {file.state}, {file.outcome or 'without outcome'}: only errors are {wish}")


def _drop_sidecars(errors_fd: int, name: str, file_id: str) -> None:
    for sidecar in (disk.fit(name, ".error.json"), disk.fit(name, f".{file_id[-8:]}.error.json")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sidecar, dir_fd=errors_fd)
