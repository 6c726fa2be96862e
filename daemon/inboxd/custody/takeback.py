"""An operator's last words about a delivered error: it goes back into work/ under its own id, or is forgotten.

In a retry the file is renamed first, and recorded by the turn in which that happens, or by the first one that finds
the ledger back. Cut off in between, recovery finds it in work/ with a DONE row and finishes the retry, if the sidecar
has gone; else nobody has been told of one yet, and it is delivered once more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from inboxd.beneath import look, opened
from inboxd.custody import disk, sidecar
from inboxd.custody.deliver import is_as_delivered
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.errors import UsageError
from inboxd.model import InboxFile, Outcome, State
from inboxd.syncing import sync


def take_back(file: InboxFile, errors: Path, work_fd: int, ledger: Ledger) -> InboxFile:
    """Move an error back. Returns it CLAIMED with no attempts, as it is to be recorded.

    Raises UsageError where it can't be done, OSError where the disk does not do it; then it is where it was, and where
    errors/ can't be synced without its sidecar.
    """
    _must_be_error(file, "retried", ledger)
    _must_not_be_held(file, work_fd)
    folder, name = os.path.split(file.destination or "")
    try:
        with opened(errors, folder) as errors_fd:
            other = _whose(file, errors_fd, name, ledger)
            if other is not None:
                raise UsageError(
                    f"{file.id}: what lies at {errors / (file.destination or '')} is {other.id}, another error",
                    hint=f"if this one's own file is gone for good, let go of it: `inboxd forget {file.id}`; "
                    "else move that away with its .error.json, put this one there, and say it again",
                )
            disk.rename_new(errors_fd, name, work_fd, file.work_name)
            with _undone(work_fd, file.work_name, errors_fd, name):
                sync(work_fd)
                with contextlib.suppress(OSError):  # what has been put in its place stays there
                    sidecar.remove(errors_fd, name, file.id)
                sync(errors_fd)
    except FileNotFoundError:
        raise UsageError(
            f"{file.id}: {errors / (file.destination or '')} is not there any more",
            hint=f"put it back; or, if it is gone for good, let go of it: `inboxd forget {file.id}`; "
            "where an older ledger was put back, `inboxd doctor --rebuild-ledger` finds what has become of it",
        ) from None
    failpoint("retry.renamed")
    found = os.stat(file.work_name, dir_fd=work_fd, follow_symlinks=False)
    return file._replace(
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


@contextlib.contextmanager
def _undone(work_fd: int, work_name: str, errors_fd: int, name: str) -> Iterator[None]:
    """What fails in here leaves it an error: in work/ nobody would look for it before the next start."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            disk.rename_new(work_fd, work_name, errors_fd, name)
        raise


def let_go(file: InboxFile, errors: Path, work_fd: int, ledger: Ledger) -> None:
    """Forget an error whose file was removed from errors/: its row, its sidecar, its place in the totals.

    Raises UsageError while the file is there, OSError where that can't be seen.
    """
    _must_be_error(file, "forgotten", ledger)
    _must_not_be_held(file, work_fd)
    folder, name = os.path.split(file.destination or "")
    with opened(errors):  # it must be there to be believed that the file is not
        pass
    with contextlib.suppress(FileNotFoundError), opened(errors, folder) as errors_fd:
        if look(errors_fd, name) is not None and _whose(file, errors_fd, name, ledger) is None:
            raise UsageError(
                f"{file.id}: {errors / (file.destination or '')} is there",
                hint=f"`inboxd retry {file.id}` runs it again; to be rid of it, remove the file first",
            )
        sidecar.remove(errors_fd, name, file.id)
        sync(errors_fd)
    with ledger.transaction():
        ledger.dismiss([file.id])


def _whose(file: InboxFile, errors_fd: int, name: str, ledger: Ledger) -> InboxFile | None:
    """The other error that lies where this one was delivered to; None when it is this one, perhaps mended.

    When a file has been taken out of errors/, its name is free for the next one. Of what has been mended no row knows
    the inode: then it is the last error whose sidecar lies beside it; where none does, the one that was asked for.
    Raises FileNotFoundError.
    """
    found = os.stat(name, dir_fd=errors_fd, follow_symlinks=False)
    if is_as_delivered(found, file):
        return None
    rows = ledger.ended_at(file.inbox, Outcome.ERROR, file.destination or "")
    others = [one for one in rows if one.id != file.id]
    as_delivered = [one for one in others if is_as_delivered(found, one)]
    told = [one for one in (file, *others) if sidecar.is_beside(errors_fd, name, one.id)]
    last = max(told, key=lambda one: (one.finished_at or 0.0, one.id), default=file)
    owner = as_delivered[0] if as_delivered else last
    return owner if owner.id != file.id else None


def _must_be_error(file: InboxFile, wish: str, ledger: Ledger) -> None:
    if file.state is not State.DONE or file.outcome is not Outcome.ERROR:
        raise UsageError(f"{file.id} is {file.state}, {file.outcome or 'without outcome'}: only errors are {wish}")
    if ledger.doubts(file.id):
        raise UsageError(
            f"{file.id}: the ledger went away while its delivery was recorded, and that is said again first",
            hint="ask once more when `inboxd status` no longer calls the ledger away",
        )


def _must_not_be_held(file: InboxFile, work_fd: int) -> None:
    if look(work_fd, file.work_name) is not None:
        raise UsageError(
            f"{file.id} is on its way already: it lies in work/, and is run once the ledger can be written",
            hint="`inboxd status` tells what is away; a start of the daemon finishes it as well",
        )
