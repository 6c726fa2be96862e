"""Every event inboxd logs: its stable name, its level, its wording. The only place with log texts.

`emit(events.FILE_DELIVERED, inbox=…, file_id=…, file=…)`. The fields reach the journal as INBOXD_INBOX and so on.
Wording is filled in after every value has been made harmless (control characters and lone surrogates escaped), so
that no file name can forge a log line.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of thing that happens. `name` is stable; `meaning` and `remedy` are for the journal's catalog."""

    name: str
    level: Level
    text: str
    meaning: str = ""
    remedy: str = ""

    @property
    def message_id(self) -> str:
        """128 bits as 32 hexadecimal digits, the same for ever (systemd.journal-fields(7), MESSAGE_ID)."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"inboxd:event:{self.name}").hex


class Sink(Protocol):
    """Where events go; logs.py makes the real one."""

    def __call__(self, event: Event, fields: dict[str, Any]) -> None: ...


def nowhere(event: Event, fields: dict[str, Any]) -> None:
    """Until logs.py is set up, events are dropped."""


_sink: Sink = nowhere
_levels: frozenset[str] = frozenset()


def send_to(sink: Sink, levels: Iterable[str] = LEVELS) -> None:
    """From now on events of these levels go to `sink`."""
    global _sink, _levels
    _sink, _levels = sink, frozenset(levels)


def is_told(event: Event) -> bool:
    """Somebody hears of it: worth its fields."""
    return event.level in _levels


def emit(event: Event, /, **fields: Any) -> None:
    """Something happened. Never raises, never blocks for long."""
    if event.level in _levels:
        _sink(event, fields)


# The daemon
DAEMON_STARTING = Event("daemon.starting", "INFO", "inboxd {version} starts on {config} (pid {pid})")
DAEMON_READY = Event("daemon.ready", "INFO", "ready: {inboxes} inboxes, {workers} workers, durability {durability}")
DAEMON_DRAINING = Event(
    "daemon.draining", "INFO", "draining ({cause}): no new claims, up to {grace} for files in progress"
)
DAEMON_STOPPED = Event("daemon.stopped", "INFO", "stopped")
DAEMON_FAILED = Event(
    "daemon.failed", "CRITICAL", "{thread} ended by {error_class}: {message}; inboxd stops at once",
    "A part of the daemon that must never end has ended. Nothing accepted is lost; recovery runs at the next start.",
    "Read the traceback in INBOXD_DETAIL and report it. systemd starts inboxd again by itself.",
)  # fmt: skip
DEGRADED = Event(
    "daemon.degraded", "ERROR", "degraded: {reason}; what we hold is safe, work resumes by itself",
    "Something inboxd needs (ledger, disk) is away. Nothing is claimed, nothing is lost.",
    "Bring back what the message names; `inboxd status` shows when work goes on.",
)  # fmt: skip
RESUMED = Event("daemon.resumed", "WARNING", "resumed: {reason} is over after {seconds:.1f} s")
RELOADED = Event("daemon.reloaded", "INFO", "configuration reloaded: {changes}")
RELOAD_REFUSED = Event("daemon.reload-refused", "ERROR", "configuration refused, the old one keeps running: {message}")
CONTROL_ASKED = Event("control.asked", "INFO", "{verb} asked by uid {uid}: {arguments}")
CONTROL_FAILED = Event(
    "control.failed", "ERROR", "`{verb}` could not be answered: {error_class}: {message}",
    "An operator's request met a fault of inboxd. The daemon goes on.",
    "Report it, with the traceback in INBOXD_DETAIL.",
)  # fmt: skip
RECOVERED = Event("daemon.recovered", "INFO", "recovered in {seconds:.2f} s: {summary}")
RECOVERED_FILE = Event("file.recovered", "INFO", "{inbox}/{file}: {message}")
RESOURCES = Event("resources", "INFO", "resources: {summary}")
PROGRESS = Event("progress", "INFO", "{inbox}: {summary}")

# Inboxes
INBOX_WATCHED = Event("inbox.watched", "INFO", "inbox {inbox}: {folder} is looked at by {how}")
INBOX_POLLING = Event("inbox.polling", "WARNING", "inbox {inbox}: no kernel events ({reason}); polling every {every}")
INBOX_OVERFLOW = Event(
    "inbox.overflow", "WARNING", "inbox {inbox}: the kernel dropped events; looking through it at once"
)
INBOX_AWAY = Event("inbox.away", "ERROR", "inbox {inbox}: {folder} is away ({reason}); nothing is taken for gone")
INBOX_BACK = Event("inbox.back", "WARNING", "inbox {inbox}: {folder} is back")
INBOX_PAUSED = Event("inbox.paused", "WARNING", "inbox {inbox} paused: {reason}")
INBOX_RESUMED = Event("inbox.resumed", "INFO", "inbox {inbox} resumed")
SPACE_LOW = Event(
    "disk.low", "ERROR", "inbox {inbox}: {free} free on {folder}, {needed} wanted; claiming stops until there is more",
    "Claiming stops below min_free_space or min_free_inodes. Uploaded files wait untouched.",
    "Free some space; claiming resumes by itself.",
)  # fmt: skip
SPACE_BACK = Event("disk.back", "WARNING", "inbox {inbox}: {free} free on {folder}; claiming goes on")

# Files
FILE_CLAIMED = Event("file.claimed", "DEBUG", "{inbox}/{file} claimed")
FILE_ABANDONED = Event("file.abandoned", "INFO", "{inbox}/{file} went away before it was ours: {reason}")
FILE_PROCESSED = Event("file.processed", "INFO", "{inbox}/{file} processed in {seconds:.3f} s")
FILES_PROCESSED = Event("batch.processed", "INFO", "{count} files of {inbox} processed in {seconds:.3f} s")
FILE_WAITING = Event(
    "file.waiting", "WARNING", "{inbox}/{file} {ending} in attempt {attempt}: {message}; again in {delay:.1f} s",
    "A run failed and the retry policy grants another.",
    "Nothing, unless it repeats: `inboxd show ID` has the traceback.",
)  # fmt: skip
FILE_RELEASED = Event("file.released", "INFO", "{inbox}/{file} given back without blame ({ending}): {message}")
FILE_ERROR = Event(
    "file.error", "ERROR", "{inbox}/{file} goes to errors/ ({reason}) in attempt {attempt}: {message}",
    "The file failed for good. Beside it in errors/ lies NAME.error.json with the whole story.",
    "Mend the cause, then `inboxd retry ID`.",
)  # fmt: skip
FILE_QUARANTINED = Event(
    "file.quarantined", "WARNING", "{inbox}/{file} goes to quarantine/: {reason}",
    "The entry is no regular file, or has more than one name. It was never opened.",
    "Look at it in quarantine/, and ask its uploader.",
)  # fmt: skip
FILE_DUPLICATE = Event("file.duplicate", "INFO", "{inbox}/{file} has the content of {other}: {policy}")
FILE_LOST = Event(
    "file.lost", "CRITICAL", "{inbox}/{file} is gone from work/, and inboxd did not move it",
    "Somebody or something else removed a file that inboxd held.",
    "Find out who has access to the work folder; restore the file and drop it again.",
)  # fmt: skip
WORK_LEFTOVER = Event(
    "work.leftover", "WARNING", "{file} in work/ can't be removed: {reason}",
    "What a failed run left could not be cleared away. No file depends on it.",
    "Look what it is, and remove it by hand while inboxd is stopped.",
)  # fmt: skip
FILE_COLLISION = Event("file.collision", "INFO", "{inbox}/{file}: the name was taken, it is delivered as {destination}")
FILE_TAKEN = Event(
    "file.taken", "INFO", "{inbox}/{file} was delivered, and somebody took it from {destination} already"
)
FILE_RETRIED = Event("file.retried", "INFO", "{inbox}/{file} taken back from errors/ by {user}")
FILE_ADOPTED = Event("file.adopted", "WARNING", "{inbox}/{file} lay in work/ without a row; adopted")
FILE_PUT_BACK = Event("file.put-back", "INFO", "{inbox}/{file} changed while it was claimed; put back to wait")
FILES_PRUNED = Event("files.pruned", "INFO", "{count} files of {inbox} older than {age} removed from {folder}")
HANDLER_OUTPUT = Event("handler.output", "INFO", "{file}: {line}")

# Children
CHILD_STARTED = Event("child.started", "DEBUG", "worker {slot} started (pid {pid})")
CHILD_READY = Event("child.ready", "INFO", "worker {slot} ready (pid {pid}) after {seconds:.2f} s")
CHILD_DIED = Event(
    "child.died", "ERROR", "worker {slot} (pid {pid}) died: {reason}; it was at {file}",
    "A worker process ended in the middle of a file, or by itself.",
    "The file is retried by policy. `signal 11`: a crash in native code. `signal 9`: often the kernel out of memory.",
)  # fmt: skip
CHILD_KILLED = Event("child.killed", "WARNING", "worker {slot} (pid {pid}) killed: {reason}")
CHILD_RECYCLED = Event("child.recycled", "INFO", "worker {slot} (pid {pid}) recycled: {reason}")
CHILD_STOPPED = Event("child.stopped", "DEBUG", "worker {slot} (pid {pid}) stopped")
CHILD_BACKOFF = Event("child.backoff", "WARNING", "worker {slot} is started again in {delay:.1f} s: {reason}")
CHILD_STUCK = Event(
    "child.stuck", "CRITICAL", "worker {slot} (pid {pid}) does not die of SIGKILL; its slot is idle until it ends",
    "The process sleeps uninterruptibly in the kernel, usually in a file system or device that does not answer.",
    "Look at the mounts its handler uses. A new daemon can't start before the process is gone.",
)  # fmt: skip
ORPHAN_KILLED = Event(
    "child.orphan", "WARNING", "process {pid} ({command}), left behind by a worker, killed",
    "A handler started a process that outlived its run.",
    "Let the handler wait for what it starts, or run long-lived services elsewhere.",
)  # fmt: skip
HANDLER_BROKEN = Event(
    "handler.broken", "ERROR", "inbox {inbox}: the handler can't be run ({message}); no file is blamed",
    "The handler's module, function or program can't be loaded or started. That is a fault of the set-up.",
    "Mend it, then `inboxd resume INBOX` or `inboxd reload`.",
)  # fmt: skip
DATABASE_OPENED = Event(
    "database.opened", "INFO", "database {database} opened and tested in {seconds:.2f} s (pid {pid})"
)
DATABASE_AWAY = Event(
    "database.away", "ERROR", "database {database} is away (pid {pid}): {message}; no file is blamed",
    "A database of the configuration can't be reached. Files wait, uncharged.",
    "Bring the database back; work resumes by itself.",
)  # fmt: skip
LIBRARY = Event("library", "WARNING", "{logger}: {message}")
