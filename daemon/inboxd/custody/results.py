"""What a handler left: into outbound/; but first, while destinations are to have some of it, it stays in work/.

Everything here is done again when we die on the way, and doing it twice is harmless: what is kept is found again in the
results folder, and what has gone to outbound/ is there no more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from inboxd.beneath import look, open_up, opened, writable
from inboxd.clock import Clock
from inboxd.custody import disk
from inboxd.custody.failpoints import failpoint
from inboxd.model import new_id, results_name
from inboxd.sends import Send, SendState

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

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
        """Path below the folder, and size. The handler's modes are not ours to stumble on."""
        open_up(self._work_fd, folder)
        for root, folders, names, fd in os.fwalk(folder, dir_fd=self._work_fd, follow_symlinks=False):
            folders.sort()
            for name in sorted(names):
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield os.path.relpath(os.path.join(root, name), folder), found.st_size

    def _publish(self, file_id: str, kept: Collection[str] = ()) -> None:
        folder = results_name(file_id)
        with writable(self._work_fd, folder), opened(self._outbound) as outbound_fd:
            results_fd = os.open(folder, _FOLDER, dir_fd=self._work_fd)
            try:
                for name in sorted(set(os.listdir(results_fd)).difference(kept)):
                    with writable(results_fd, name):
                        _move(results_fd, name, outbound_fd, file_id)
                    failpoint("deliver.results")
            finally:
                os.close(results_fd)

    def finish(self, file_id: str, sends: Collection[Send]) -> None:
        """All that was to be sent of its results has come to an end. What was never sent is never removed."""
        folder = results_name(file_id)
        if look(self._work_fd, folder) is None:
            return
        if self._keep or any(send.state is not SendState.SENT for send in sends):
            self._publish(file_id)
        failpoint("send.finished")
        disk.drop(self._work_fd, folder)


def _move(results_fd: int, name: str, outbound_fd: int, file_id: str) -> None:
    try:
        disk.rename_new(results_fd, name, outbound_fd, name)
    except FileExistsError:
        disk.rename_new(results_fd, name, outbound_fd, disk.with_tag(name, file_id[-8:]))
