"""Run a program: its output bounded, its leftovers ended, never through a shell."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from inboxd.work.surroundings import tell_where_when_asked

TAIL = 64 * 1024  # bytes kept of what it prints
SHOWN = 20  # last lines of it that are logged
_DRAIN = 1.0  # seconds for output after the program's end, if somebody keeps the pipe open


def run_program(
    arguments: Sequence[str], environment: Mapping[str, str], stdin: int, inherited: Sequence[int]
) -> tuple[int, str]:
    """Its exit status, as subprocess has it, and the last of its output. Raises OSError when it can't be started.

    `inherited`: descriptors that it gets beside the usual three. Background processes that it leaves become our
    children, where we are a subreaper (prctl(2)), and are ended with it.
    """
    older = set(_children())
    process = subprocess.Popen(
        arguments, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        pass_fds=inherited,
    )  # fmt: skip
    tail = _Tail()
    try:
        with _told_when_asked(tail):
            _read_output(process, tail)
    finally:
        _end_leftovers(older)
    return process.returncode, tail.text()


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


def _read_output(process: subprocess.Popen[bytes], tail: _Tail) -> None:
    """Keep the tail until the command ends; a grandchild that holds the pipe open gets a moment, not more."""
    assert process.stdout is not None  # Popen was given a pipe
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    pidfd = os.pidfd_open(process.pid)
    with process.stdout, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        selector.register(pidfd, selectors.EVENT_READ)
        deadline: float | None = None
        while pipe in selector.get_map():
            for key, _events in selector.select(None if deadline is None else max(0.0, deadline - time.monotonic())):
                if key.fd == pidfd:
                    selector.unregister(pidfd)
                    deadline = time.monotonic() + _DRAIN
                elif not _take(pipe, tail):
                    selector.unregister(pipe)
            if deadline is not None and time.monotonic() >= deadline:
                break
    os.close(pidfd)
    process.wait()


def _take(pipe: int, tail: _Tail) -> bool:
    """One read; False at the end."""
    try:
        data = os.read(pipe, 65536)
    except BlockingIOError:
        return True
    tail.add(data)
    return bool(data)


def _end_leftovers(older: Collection[int]) -> None:
    """Kill and reap what the command left running, setsid(2) or not: we are its subreaper. Spares `older` children."""
    spared = set(older)
    while left := set(_children()) - spared:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except PermissionError:  # it has changed its user: nothing we could do
                spared.add(pid)
            except (ProcessLookupError, ChildProcessError):
                continue


def _children() -> Iterator[int]:
    """proc_pid_task(5): children of each of our threads."""
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", "rb") as listed:
                yield from map(int, listed.read().split())
        except FileNotFoundError:  # the thread has ended
            continue
