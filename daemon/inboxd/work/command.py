"""Command handlers: a program per file, never through a shell, with its output bounded and its leftovers ended."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import selectors
import shutil
import signal
import string
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any

from inboxd.model import Ending, Report
from inboxd.wire import HandlerSpec, Note, OrderedFile
from inboxd.work.file import make_results
from inboxd.work.loading import CannotLoad

_EX_DATAERR, _EX_TEMPFAIL = 65, 75  # sysexits.h: our Reject and Retry
_NOT_RUNNABLE = (126, 127)  # sh(1) and env(1): found but not executable, not found
_SET_UP_WRONG = (
    errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EPERM, errno.E2BIG,
)  # fmt: skip
_TAIL = 64 * 1024  # bytes kept of what a command prints
_LOGGED = 20  # last lines of it that are logged
_LONGEST_LOGGED = 2000  # characters of each
_DRAIN = 1.0  # seconds for output after the command's end, if somebody keeps the pipe open
_PLACES = ("path", "name", "id", "results", "attempt")
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Command:
    """The command of one inbox."""

    def __init__(self, inbox: str, spec: HandlerSpec, note: Callable[[Note], None] = lambda note: None) -> None:
        """Raises CannotLoad for a command that can't work for any file."""
        assert spec.command is not None  # the loader asks for commands only
        self._inbox = inbox
        self._words = spec.command
        self._options = {_variable(name): _text(value) for name, value in spec.options.items()}
        self._note = note
        _check(self._words, self._options)
        lock = os.environ.get("INBOXD_LOCK_FD", "")
        self._inherited = (int(lock),) if lock else ()  # a new daemon waits for our commands, too
        # Background processes that a command leaves become our children, and we end them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self, file: OrderedFile) -> Report:
        """Run it on one file; the supervisor holds the deadline, and kills our whole process group."""
        older = set(_children())
        if file.results:
            make_results(file.results)
        try:
            process = subprocess.Popen(
                self._arguments(file), env=self._environment(file), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, pass_fds=self._inherited,
            )  # fmt: skip
        except OSError as error:
            return _not_started(file, self._words[0], error)
        try:
            output = _read_output(process)
        finally:
            end_leftovers(older)
        self._log(file, output)
        return _report(file.id, process.returncode, output, self._words[0])

    def _arguments(self, file: OrderedFile) -> list[str]:
        values = {
            "path": file.path, "name": file.name, "id": file.id, "attempt": str(file.attempt), "results": file.results,
        }  # fmt: skip
        return [word.format(**values) for word in self._words]

    def _environment(self, file: OrderedFile) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}
        return {
            **kept, **self._options,
            "INBOXD_PATH": file.path, "INBOXD_NAME": file.name, "INBOXD_ID": file.id, "INBOXD_RESULTS": file.results,
            "INBOXD_ATTEMPT": str(file.attempt), "INBOXD_INBOX": self._inbox, "INBOXD_SIZE": str(file.size),
            "INBOXD_SOURCE": file.source or "",
        }  # fmt: skip

    def _log(self, file: OrderedFile, output: str) -> None:
        about = {"inbox": self._inbox, "file_id": file.id, "file": file.name, "pid": os.getpid()}
        for line in output.splitlines()[-_LOGGED:]:
            self._note(Note("handler.output", {**about, "line": line[:_LONGEST_LOGGED]}))


def _variable(option: str) -> str:
    return "INBOXD_OPTION_" + re.sub(r"[^A-Z0-9]", "_", str(option).upper())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _check(words: tuple[str, ...], options: dict[str, str]) -> None:
    if shutil.which(words[0]) is None:
        raise CannotLoad(f"the program {words[0]!r} is not there, or not executable")
    for word in words:
        _check_places(word)
    for text in (*words, *options.values()):
        if "\0" in text:
            raise CannotLoad(f"{text!r} holds a NUL character, which no program can be given")


def _check_places(word: str) -> None:
    try:
        parts = [part for part in string.Formatter().parse(word) if part[1] is not None]
    except ValueError as error:
        raise CannotLoad(f"argument {word!r}: {error}; write {{{{ and }}}} for braces") from None
    for _literal, place, form, conversion in parts:
        if place not in _PLACES or form or conversion:
            known = ", ".join(f"{{{name}}}" for name in _PLACES)
            raise CannotLoad(
                f"argument {word!r}: {{{place}}} is none of {known}; write {{{{ and }}}} for braces of your own"
            )


def _not_started(file: OrderedFile, program: str, error: OSError) -> Report:
    """The set-up is wrong, or the machine is short of processes, memory or descriptors; never the file's fault."""
    ending = Ending.BROKEN if error.errno in _SET_UP_WRONG else Ending.UNAVAILABLE
    return Report(file.id, ending, message=f"{program} can't be started: {error.strerror}", begun=False)


def _report(file_id: str, status: int, output: str, program: str) -> Report:
    if status == 0:
        return Report(file_id, Ending.PROCESSED, output=output)
    last = _last_line(output)
    message = f"{_status(status)}: {last}" if last else f"{program} ended: {_status(status)}"
    if status in _NOT_RUNNABLE:
        return Report(file_id, Ending.BROKEN, message=f"{program}: {message}", output=output, begun=False)
    ending = {_EX_DATAERR: Ending.REJECTED, _EX_TEMPFAIL: Ending.RETRY}.get(status, Ending.FAILED)
    if ending is not Ending.FAILED and last:
        message = last
    error_class = f"Exit{status}" if status > 0 else f"Signal{-status}"
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


def end_leftovers(older: Collection[int]) -> None:
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
