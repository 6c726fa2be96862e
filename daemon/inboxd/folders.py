"""All folders made at start, and the preconditions of the promise checked: refused in words, never assumed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from inboxd import overlaps
from inboxd.beneath import opened
from inboxd.config.models import FOLDERS, Config, FolderName, Inbox
from inboxd.custody import disk, workfolder
from inboxd.custody.history import History
from inboxd.errors import AlreadyRunning, DiskError, PreconditionError
from inboxd.intake import mounts
from inboxd.model import RESULTS, new_id

_WORK_FOLDERS = "work-folders.json"
_PROBE = ".inboxd-rename-"  # the scan ignores what begins so (intake/match.py)

#: Folders that a file's renames lead through, they must be on one mount; and where items of sources come from.
_JOINED: tuple[FolderName, ...] = ("inbound", "work", "processed", "errors", "quarantine", "outbound")
_FETCHED: tuple[FolderName, ...] = ("incoming",)


def make(config: Config) -> None:
    """Make the state folder and the seven folders of every inbox, durably. Raises PreconditionError, OSError."""
    new = disk.make_folder(config.state, 0o700)
    for inbox in config.inboxes.values():
        for which in FOLDERS:
            private = which in ("work", "incoming")
            new += disk.make_folder(inbox.folder(which), 0o700 if private else None)
        new += disk.make_folder(inbox.folder("work") / RESULTS)
    if config.durability == "full":
        for parent in {folder.parent for folder in new}:
            with contextlib.suppress(PermissionError):  # it may be closed to us, at the top
                _sync(parent)


def _sync(parent: Path) -> None:
    """Also one that is reached by a link: what lies above our folders is the operator's."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def hold_state(state: Path) -> int:
    """One daemon per state folder: the descriptor of its lock, with our pid in it. Raises AlreadyRunning."""
    fd = os.open(state / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise AlreadyRunning(
            f"another inboxd (pid {holder}) holds {state}", hint="stop it, or give this one its own `state`"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def hold(config: Config) -> contextlib.ExitStack:
    """Every work/ locked, until the lanes hold theirs and this is closed. Raises AlreadyRunning, DiskError."""
    with contextlib.ExitStack() as held:
        for inbox in config.inboxes.values():
            work = inbox.folder("work")
            try:
                held.callback(workfolder.hold(work).release)
            except OSError as error:
                raise DiskError(f"{work}: {error.strerror}", errno=error.errno or 0, path=str(work)) from error
        return held.pop_all()


def check(config: Config) -> None:
    """Refuse what would break the promise: foreign or open state, several mounts, renames that fail."""
    problems = [problem for problem in _problems(config) if problem]
    if problems:
        raise PreconditionError("\n".join(problems))


def remember(config: Config) -> None:
    """Write down where each inbox holds its files, also those that the configuration has no longer."""
    known = {name: str(path) for name, path in _known(config.state).items()}
    known |= {name: str(inbox.folder("work")) for name, inbox in config.inboxes.items()}
    disk.write_over(config.state / _WORK_FOLDERS, json.dumps(known, indent=2))


def refuse_moved(config: Config, history: History) -> None:
    """Files in work/ go with neither another folder nor another name of their inbox. Raises PreconditionError.

    In another folder they would be looked for, and be called lost; by an inbox of another name, be run once more.
    """
    known, held = _known(config.state), history.holding()
    for name, inbox in config.inboxes.items():
        old, new = known.get(name), inbox.folder("work")
        if name in held and old is not None and old != new and _holds_files(name, old):
            raise PreconditionError(
                f"inbox {name}: files are held in {old}, and the configuration says {new}",
                hint=f"let them be finished under the old setting; or stop inboxd and move what is in {old} there",
            )
    for name in sorted((held & known.keys()) - config.inboxes.keys()):
        other = user_of(known[name], config, but=name)
        if other is not None and (count := len(history.held(name) & _ids_in(known[name]))):
            files = "a file" if count == 1 else f"{count} files"
            raise PreconditionError(
                f"inbox {name}, which the configuration has no longer, holds {files} in {known[name]}, "
                f"and that is work of inbox {other} now",
                hint=f"an inbox is renamed when it holds none: call it {name} until they have come to their ends",
            )


def user_of(work: Path, config: Config, *, but: str) -> str | None:
    """The inbox, `but` for this one, whose work/ is this folder, whatever its path says."""
    for name, inbox in config.inboxes.items():
        with contextlib.suppress(OSError):  # one of the two is not there
            if name != but and os.path.samefile(work, inbox.folder("work")):
                return name
    return None


def _ids_in(work: Path) -> set[str]:
    """Of files, and of files whose results lie there."""
    with opened(work) as work_fd, opened(work, RESULTS) as results_fd:
        return {name[:32] for name in (*os.listdir(work_fd), *os.listdir(results_fd))}


def _known(state: Path) -> dict[str, Path]:
    found = json.loads(disk.read_noted(state / _WORK_FOLDERS) or "{}")
    return {name: Path(path) for name, path in found.items()}


def _holds_files(name: str, work: Path) -> bool:
    """Raises DiskError. Path.rglob says nothing of a folder that it can't read, since Python 3.13."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DiskError.of(f"inbox {name}: its files can't be looked for where they were", error) from error

    return any(files for _folder, _folders, files in os.walk(work, onerror=fail))


def _problems(config: Config) -> Iterator[str]:
    yield _private(config.state)
    if config.ledger_url.startswith("sqlite") and mounts.is_network(config.state):
        yield (
            f"{config.state}: a SQLite ledger can't live on a network file system (its log needs shared memory); "
            "move `state` to a local disk, or use a PostgreSQL ledger"
        )
    for name, inbox in config.inboxes.items():
        yield _private(inbox.folder("work"))
        yield from _on_one_mount(name, inbox)
    yield from overlaps.problems(config)


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
    for which in _JOINED[1:] + (_FETCHED if inbox.sources else ()):
        folder = inbox.folder(which)
        if not mounts.same_mount(inbound, folder):
            yield (
                f"inbox {name}: {folder} ({which}) is not on the mount of {inbound}: no file can be renamed between "
                "them. Put all folders of an inbox below one mount (under systemd: one ReadWritePaths= parent)"
            )
            return
    yield _probe(name, inbound, inbox.folder("work"))


def _probe(name: str, inbound: Path, work: Path) -> str:
    """Really rename an entry back and forth. What a start that was killed has left in work/ is not taken for a file."""
    probe = f"{_PROBE}{new_id()}"
    with opened(inbound) as inbound_fd, opened(work) as work_fd:
        try:
            for stale in os.listdir(work_fd):
                if stale.startswith(_PROBE):
                    os.unlink(stale, dir_fd=work_fd)
            disk.write_new(inbound_fd, probe, b"")
            disk.rename_new(inbound_fd, probe, work_fd, probe)
            disk.rename_new(work_fd, probe, inbound_fd, probe)
        except OSError as error:
            if error.errno in disk.FULL:
                return ""  # there is no room to ask; when there is, the first claim shows it
            if error.errno == errno.EROFS:
                return f"inbox {name}: {inbound} and {work}: {error.strerror} ({disk.READ_ONLY})"
            return (
                f"inbox {name}: a file can't be renamed between {inbound} and {work}: {error.strerror}; "
                "inboxd needs write access to both, and no sticky bit on inbound"
            )
        finally:
            for fd in (inbound_fd, work_fd):
                with contextlib.suppress(OSError):
                    os.unlink(probe, dir_fd=fd)
    return ""
