"""Command handlers: a program per file, never through a shell, with its output bounded and its leftovers ended."""

from __future__ import annotations

import ctypes
import os
import selectors
import shutil
import signal
import string
import subprocess
import time
from collections import deque
from collections.abc import Iterator

from inboxd.model import Ending, Report
from inboxd.wire import HandlerSpec, OrderedFile

_EX_DATAERR, _EX_TEMPFAIL = 65, 75  # sysexits.h: our Reject and Retry
_NOT_RUNNABLE = (126, 127)  # sh(1) and env(1): found but not executable, not found
_TAIL = 64 * 1024  # bytes kept of what a command prints
_DRAIN = 1.0  # seconds for output after the command's end, if somebody keeps the pipe open
_PLACES = ("path", "name", "id", "results", "attempt")
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Command:
    """The command of one inbox."""

    def __init__(self, inbox: str, spec: HandlerSpec) -> None:
        assert spec.command is not None  # the loader asks for commands only
        self._inbox = inbox
        self._words = spec.command
        self._options = spec.options
        self._lock = os.environ.get("INBOXD_LOCK_FD", "")
        # Background processes that a command leaves become our children, and we end them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def why_not(self) -> str:
        """Why it can't be run; "" when it can."""
        program = self._words[0]
        if shutil.which(program) is None:
            return f"the program {program!r} is not there, or not executable"
        for word in self._words:
            try:
                fields = [
                    field for _text, field, _spec, _conversion in string.Formatter().parse(word) if field is not None
                ]
            except ValueError as error:
                return f"argument {word!r}: {error}; write {{{{ and }}}} for braces"
            unknown = [field for field in fields if field not in _PLACES]
            if unknown:
                return f"argument {word!r} has {{{unknown[0]}}}; there are: {', '.join(_PLACES)}"
        return ""

    def run(self, file: OrderedFile) -> Report:
        """Run it on one file; the supervisor holds the deadline, and kills our whole process group."""
        try:
            process = subprocess.Popen(
                self._arguments(file), env=self._environment(file), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
                pass_fds=(int(self._lock),) if self._lock else (),
            )  # fmt: skip
        except OSError as error:
            return Report(
                file.id,
                Ending.BROKEN,
                message=f"{self._words[0]} can't be started: {error.strerror}",
                begun=False,
            )
        output = _read_output(process)
        end_leftovers()
        return _report(file.id, process.returncode, output, self._words[0])

    def _arguments(self, file: OrderedFile) -> list[str]:
        values = {
            "path": file.path, "name": file.name, "id": file.id, "attempt": str(file.attempt), "results": "",
        }  # fmt: skip
        if any("{results}" in word for word in self._words):
            os.makedirs(file.results, exist_ok=True)
            values["results"] = file.results
        return [word.format(**values) for word in self._words]

    def _environment(self, file: OrderedFile) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}
        options = {f"INBOXD_OPTION_{name.upper()}": str(value) for name, value in self._options.items()}
        return {
            **kept, **options,
            "INBOXD_PATH": file.path, "INBOXD_NAME": file.name, "INBOXD_ID": file.id, "INBOXD_RESULTS": file.results,
            "INBOXD_ATTEMPT": str(file.attempt), "INBOXD_INBOX": self._inbox, "INBOXD_SIZE": str(file.size),
            "INBOXD_SOURCE": file.source or "",
        }  # fmt: skip


def _report(file_id: str, status: int, output: str, program: str) -> Report:
    if status == 0:
        return Report(file_id, Ending.PROCESSED, output=output)
    message = _last_line(output) or f"{program} ended with {_status(status)}"
    error_class = f"Exit{status}" if status > 0 else f"Signal{-status}"
    if status in _NOT_RUNNABLE:
        return Report(
            file_id,
            Ending.BROKEN,
            message=f"{program} ended with exit status {status}: {message}",
            begun=False,
        )
    ending = {_EX_DATAERR: Ending.REJECTED, _EX_TEMPFAIL: Ending.RETRY}.get(status, Ending.FAILED)
    if ending is Ending.FAILED:
        message = f"{_status(status)}: {message}"
    return Report(file_id, ending, message=message, error_class=error_class, output=output)


def _status(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"killed by signal {-status}"


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:500] if lines else ""


class _Tail:
    """The last bytes of an output, and how many came before them."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._kept = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._kept += len(data)
        while self._kept - len(self._parts[0]) >= _TAIL:
            gone = self._parts.popleft()
            self._kept -= len(gone)
            self._dropped += len(gone)

    def text(self) -> str:
        kept = b"".join(self._parts)
        cut = kept[-_TAIL:]
        dropped = self._dropped + len(kept) - len(cut)
        note = f"[{dropped} bytes before this are not kept]\n" if dropped else ""
        return note + cut.decode("utf-8", "backslashreplace")


def _read_output(process: subprocess.Popen[bytes]) -> str:
    """Keep the tail until the command ends; a grandchild that holds the pipe open gets a moment, not more."""
    assert process.stdout is not None  # Popen was given a pipe
    tail, pipe = _Tail(), process.stdout.fileno()
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
    return tail.text()


def _take(pipe: int, tail: _Tail) -> bool:
    """One read; False at the end."""
    try:
        data = os.read(pipe, 65536)
    except BlockingIOError:
        return True
    tail.add(data)
    return bool(data)


def end_leftovers() -> None:
    """Kill and reap whatever the command left running, setsid or not: we are its subreaper."""
    while children := list(_children()):
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


def _children() -> Iterator[int]:
    """proc_pid_task(5): children of each of our threads."""
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", encoding="ascii") as listed:
            yield from map(int, listed.read().split())
