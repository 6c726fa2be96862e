"""System calls of the real daemon that fail, or are its last: shim.c, preloaded, and the switch to it.

    shim = Shim(folder, "rename", "EIO", paths=f"{site.base}/*")
    with run_daemon(site.config, shim.env) as daemon:
        shim.strike(shim.counted + 7)  # the seventh from now on, once
        shim.strike(1, EVER)           # each from now on ...
        shim.lift()                    # ... until now

Compiled once for each version of it, by gcc, into the temporary folder.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import mmap
import os
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

#: Whose calls count: the command line has this.
DAEMON = "inboxd run"
WORKERS = "inboxd.work"
_FIELDS = struct.Struct("QQQQ")  # shim.c, struct control
EVER = 2**63


@functools.cache
def compiled(name: str) -> Path:
    """The shared object made of a C file beside this one."""
    source = Path(__file__).with_name(name)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"inboxd-{source.stem}-{os.getuid()}-{digest}.so"
    if not made.exists():
        draft = made.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", draft, source], check=True)
        draft.rename(made)
    return made


class Call(NamedTuple):
    """A line of the shim's log."""

    pid: int
    call: str
    path: str
    became: str  # "ok", "kill", "hang", or the errno that was put in its place


class Shim:
    """One set of calls and what becomes of those that are struck; the count goes on over many lives of the daemon."""

    def __init__(
        self, folder: Path, calls: str, action: str, *, paths: str = "*", command: str = DAEMON, log: bool = False
    ) -> None:
        """`calls`: families (shim.c) between commas; `action`: a name of errno, "kill", "torn" or "hang"; `paths`: fnmatch(3)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.kills = action in ("kill", "torn")
        self._log = folder / "shim.log"
        place = folder / "shim.control"
        place.write_bytes(bytes(_FIELDS.size))
        with place.open("r+b") as stream:
            self._control = mmap.mmap(stream.fileno(), _FIELDS.size)
        self.env = {
            "LD_PRELOAD": str(compiled("shim.c")),
            "INBOXD_SHIM_CONTROL": str(place),
            "INBOXD_SHIM_CALLS": calls,
            "INBOXD_SHIM_ACTION": str(getattr(errno, action, action)),
            "INBOXD_SHIM_PATHS": paths,
            "INBOXD_SHIM_COMMAND": command,
            **({"INBOXD_SHIM_LOG": str(self._log)} if log else {}),
        }

    @property
    def counted(self) -> int:
        """Calls so far."""
        return _FIELDS.unpack(self._control)[0]

    @property
    def struck(self) -> int:
        """Of them, those that failed or killed."""
        return _FIELDS.unpack(self._control)[3]

    def strike(self, first: int, length: int = 1) -> None:
        """So many calls from number `first` on; EVER: until it is lifted."""
        struct.pack_into("QQ", self._control, 8, first, min(first + length, 2**64) - 1)

    def lift(self) -> None:
        """None any more."""
        struct.pack_into("QQ", self._control, 8, 0, 0)

    def calls(self) -> list[Call]:
        """The log."""
        lines = self._log.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]
        heads = [line.split(" ", 2) for line in lines]
        return [Call(int(pid), call, *rest.rsplit(" ", 1)) for pid, call, rest in heads]
