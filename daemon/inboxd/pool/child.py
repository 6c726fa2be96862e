"""One child process seen from the parent: its socket, pidfd, process group, mark and output."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from inboxd.clock import boot
from inboxd.pool.environment import worker_environment
from inboxd.wire import Frames, Mark, Message, encode, read_mark
from inboxd.wire import read_marks as wire_marks

_READ = 256 * 1024  # bytes taken from a socket or pipe at once
_MOST_LEFTOVER = 1024 * 1024  # bytes of output still read from a dead child; a grandchild may go on writing
_serial = itertools.count()

TOKEN = "INBOXD_WORKER"  # tells whose process a stray one is
_BOOT = "boot"  # beside the marks: the boot in which they are made
LOCK_FD = "INBOXD_LOCK_FD"  # work.command hands the generation lock on to commands


@dataclass(slots=True)
class Launch:
    """What all children are started with."""

    marks: Path  # folder of the mark files
    lock_fd: int  # the generation lock, inherited
    secrets: frozenset[str]  # environment variables that hold secrets; any thread may replace them


class Child:
    """A child process, from start until reaped. Used by the supervisor's thread only; never blocks."""

    def __init__(self, name: str, module: str, launch: Launch) -> None:
        """Start it. Raises OSError when the machine has no process, memory or descriptor left."""
        self.token = f"{os.getpid()}.{name}.{next(_serial)}"
        self.eof = False
        self._mark: Mark | None = None
        self._frames = Frames()
        self._outgoing = bytearray()
        with ExitStack() as undo:
            self.mark_fd = _fresh_mark(launch.marks / name)
            undo.callback(os.close, self.mark_fd)
            self.socket, theirs = socket.socketpair()
            undo.callback(self.socket.close)
            self.output_fd, writing = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, self.output_fd)
            with theirs, os.fdopen(writing, "wb", buffering=0) as printed:
                self._process = self._start(module, launch, theirs, printed.fileno())
            self.pidfd = os.pidfd_open(self._process.pid)
            undo.pop_all()
        self.socket.setblocking(False)
        os.set_blocking(self.output_fd, False)

    def _start(self, module: str, launch: Launch, theirs: socket.socket, printed: int) -> subprocess.Popen[bytes]:
        spoken = (theirs.fileno(), self.mark_fd)
        environment = worker_environment(os.environ, launch.secrets)
        return subprocess.Popen(
            # -B: no __pycache__ of the handlers beside the configuration, which is no place for a daemon to write to.
            [sys.executable, "-P", "-B", "-m", module, *map(str, spoken)],
            stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
            pass_fds=(*spoken, launch.lock_fd), process_group=0,
            env={**environment, TOKEN: self.token, LOCK_FD: str(launch.lock_fd)},
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def wants_to_send(self) -> bool:
        """Part of a message did not fit into the socket yet."""
        return bool(self._outgoing)

    def send(self, message: Message) -> None:
        """Send now what fits; the rest waits for `flush`."""
        self._outgoing += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send more of what waits."""
        try:
            sent = self.socket.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:  # it is dead or dying: its pidfd will tell
            sent = len(self._outgoing)
        del self._outgoing[:sent]

    def receive(self) -> Iterable[Message]:
        """The messages that have come in. Raises BrokenFrame while iterating; sets `eof`."""
        data = _read(self.socket.fileno())
        self.eof = data == b""
        return self._frames.feed(data) if data else ()

    def receive_all(self) -> Iterable[Message]:
        """Likewise, to the end of what a dead child has sent."""
        while data := _read(self.socket.fileno()):
            yield from self._frames.feed(data)

    def read_output(self) -> bytes | None:
        """Some of what it printed; b"" at the end, None for nothing now."""
        return _read(self.output_fd)

    def read_all_output(self) -> bytes:
        """What it has printed and nobody has read, if that is no flood."""
        parts: list[bytes] = []
        while sum(map(len, parts)) < _MOST_LEFTOVER and (data := _read(self.output_fd)):
            parts.append(data)
        return b"".join(parts)

    def has_output(self) -> bool:
        """Something is there to be read."""
        return any(fcntl.ioctl(self.output_fd, termios.FIONREAD, b"\0\0\0\0"))

    def mark(self) -> Mark | None:
        """Which file it is at; or was, when that could be read last."""
        with suppress(OSError):  # the disk of the state folder: nobody but the ledger has to say so
            self._mark = read_mark(self.mark_fd)
        return self._mark

    def signal(self, number: signal.Signals) -> None:
        """To the process itself, never to another one with a recycled pid."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL for the whole process group, and for the leader wherever it has moved itself."""
        self.kill_group()
        self.signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """Only before `reap`: an unreaped leader keeps the number of its group from being used again."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Collect the exit status, once the pidfd says that there is one. Below 0: minus the signal."""
        return self._process.wait()

    def close(self) -> None:
        """Give the descriptors back."""
        self.socket.close()
        for fd in (self.output_fd, self.pidfd, self.mark_fd):
            os.close(fd)


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _READ)
    except BlockingIOError:
        return None
    except ConnectionResetError:  # it died with unread messages of ours
        return b""


def _fresh_mark(path: Path) -> int:
    """A new file each time: a stray process of the slot's last child must not write into this one's mark.

    The last one stays beside it: the daemon may die before that child's reports have reached the ledger.
    """
    with suppress(FileNotFoundError):
        path.replace(path.with_name(path.name + ".old"))
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def prepare_marks(folder: Path) -> None:
    """Before the first child: the folder of the marks, and which boot they are of."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / _BOOT).write_text(boot(), encoding="ascii")


def read_marks(folder: Path) -> list[Mark] | None:
    """What the workers of an earlier daemon were at; read it before the pool starts, it makes new marks.

    None when they are of another boot: marks are not synced, so after a power cut they may say less than was begun.
    """
    try:
        if (folder / _BOOT).read_text(encoding="ascii") != boot():
            return None
    except FileNotFoundError:
        return None
    marks: list[Mark] = []
    for path in sorted(set(folder.iterdir()) - {folder / _BOOT}):
        with path.open("rb") as file:
            marks += wire_marks(file.fileno())
    return marks


def memory(pid: int) -> int:
    """Resident bytes; 0 when the process is gone, or no descriptor is left to look with."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0
