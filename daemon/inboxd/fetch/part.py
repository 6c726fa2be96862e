"""incoming/<id>.part: the only way a source's bytes get onto our disk. Bounded in size and time, hashed, resumable.

Beside it stands PART.from: which version of the item the bytes are of, and the boot they were written in. Bytes of
another boot are never gone on from: after a power cut they may not be what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inboxd.clock import boot
from inboxd.fetch.errors import Away, TooLarge, Unfit

_BLOCK = 1 << 20  # bytes read at once
_WINDOW = 60.0  # seconds over which the speed is looked at
_TELL = 1.0  # seconds between two words about the progress


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an item may take. Sizes in bytes of content, spans in seconds."""

    max_size: int
    total: float
    min_speed: int = 0  # bytes per second; 0 for any
    durable: bool = True


def _silent(_size: int) -> None:
    return None


class Part:
    """One item on its way in. `size` bytes of it are here; `validator` says of which version they are."""

    def __init__(self, path: str, bounds: Bounds, tell: Callable[[int], None] = _silent) -> None:
        """Opens what an earlier try has left, if it can be gone on from. `tell`: the size, about once a second."""
        self._path = path
        self._bounds = bounds
        self._tell = tell
        self._began = self._told = self._window = time.monotonic()
        self._in_window = 0
        self._announced: list[str] = []
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        self.validator = _read_origin(path)
        self.size = self.resumed = os.fstat(self._file.fileno()).st_size
        if not self.validator or self.size > bounds.max_size:
            self.restart("")

    def restart(self, validator: str) -> None:
        """Forget what is here; what comes now is of the version `validator`. "": it can't be gone on from later."""
        self._file.seek(0)
        self._file.truncate(0)
        self.size = self.resumed = 0
        self.validator = validator
        self._announced = []
        _write_origin(self._path, validator)

    def announce(self, digest: str) -> None:
        """What the source says beside the bytes that they must come to, as for finish(); holds until restart()."""
        self._announced.append(digest)

    @property
    def deadline(self) -> float:
        """Monotonic seconds when the item has had long enough."""
        return self._began + self._bounds.total

    def write(self, data: bytes) -> None:
        """Append. Raises TooLarge, and Away when it takes too long; OSError when the disk does not take it."""
        if self.size + len(data) > self._bounds.max_size:
            raise TooLarge(f"it is larger than max_size ({self._bounds.max_size} bytes)")
        left = memoryview(data)
        self._file.seek(self.size)
        while left:
            written = self._file.write(left)
            self.size += written
            left = left[written:]
        self._check_pace(len(data))

    def _check_pace(self, count: int) -> None:
        now = time.monotonic()
        if now > self.deadline:
            raise Away(f"it took longer than {self._bounds.total:g} s (timeout.total)")
        self._in_window += count
        if now - self._window >= _WINDOW:
            speed = self._in_window / (now - self._window)
            if speed < self._bounds.min_speed:
                raise Away(f"{speed:.0f} bytes per second are slower than min_speed ({self._bounds.min_speed})")
            self._window, self._in_window = now, 0
        if now - self._told >= _TELL:
            self._told = now
            self._tell(self.size)

    def finish(self, size: int | None, digest: str) -> dict[str, Any]:
        """Verify, make durable, and say what came. `size`, `digest` ("sha256:…", "md5:…"): as announced, if at all.

        Raises Unfit, and forgets the bytes: they are not what was announced.
        """
        if size is not None and size != self.size:
            raise self._unfit(f"{self.size} bytes came, {size} were announced")
        promises = [one.partition(":")[::2] for one in (digest, *self._announced) if one]
        found = self._digests({"sha256", *(kind for kind, _ in promises)})
        for kind, wanted in promises:
            if found[kind] != wanted.lower():
                raise self._unfit(f"its {kind} is {found[kind]}, {wanted} was announced")
        if self._bounds.durable:
            os.fsync(self._file.fileno())
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_origin(self._path))
        return {"size": self.size, "sha256": found["sha256"], "resumed": self.resumed}

    def _unfit(self, words: str) -> Unfit:
        self.restart("")
        return Unfit(words)

    def _digests(self, kinds: set[str]) -> dict[str, str]:
        hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            for one in hashes.values():
                one.update(block)
        return {kind: one.hexdigest() for kind, one in hashes.items()}

    def close(self) -> None:
        """Give the descriptor back. What is here stays for the next try."""
        self._file.close()


def _origin(path: str) -> str:
    return path + ".from"


def _read_origin(path: str) -> str:
    try:
        found = json.loads(Path(_origin(path)).read_bytes())
        return str(found["validator"]) if found["boot"] == boot() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_origin(path: str, validator: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_origin(path))
    if validator:
        text = json.dumps({"validator": validator, "boot": boot()})
        fd = os.open(_origin(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as stream:
            stream.write(text)
