"""The folders for what runs leave: made for a run, empty; looked into when it has ended."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from inboxd.beneath import SHORTAGES, remove_tree


class NoRoom(OSError):
    """There can be no empty folder for results: the disk of work/ or the machine has no more to give. No fault of the
    file.
    """


class ResultsFolders:
    """Those of one process. One that a program has left empty serves the next, for as long as an order lasts: a rename,
    where to remove a folder and to make the next takes ten times as long (0.2 to 0.5 ms on ext4, most of it waiting).
    """

    def __init__(self) -> None:
        self._spare = ""  # path of an empty folder
        self._lent = ""  # path of the one that the last program got
        self._fresh: _State | None = None  # how that was when it was made

    def make(self, path: str) -> None:
        """There is a folder now. Raises NoRoom, OSError."""
        _make(path)

    def lend(self, path: str) -> None:
        """The same for a program, of which nothing is left when its run has ended that could still write there."""
        if not self._take_spare(path) and _make(path):
            self._fresh = _state(path)
        self._lent = path

    def has(self, path: str) -> bool:
        """The run left something; a folder that stayed empty does not stay here. Raises OSError."""
        if not (path and os.path.lexists(path)):
            return False
        if path == self._lent and self._keep(path):
            return False
        return _is_left(path)

    def clear(self, path: str) -> None:
        """What an earlier run, or one that failed, has left is nobody's result. Raises NoRoom, OSError."""
        try:
            os.rmdir(path)  # takes no descriptor, of which there may be none
        except FileNotFoundError:
            return
        except OSError:
            with _no_room(path):
                remove_tree(None, path)

    def tidy(self) -> None:
        """The order is done: nothing of it stays. What can't be removed is, at the next start of the daemon."""
        spare, self._spare = self._spare, ""
        if spare:
            with contextlib.suppress(OSError):
                os.rmdir(spare)

    def _take_spare(self, path: str) -> bool:
        if os.path.dirname(self._spare) != os.path.dirname(path):
            return False
        try:
            os.rename(self._spare, path)
        except OSError:  # it has gone, or something is at `path`
            self.tidy()
            return False
        self._spare = ""
        return True

    def _keep(self, path: str) -> bool:
        """It is empty, and as good as new."""
        try:
            if self._spare or _state(path) != self._fresh or os.listdir(path):
                return False
        except OSError:  # nothing to look into: what that means is said elsewhere
            return False
        self._spare = path
        return True


def _make(path: str) -> bool:
    """False when it was there."""
    with _no_room(path):
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return False
        except FileNotFoundError:  # a new folder has taken the place of work/; where there is none, its disk has gone
            os.mkdir(os.path.dirname(path))
            os.mkdir(path)
    return True


@contextlib.contextmanager
def _no_room(path: str) -> Iterator[None]:
    """A shortage is said as what it means here."""
    try:
        yield
    except OSError as error:
        if error.errno in SHORTAGES:
            raise NoRoom(error.errno, error.strerror, path) from error
        raise


_State = tuple[int, int, int, tuple[str, ...]]


def _state(path: str) -> _State:
    found = os.lstat(path)
    return found.st_mode, found.st_uid, found.st_gid, tuple(os.listxattr(path, follow_symlinks=False))


def _is_left(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # a handler has put something else in its place
        remove_tree(None, path)
        raise
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return True
        return bool(os.listdir(path))  # it can't be removed, which is no fault of the run
    return False
