"""Run a program: its output bounded, its leftovers ended, never through a shell."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import signal
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from inboxd.work.surroundings import tell_where_when_asked

TAIL = 64 * 1024  # bytes kept of what it prints
SHOWN = 20  # last lines of it that are logged
_LOOK = 0.1  # seconds between two looks whether it has ended, where nothing tells
_DRAIN = 1.0  # seconds for output after the program's end, if somebody keeps the pipe open
_CLOSE_RANGE, _CLOEXEC, _LAST = 436, 4, 0xFFFFFFFF  # close_range(2), the same number on every architecture
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # programs expect to end of them
_library = ctypes.CDLL(None)
_syscall, _prctl = _library.syscall, _library.prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)  # an int, as ctypes would pass, is half of it


class CannotStart(Exception):
    """Nothing of it has run; the OSError is its cause."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.errno = error.errno
        self.strerror = error.strerror


def run_program(
    arguments: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int], stdin: int | None = None
) -> tuple[int, str]:
    """Its exit status, as subprocess has it, and the last of its output. Raises CannotStart.

    `inherited`: descriptors that it gets beside the usual three; `stdin` is empty without one. Background processes
    that it leaves are ended with it.
    """
    tail = _Tail()
    with _without_leftovers():
        process, pipe = _start(arguments, environment, inherited, stdin)
        try:
            with _told_when_asked(tail):
                _read_output(process, pipe, tail)
                _, status = os.waitpid(process, 0)
        finally:
            os.close(pipe)
    return os.waitstatus_to_exitcode(status), tail.text()


def _start(
    arguments: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int], stdin: int | None
) -> tuple[int, int]:
    """The process, and the pipe that it prints to. By posix_spawn(3), since subprocess takes twice as long."""
    try:
        pipe, output = os.pipe()
    except OSError as error:
        raise CannotStart(error) from error
    beginning = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        beginning if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherited),  # takes its close-on-exec flag away
    ]
    try:
        os.set_blocking(pipe, False)
        # What a library has opened is not the program's. Linux before 5.11 does not know the flag, and hands it on.
        _syscall(_CLOSE_RANGE, 3, _LAST, _CLOEXEC)
        process = os.posix_spawnp(
            arguments[0], tuple(arguments), environment, file_actions=actions, setsigdef=_IGNORED_BY_PYTHON
        )
    except BaseException as error:
        os.close(pipe)
        if isinstance(error, OSError):
            raise CannotStart(error) from error
        raise
    finally:
        os.close(output)
        with contextlib.suppress(OSError):  # a handler has closed it
            for fd in inherited:  # what a handler in Python starts without us gets it, too
                os.set_inheritable(fd, True)
    return process, pipe


@contextlib.contextmanager
def _told_when_asked(tail: _Tail) -> Iterator[None]:
    """Who kills us for taking too long asks with SIGQUIT where we are: it is told what the program has printed.

    Where we wait for the program, as faulthandler would have it, says nothing.
    """
    signal.signal(signal.SIGQUIT, lambda _number, _frame: tail.show())
    try:
        yield
    finally:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        tell_where_when_asked()


class _Tail:
    """The last bytes of an output, and how many came before them."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._kept = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._kept += len(data)
        while self._kept - len(self._parts[0]) >= TAIL:
            gone = self._parts.popleft()
            self._kept -= len(gone)
            self._dropped += len(gone)

    def text(self) -> str:
        kept = b"".join(self._parts)
        cut = kept[-TAIL:]
        dropped = self._dropped + len(kept) - len(cut)
        note = f"[{dropped} bytes before this are not kept]\n" if dropped else ""
        return note + cut.decode("utf-8", "backslashreplace")

    def show(self) -> None:
        """The end of it, on our own standard error."""
        lines = self.text().splitlines()[-SHOWN:]
        os.write(2, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def _read_output(process: int, pipe: int, tail: _Tail) -> None:
    """Keep the tail until the command ends; a grandchild that holds the pipe open gets a moment, not more."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    deadline = math.inf
    with _end_of(process) as ended:
        if ended is not None:
            poll.register(ended, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            for fd, _events in poll.poll(min(left, _LOOK) * 1000 if ended is None or left < math.inf else None):
                if fd == pipe and not _take(pipe, tail):
                    return
            if deadline == math.inf and _has_ended(process):
                deadline = time.monotonic() + _DRAIN
                if ended is not None:
                    poll.unregister(ended)


@contextlib.contextmanager
def _end_of(process: int) -> Iterator[int | None]:
    """A descriptor that can be read when it ends (pidfd_open(2)); None where the machine has none left."""
    try:
        ended = os.pidfd_open(process)
    except OSError:  # it runs: that it can't be watched is no failure of it
        yield None
        return
    try:
        yield ended
    finally:
        os.close(ended)


def _has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _take(pipe: int, tail: _Tail) -> bool:
    """One read; False at the end."""
    try:
        data = os.read(pipe, 65536)
    except BlockingIOError:
        return True
    tail.add(data)
    return bool(data)


@contextlib.contextmanager
def _without_leftovers() -> Iterator[None]:
    """Who loses its parent in here becomes our child, and is ended. Before and after it becomes the daemon's, which
    looks for what handlers in Python leave; ours it would stay for good.
    """
    older = _children()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        try:
            _end_leftovers(older)
        finally:
            _prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _end_leftovers(older: Collection[int]) -> None:
    """Kill and reap what the command left running, setsid(2) or not. Spares `older` children."""
    spared = set(older)
    while left := _children() - spared:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except PermissionError:  # it has changed its user: nothing we could do
                spared.add(pid)
            except (ProcessLookupError, ChildProcessError):
                continue


def _children() -> set[int]:
    """proc_pid_task(5): children of each of our threads. That there are none, as a rule, waitid(2) says at once.

    None that can be named, where there is no descriptor left to look by: what a run came to does not depend on it.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    children: set[int] = set()
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with (
                contextlib.suppress(FileNotFoundError),  # the thread has ended
                open(f"/proc/self/task/{task}/children", "rb") as listed,
            ):
                children.update(map(int, listed.read().split()))
    return children
