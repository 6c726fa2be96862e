"""work/ of one inbox: open, and locked against other daemons, for as long as somebody here holds it.

Files are renamed into and out of it through one descriptor, whose number stays the same for life. When a disk has gone
and come back, the path leads to the same folder through another mount; a rename between mounts fails (rename(2),
EXDEV), so the folder is opened anew behind that number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from inboxd.beneath import FOLDER, identity_of
from inboxd.errors import AlreadyRunning

_held: dict[Path, WorkFolder] = {}
_holding = threading.Lock()


class WorkFolder:
    """Made by `hold`, given back by `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users = 0
        self.fd = os.open(path, FOLDER)
        try:
            self.identity = identity_of(self.fd)
            _lock(self.fd, path)
        except (AlreadyRunning, OSError):
            os.close(self.fd)
            raise

    def release(self) -> None:
        """One user less; the last one closes it."""
        with _holding:
            self.users -= 1
            if not self.users:
                del _held[self.path]
                os.close(self.fd)

    def is_home(self) -> bool:
        """The path leads to what is open here."""
        try:
            fd = os.open(self.path, FOLDER)
        except OSError:
            return False
        try:
            return identity_of(fd) == self.identity
        except OSError:  # its disk has gone meanwhile, or no descriptor is left to look with
            return False
        finally:
            os.close(fd)

    def may_be_written(self) -> bool:
        """We may rename into it."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self.fd, effective_ids=True)

    def why_away(self, *, anything: bool = False) -> str:
        """Why the path does not lead to this folder; "" when it does, if need be after opening it anew.

        Another folder is another one, whatever its name: only with `anything`, when nothing is held that would have to
        be in it, one on the same mount is taken up in its place.
        """
        try:
            fd = os.open(self.path, FOLDER)
        except OSError as error:
            return error.strerror or str(error)
        try:
            found = identity_of(fd)
            same = (found.dev, found.ino) == (self.identity.dev, self.identity.ino)
            if not same and found.dev != self.identity.dev:
                return "another file system is in its place; bring back the old one, or restart inboxd to use this one"
            if not same and not (anything and found.mount == self.identity.mount):
                return "another folder is in its place; bring back the old one, or restart inboxd to use this one"
            if found != self.identity:
                self._lead_to(fd)
                self.identity = found
        except AlreadyRunning as error:
            return error.message
        except OSError as error:  # likewise
            return error.strerror or str(error)
        finally:
            os.close(fd)
        return ""

    def _lead_to(self, fd: int) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)  # the lock is the inode's: the new opening can't have it besides
        _lock(fd, self.path)
        os.dup2(fd, self.fd, inheritable=False)


def hold(path: Path) -> WorkFolder:
    """The work/ at `path`; one that is held already is shared, as by the two lanes of an inbox during a reload.

    Raises AlreadyRunning when another daemon holds it, OSError.
    """
    with _holding:
        folder = _held.get(path) or _held.setdefault(path, WorkFolder(path))
        folder.users += 1
        return folder


def _lock(fd: int, path: Path) -> None:
    """flock(2); no child inherits it, since the descriptor is closed by exec. NFS can't lock folders: none there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(fd)
        if holder == os.getpid():  # named through a link by another inbox's rules, for the moment of a reload
            return
        who = f"another inboxd (pid {holder})" if holder else "another inboxd"
        raise AlreadyRunning(
            f"{who} holds {path}",
            hint="stop it, or give this one folders of its own; two would take each other's files",
        ) from None
    except OSError:
        return


def _holder(fd: int) -> int:
    """The pid that has the lock; 0 where the kernel does not tell (proc_locks(5))."""
    found = os.fstat(fd)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if fields[1] == "FLOCK" and place in fields:
                return max(0, int(fields[fields.index(place) - 1]))
    return 0
