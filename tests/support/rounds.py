"""Loads dropped one after the other into one installation, while its daemon's system calls are struck (shim.py)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from support.daemon import Daemon
from support.faults import scale
from support.site import Site
from support.sound import assert_sound
from support.wait import wait_until

CALLS = "rename,sync,write,open,unlink,mkdir,read,truncate"
MAKING = "rename,sync,write,open,mkdir,truncate"  # calls that may need room
_MOST = 2000  # calls that one round may need


def all_of(site: Site) -> str:
    """The paths of state folder and inboxes: not of the log, which would have no words for its own end."""
    return f"{site.base}/[is]*"


class Rounds:
    """Loads dropped one after the other into one installation."""

    def __init__(self, site: Site) -> None:
        site.write(durability="full", rescan="1s")
        self.site = site
        self._number = self._links = 0

    def drop(self) -> None:
        """Something for every step: successes, failures, results, a name that is taken, a symbolic link."""
        self._number += 1
        mark = f"r{self._number}"
        for name in ("ok", "also", "reject", "fail", "fail-1", "results", "sleep-0_02"):
            self.site.drop(f"{name}-{mark}.dat", f"{name} {mark}".encode())
        self.site.drop("same.dat", mark.encode())
        if self._number % 3 == 1:  # a second passes before it goes its way
            draft = self.site.root() / "inbound" / ".link.part"
            os.symlink("/etc/hostname", draft)
            draft.rename(draft.with_name(f"link-{mark}"))
            self._links += 1

    def finished(self) -> bool:
        return self.site.finished() >= len(self.site.manifest) + self._links

    def recorded(self) -> bool:
        """... and the ledger says so."""
        with contextlib.closing(sqlite3.connect(f"file:{self.site.state}/ledger.sqlite?mode=ro", uri=True)) as ledger:
            ((unfinished,),) = ledger.execute("SELECT count(*) FROM files WHERE open = 1")
        return self.finished() and not unfinished

    def finish(self, daemon: Daemon) -> None:
        """All has come to its end, and the checker has nothing to say."""
        wait_until(lambda: self.recorded() or daemon.process.poll() is not None, "every file's end", every=0.02)
        assert daemon.process.poll() is None
        assert_sound(self.site, finished=True, daemon=daemon.pid)


def spread(*ci: int) -> Iterator[int]:
    """1, 2, 3, … for the full form; for CI these."""
    yield from range(1, _MOST) if scale(0, 1) else ci
