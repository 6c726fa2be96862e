"""All folders made at start, and the preconditions of the promise checked: refused in words, never assumed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from inboxd.beneath import opened
from inboxd.config.models import FOLDERS, Config, FolderName, Inbox
from inboxd.custody import disk
from inboxd.errors import PreconditionError
from inboxd.intake import mounts
from inboxd.model import new_id

#: Folders that a file's renames lead through; they must be on one mount.
_JOINED: tuple[FolderName, ...] = ("inbound", "work", "processed", "errors", "quarantine", "outbound")


def make(config: Config) -> None:
    """Make the state folder and the seven folders of every inbox. Raises PreconditionError, DiskError."""
    disk.make_folder(config.state, 0o700)
    for inbox in config.inboxes.values():
        for which in FOLDERS:
            private = which in ("work", "incoming")
            disk.make_folder(inbox.folder(which), 0o700 if private else None)


def check(config: Config) -> None:
    """Refuse what would break the promise: foreign or open state, several mounts, renames that fail."""
    problems = [problem for problem in _problems(config) if problem]
    if problems:
        raise PreconditionError("\n".join(problems))


def _problems(config: Config) -> Iterator[str]:
    yield _private(config.state)
    if config.ledger_url.startswith("sqlite") and mounts.is_network(config.state):
        yield (
            f"{config.state}: a SQLite ledger can't live on a network file system (its log needs shared memory); "
            "move `state` to a local disk, or use a PostgreSQL ledger"
        )
    seen: dict[tuple[int, int], str] = {}
    for name, inbox in config.inboxes.items():
        yield _private(inbox.folder("work"))
        yield from _on_one_mount(name, inbox)
        yield from _own_folders(name, inbox, seen)


def _private(folder: Path) -> str:
    """Ours, and closed to others."""
    found = os.stat(folder)
    if found.st_uid != os.geteuid():
        return f"{folder} belongs to uid {found.st_uid}, inboxd runs as uid {os.geteuid()}; run `chown` on it"
    return (
        f"{folder} is open to others (mode {found.st_mode & 0o777:o}); run `chmod 700` on it"
        if found.st_mode & 0o077
        else ""
    )


def _on_one_mount(name: str, inbox: Inbox) -> Iterator[str]:
    inbound = inbox.folder("inbound")
    for which in _JOINED[1:]:
        folder = inbox.folder(which)
        if not mounts.same_mount(inbound, folder):
            yield (
                f"inbox {name}: {folder} ({which}) is not on the mount of {inbound}: no file can be renamed into it. "
                "Put all folders of an inbox below one mount (under systemd: one ReadWritePaths= parent)"
            )
            return
    yield _probe(name, inbound, inbox.folder("work"))


def _probe(name: str, inbound: Path, work: Path) -> str:
    """Really rename an entry back and forth."""
    probe = f".inboxd-rename-{new_id()}"
    with opened(inbound) as inbound_fd, opened(work) as work_fd:
        try:
            disk.write_new(inbound_fd, probe, b"")
            disk.rename_new(inbound_fd, probe, work_fd, probe)
            disk.rename_new(work_fd, probe, inbound_fd, probe)
        except OSError as error:
            return (
                f"inbox {name}: a file can't be renamed between {inbound} and {work}: {error.strerror}; "
                "inboxd needs write access to both, and no sticky bit on inbound"
            )
        finally:
            for fd in (inbound_fd, work_fd):
                with contextlib.suppress(OSError):
                    os.unlink(probe, dir_fd=fd)
    return ""


def _own_folders(name: str, inbox: Inbox, seen: dict[tuple[int, int], str]) -> Iterator[str]:
    """No folder serves two purposes, whatever its paths say: compared by device and inode."""
    for which in FOLDERS:
        found = os.stat(inbox.folder(which))
        place, purpose = (found.st_dev, found.st_ino), f"{which} of inbox {name}"
        if place in seen:
            yield f"{inbox.folder(which)} is {purpose} and {seen[place]} at once; give each its own folder"
        seen[place] = purpose
