"""Files that speak for another: `x.csv.done` says that x.csv is complete, `x.csv.sha256` what it must contain.

The companion is what we look for; the file it speaks for is looked up then. So files without one cost nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from inboxd.beneath import look, opened
from inboxd.config.models import Checksum, Inbox, Marker
from inboxd.intake.asking import Asking
from inboxd.intake.digests import digest_of, read_lines, why_wrong
from inboxd.model import Sighting

_LARGEST = 4096  # bytes of a checksum file


class Companions:
    """Of one inbox. `digest` is the kind of checksum, or "" for plain markers."""

    def __init__(self, root: Path, ending: str, digest: str, asking: Asking) -> None:
        self._root = root
        self._ending = ending
        self._digest = digest
        self._asking = asking

    def subject(self, name: str) -> str:
        """The file that this name speaks for, or the name itself."""
        return name.removesuffix(self._ending) or name

    def consider(self, sighting: Sighting, fd: int | None) -> Sighting | None:
        """A file or a companion was seen; the complete file's sighting, if it is complete by that.

        It may have several names. `fd`, the open folder, comes with hints; a scan meets the companion by itself.
        """
        name = self.subject(sighting.name)
        if (name == sighting.name and fd is None) or self.subject(name) != name:
            return None  # met by its companion; or itself a companion
        try:
            with opened(self._root, sighting.folder) as folder_fd:
                file, companion = look(folder_fd, name), look(folder_fd, name + self._ending)
        except OSError:
            return None
        if file is None or companion is None or not _pair(file, companion):
            return None
        found = sighting._replace(
            name=name, dev=file.st_dev, ino=file.st_ino, size=file.st_size, mtime_ns=file.st_mtime_ns,
            links=file.st_nlink, companions=(name + self._ending,),
        )  # fmt: skip
        if not self._digest or found.links > 1:
            return found
        self._asking.ask(found, _state(found, companion))
        return None

    def beside(self, sighting: Sighting, found: os.stat_result, fd: int) -> tuple[str, ...]:
        """Names of what speaks for an entry that will be claimed without being complete: it must go with it."""
        name = sighting.name + self._ending
        companion = look(fd, name) if self.subject(sighting.name) == sighting.name else None
        return (name,) if companion is not None and _speaks_for(companion, found) else ()

    def hashed(self, sighting: Sighting, digest: str | None) -> Sighting | None:
        """The file's digest; the complete file's sighting if the checksum file says the same.

        "" when it can't be read; None when nobody has read it to its end, and it is to be asked for again.
        """
        if digest is None:
            self._asking.put_back(sighting)
            return None
        self._asking.was_read(sighting.key)
        try:
            with opened(self._root, sighting.folder) as fd:
                found = look(fd, sighting.companions[0])
                wanted = digest_of(sighting.name, read_lines(_text(fd, sighting.companions[0]), self._digest))
        except OSError:
            return None
        if found is not None and digest and digest == wanted:
            return sighting._replace(sha256=digest if self._digest == "sha256" else None)
        if found is not None:
            self._asking.note_wrong(sighting.key, _state(sighting, found) if digest else None)
        return None

    def explain(self, folder: str, name: str) -> str:
        """What a file with this policy waits for."""
        companion = self.subject(name) + self._ending
        if name == companion:
            return f"it speaks for {self.subject(name)}, and goes when that is claimed"
        if self._asking.is_unreadable((folder, name)):
            return "its content can't be read; it is tried again whenever the inbox is looked through"
        if self._asking.is_wrong((folder, name)):
            return self._explain_wrong(folder, name, companion)
        if (folder, name) in self._asking:
            return "its content is being compared with its checksum"
        if not os.path.lexists(self._root / folder / companion):
            return f"it waits for {companion}"
        return f"{companion} is there, but is no regular file of the same owner, or has not been seen yet"

    def _explain_wrong(self, folder: str, name: str, companion: str) -> str:
        try:
            with opened(self._root, folder) as fd:
                text = _text(fd, companion)
        except OSError as error:
            return f"{companion} can't be read: {error.strerror}"
        return why_wrong(name, companion, read_lines(text, self._digest), self._digest)


def _text(folder_fd: int, name: str) -> str:
    """What stands in a checksum file; "" of what is none. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    with os.fdopen(fd, "rb") as stream:
        text = stream.read(_LARGEST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    return text.decode("utf-8", "surrogateescape")


def _pair(file: os.stat_result, companion: os.stat_result) -> bool:
    """Both are regular, and of one owner: nobody speaks for another's file."""
    return stat.S_ISREG(file.st_mode) and _speaks_for(companion, file)


def _speaks_for(companion: os.stat_result, entry: os.stat_result) -> bool:
    return stat.S_ISREG(companion.st_mode) and companion.st_uid == entry.st_uid


def _state(file: Sighting, companion: os.stat_result) -> int:
    """A number for how the two are now."""
    beside = (companion.st_ino, companion.st_size, companion.st_mtime_ns)
    return hash((file.ino, file.size, file.mtime_ns, *beside))


def companions_of(rules: Inbox, asking: Asking) -> Companions | None:
    """Those of an inbox whose settle policy has any. `asking` hears of files whose content must be read for it."""
    root: Path = rules.folder("inbound")
    if isinstance(rules.settle, Marker):
        return Companions(root, rules.settle.marker, "", asking)
    if isinstance(rules.settle, Checksum):
        return Companions(root, "." + rules.settle.checksum, rules.settle.checksum, asking)
    return None
