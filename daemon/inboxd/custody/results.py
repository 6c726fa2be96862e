"""What a handler left: into outbound/; but first, while destinations are to have some of it, it stays in work/.

Everything here is done again when we die on the way, and doing it twice is harmless: what is kept is found again in the
results folder, and what has gone to outbound/ is there no more.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from inboxd.beneath import FOLDER, look, open_up, opened, writable
from inboxd.clock import Clock
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.model import new_id, results_name
from inboxd.sends import Send, SendState

#: The name of a result -> the destinations that are to have it.
Bound = Callable[[str], Sequence[str]]


class Results:
    """Of one inbox."""

    def __init__(
        self, inbox: str, outbound: Path, work_fd: int, bound: Bound | None, clock: Clock, *, keep: bool
    ) -> None:  # fmt: skip
        """`bound`: None where there are no destinations. `keep`: what all destinations have appears in outbound/; else
        it is removed.
        """
        self._inbox = inbox
        self._outbound = outbound
        self._work_fd = work_fd
        self._bound = bound
        self._clock = clock
        self._keep = keep

    def sync(self) -> None:
        """Make durable what handlers have left so far: one syncfs(2). A failure is never retried on the same data."""
        disk.sync_all(self._work_fd)

    def place(self, file_id: str) -> list[Send] | None:
        """Bring to outbound/ what no destination is to have. Returns what is to be sent; None if it left nothing."""
        found = look(self._work_fd, results_name(file_id))
        if found is None or not stat.S_ISDIR(found.st_mode):
            return None
        sends = list(self._sends(file_id, self._bound)) if self._bound else []
        self._publish(file_id, {send.name.partition("/")[0] for send in sends})
        if not sends:
            disk.drop(self._work_fd, results_name(file_id))
        return sends

    def _sends(self, file_id: str, bound: Bound) -> Iterator[Send]:
        now = self._clock.time()
        for name, size in self._regular_files(results_name(file_id)):
            for destination in bound(name):
                yield Send(new_id(now), file_id, destination, name, self._inbox, size, due_at=now)

    def _regular_files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Path below the folder, and size. The handler's modes are not ours to stumble on: all is made ours to read."""
        open_up(self._work_fd, folder)
        for root, folders, names, fd in os.fwalk(folder, dir_fd=self._work_fd, follow_symlinks=False):
            folders.sort()
            for name in sorted(names):
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    if not found.st_mode & stat.S_IRUSR:
                        os.chmod(name, stat.S_IMODE(found.st_mode) | stat.S_IRUSR, dir_fd=fd)
                    yield os.path.relpath(os.path.join(root, name), folder), found.st_size

    def _publish(self, file_id: str, kept: Collection[str] = ()) -> None:
        folder = results_name(file_id)
        with (
            writable(self._work_fd, folder),
            opened(self._outbound) as outbound_fd,
            _folder(self._work_fd, folder) as results_fd,
        ):
            for name in sorted(set(os.listdir(results_fd)).difference(kept)):
                with writable(results_fd, name):
                    _move(results_fd, name, outbound_fd, file_id)
                failpoint("deliver.results")

    def finish(self, file_id: str, sends: Collection[Send]) -> None:
        """All that was to be sent of its results has come to an end. What was never sent is never removed."""
        folder = results_name(file_id)
        if look(self._work_fd, folder) is None:
            return
        if not self._keep:
            self._remove_sent(folder, sends)
        self._publish(file_id)
        failpoint("send.finished")
        disk.drop(self._work_fd, folder)

    def _remove_sent(self, folder: str, sends: Collection[Send]) -> None:
        """But not what one of its destinations has not, nor what lies beside it and was for none."""
        unsent = {send.name for send in sends if send.state is not SendState.SENT}
        for name in {send.name for send in sends} - unsent:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name), dir_fd=self._work_fd)
        for _root, folders, _names, fd in os.fwalk(folder, topdown=False, dir_fd=self._work_fd, follow_symlinks=False):
            for name in folders:
                with contextlib.suppress(OSError):  # something is left in it, or it is a link
                    os.rmdir(name, dir_fd=fd)


def _move(from_fd: int, name: str, to_fd: int, file_id: str) -> None:
    """By rename. What is in a folder that is there already goes into that one; any other name that is taken is told
    apart by the end of the file's id.
    """
    try:
        disk.rename_new(from_fd, name, to_fd, name)
    except FileExistsError:
        if _is_folder(from_fd, name) and _is_folder(to_fd, name) and _may_fill(to_fd, name):
            _merge(from_fd, name, to_fd, file_id)
        else:
            disk.rename_new(from_fd, name, to_fd, disk.with_tag(name, file_id[-8:]))


@contextlib.contextmanager
def _folder(parent_fd: int, name: str) -> Iterator[int]:
    fd = os.open(name, FOLDER, dir_fd=parent_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_folder(folder_fd: int, name: str) -> bool:
    found = look(folder_fd, name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _may_fill(folder_fd: int, name: str) -> bool:
    """Not one that a handler, or somebody else, has closed."""
    return os.access(name, os.W_OK | os.X_OK, dir_fd=folder_fd, effective_ids=True)


def _merge(from_fd: int, name: str, to_fd: int, file_id: str) -> None:
    open_up(from_fd, name)
    with _folder(from_fd, name) as source_fd, _folder(to_fd, name) as target_fd:
        for entry in sorted(os.listdir(source_fd)):
            _move(source_fd, entry, target_fd, file_id)
    os.rmdir(name, dir_fd=from_fd)
