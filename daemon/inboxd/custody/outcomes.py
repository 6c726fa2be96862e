"""What runs came to while the ledger was away: state/outcomes.log, so that none is repeated if the daemon dies then.

One line per report: its length and its CRC-32 in hexadecimal, then JSON. Each turn appends what has come in and syncs
it; the log is removed when the ledger knows. A line that was torn, by a death or by a full disk, is ignored: its run is
repeated, as it would be without a log. Reading it twice is harmless, since each line names the run that it speaks of.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from inboxd.custody.failpoints import failpoint
from inboxd.model import Ending, InboxFile, Report
from inboxd.syncing import sync


class Run(NamedTuple):
    """What tells one run of a file from every other."""

    file_id: str
    batch: str | None
    attempt: int

    @classmethod
    def of(cls, file: InboxFile) -> Run:
        """The run that a RUNNING record speaks of."""
        return cls(file.id, file.batch, file.attempts)


class Outcomes:
    """The log of one daemon. `keep` and `clear` belong to the pipeline's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._is_owed = False

    def keep(self, ended: Iterable[tuple[Run, Report]]) -> str:
        """Append these, durably. Where they can't be written: what that means, in words; else ""."""
        lines = b"".join(_line(run, report) for run, report in ended)
        if not lines:
            return ""
        try:
            self._append(lines)
            failpoint("decide.kept")
        except OSError as error:
            return f"finished runs can't be kept in {self._path} ({error.strerror}), and are repeated if we die"
        return ""

    def _append(self, lines: bytes) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _sync_folder(self._path.parent)
        rest = memoryview(b"\n" + lines)  # what was torn before must not reach into these
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        sync(self._fd)

    def clear(self) -> None:
        """The ledger knows: nothing is kept any more, but for others. What can't be removed does no harm."""
        if not self._is_owed:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.close()

    def owe(self) -> None:
        """It speaks of runs of inboxes that the configuration has no longer: it stays until a start that has them."""
        self._is_owed = True

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_open(self) -> bool:
        """Something was kept since the last `clear`."""
        return self._fd >= 0

    def read(self) -> dict[Run, Report]:
        """What a dead daemon has kept. Raises OSError."""
        try:
            return dict(filter(None, map(_read, self._path.read_bytes().split(b"\n"))))
        except FileNotFoundError:
            return {}


def _line(run: Run, report: Report) -> bytes:
    body = json.dumps([*run, *report], separators=(",", ":")).encode("ascii")
    return b"%08x %08x %s\n" % (len(body), zlib.crc32(body), body)


def _read(line: bytes) -> tuple[Run, Report] | None:
    """None for a line that is torn, or not ours."""
    body = line[18:]
    try:
        if (int(line[:8], 16), int(line[9:17], 16)) != (len(body), zlib.crc32(body)):
            return None
        file_id, batch, attempt, reported, ending, *rest = json.loads(body)
        return Run(file_id, batch, attempt), Report(reported, Ending(ending), *rest)
    except (ValueError, TypeError):
        return None


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)
