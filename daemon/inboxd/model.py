"""The frozen records that pass between the parts of the daemon.

Names and folders are `str` with surrogate escapes (os.fsdecode), so any byte a file system allows survives;
the ledger keeps them as bytes.
"""

from __future__ import annotations

import os
import re
import threading
import time
from enum import StrEnum
from typing import Any, NamedTuple

_LONGEST_EXTENSION = 16  # characters
_TWIN = re.compile(r"its content was processed before, as ([0-9a-f]{32}) ")


class State(StrEnum):
    """The states of a file; lifecycle.py says who brings a file here and who takes it away."""

    CLAIMING = "CLAIMING"
    CLAIMED = "CLAIMED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    DECIDED = "DECIDED"
    DONE = "DONE"
    ABANDONED = "ABANDONED"
    LOST = "LOST"


class Outcome(StrEnum):
    """Where a file ends: the word in the ledger and the name of the folder kind."""

    PROCESSED = "processed"
    ERROR = "error"
    QUARANTINE = "quarantine"


class Ending(StrEnum):
    """How one run of one file ended; what a report says."""

    PROCESSED = "processed"  # the handler returned, or its command exited 0
    REJECTED = "rejected"  # Reject, or exit 65: final
    RETRY = "retry"  # Retry, or exit 75: later
    FAILED = "failed"  # any other exception or exit code
    CRASHED = "crashed"  # its worker died in the middle of it
    TIMED_OUT = "timed out"  # it ran longer than workers.timeout and was killed
    MISSING = "missing"  # it was not in work/ when a worker came to it, so somebody else has removed it
    INPUT_CHANGED = "input changed"  # the handler removed or replaced its input
    RELEASED = "released"  # never begun, cut off by a stop, or of a batch that is halved: given back without blame
    UNAVAILABLE = "unavailable"  # what the run needs was away: a database, the disk, room, descriptors; nobody's fault
    BROKEN = "broken"  # the handler can't be loaded or its command can't be started: a configuration fault
    DONE = "done"  # an errand at a source worked; `result` says what came of it
    HASHED = "hashed"  # a hash order: `result` holds {"sha256": …} or {"md5": …}
    COPIED = "copied"  # a copy order: the copy is whole; `result` may hold its {"sha256": …}


_last_id = 0
_ids = threading.Lock()


def new_id(now: float | None = None) -> str:
    """A UUID version 7 (RFC 9562, 5.7) as 32 hexadecimal digits: unique, and in the order of `now` (seconds).

    Within one process and one millisecond each is above the one before: files claimed in order stay in order.
    """
    global _last_id
    milliseconds = int((time.time() if now is None else now) * 1000) & 0xFFFF_FFFF_FFFF
    with _ids:
        if _last_id >> 74 == milliseconds:
            _last_id += 1
        else:
            _last_id = milliseconds << 74 | int.from_bytes(os.urandom(10), "big") >> 6
        value = _last_id
    version, variant = 0x7 << 76, 0b10 << 62
    return f"{value >> 74 << 80 | version | (value >> 62 & 0xFFF) << 64 | variant | value & 0x3FFF_FFFF_FFFF_FFFF:032x}"


class Sighting(NamedTuple):
    """A file seen in an inbox, as lstat(2) showed it; nothing is promised about it yet."""

    inbox: str
    folder: str  # below inbound/, "" for inbound/ itself
    name: str
    dev: int
    ino: int
    size: int
    mtime_ns: int
    regular: bool = True
    links: int = 1
    sha256: str | None = None  # set when a settle policy verified the content
    companions: tuple[str, ...] = ()  # marker or checksum files beside it that go when it is claimed

    @property
    def key(self) -> tuple[str, str]:
        """What tells two sightings of one inbox apart."""
        return (self.folder, self.name)

    def same_content(self, other: Sighting) -> bool:
        """Nothing lstat shows has changed between the two."""
        return (self.dev, self.ino, self.size, self.mtime_ns) == (
            other.dev,
            other.ino,
            other.size,
            other.mtime_ns,
        )


class InboxFile(NamedTuple):
    """A file we hold, or mean to hold: one row of the ledger.

    A tuple, since a file goes through four records on its way: a frozen dataclass costs three times as much to replace.
    """

    id: str
    inbox: str
    folder: str
    name: str
    dev: int
    ino: int
    size: int
    mtime_ns: int
    state: State = State.CLAIMING
    batch: str | None = None  # the batch it last ran in
    attempts: int = 0  # starts of the handler, bounded by max_attempts
    failures: int = 0  # failures laid to the file, bounded by max_failures
    not_before: float = 0.0  # wall clock seconds; WAITING ends then
    claimed_at: float = 0.0  # wall clock seconds
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome | None = None
    reason: str | None = None  # a short stable word: "rejected", "crashed", "too many failures", …
    message: str | None = None
    destination: str | None = None  # relative to the outcome's folder, fsdecoded, layout and folder included
    result: dict[str, Any] | None = None
    sha256: str | None = None
    source: str | None = None
    companions: tuple[str, ...] = ()
    copied: bool = False  # in this life of the daemon, into a file of our own; the ledger does not know

    @property
    def below(self) -> str:
        """Its name below inbound/, folder included: what it is called before people."""
        return os.path.join(self.folder, self.name)

    @property
    def part_name(self) -> str:
        """Its only name in incoming/, if it came from a source."""
        return self.id + ".part"

    @property
    def work_name(self) -> str:
        """Its only name in work/: the id, and the uploaded extension where that is harmless."""
        name = self.name
        dot = name.rfind(".", -1 - _LONGEST_EXTENSION)
        extension = name[dot + 1 :]
        harmless = dot >= 0 and extension.isascii() and extension.isalnum()
        return f"{self.id}.{extension.lower()}" if harmless else self.id

    @property
    def results_name(self) -> str:
        """Below work/, the folder where its handler may leave results."""
        return results_name(self.id)

    @property
    def copy_name(self) -> str:
        """Its copy in work/, until that takes its place."""
        return copy_name(self.id)


#: How the names of entries in work/ end that are no claimed files. An extension is never of this form.
BESIDES = ("-copy", "-unsynced", ".error.json")

#: The folder in work/ that holds what handlers leave. A look for what is not there, among files that are being renamed,
#: makes each rename wait (measured: 20 -> 50 us), so results have a folder of their own.
RESULTS = "results"


def called_twin(twin: InboxFile) -> str:
    """The message of a duplicate."""
    return f"its content was processed before, as {twin.id} ({twin.name})"


def twin_of(duplicate: InboxFile) -> str | None:
    """The id in that message."""
    found = _TWIN.match(duplicate.message or "")
    return found[1] if found else None


def is_beside(name: str) -> bool:
    """An entry of work/ that is no claimed file."""
    return name == RESULTS or name.endswith(BESIDES)


def results_name(file_id: str) -> str:
    """Below work/, the folder where the handler of this file may leave results."""
    return f"{RESULTS}/{file_id}"


def copy_name(file_id: str) -> str:
    """The file in work/ that a worker copies this file into."""
    return file_id + "-copy"


def unsynced_name(file_id: str) -> str:
    """The empty file in work/ that says: the bytes of this file could not be synced."""
    return file_id + "-unsynced"


class Failure(NamedTuple):
    """One failed attempt, as the ledger and the error sidecar tell it."""

    file_id: str
    attempt: int
    at: float  # wall clock seconds
    seconds: float
    ending: Ending
    error_class: str = ""
    message: str = ""
    detail: str = ""  # traceback, or the tail of standard error
    charged: bool = True


class Report(NamedTuple):
    """What became of one file of an order; made by the worker, or by the supervisor for a dead one."""

    file_id: str
    ending: Ending
    seconds: float = 0.0
    result: dict[str, Any] | None = None
    after: float | None = None  # RETRY: seconds to wait, when the handler said so
    error_class: str = ""
    message: str = ""
    detail: str = ""
    begun: bool = True  # False: costs no attempt; not begun, or its batch is run again in halves
    output: str = ""  # tail of what a command printed
    results: bool = False  # something stands in its results folder
    pid: int = 0
    bisect: bool = False  # its whole batch failed, or its worker died, in one call: run it again in two halves


class Concluded(NamedTuple):
    """A file after its report: the new record, and the verb that writes it."""

    file: InboxFile
    verb: str  # "decide", "wait", "release" or "lose"
    failure: Failure | None = None
    delay: float = 0.0  # seconds; for "wait"
