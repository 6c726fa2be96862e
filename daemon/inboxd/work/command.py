"""Command handlers: a program per file, or per batch; what it is given, and what its exit says."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import stat
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from inboxd.model import Ending, Report
from inboxd.wire import HandlerSpec, Note, OrderedFile
from inboxd.work.loading import CannotLoad
from inboxd.work.program import SHOWN, TAIL, CannotStart, run_program
from inboxd.work.results import ResultsFolders

_EX_DATAERR, _EX_TEMPFAIL = 65, 75  # sysexits.h: our Reject and Retry
_NOT_RUNNABLE = (126, 127)  # sh(1) and env(1): found but not executable, not found
_SET_UP_WRONG = (
    errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EPERM, errno.E2BIG,
)  # fmt: skip
_LONGEST_LOGGED = 2000  # characters of a line
_PLACES = ("path", "name", "id", "results", "attempt")
_FILES = "{files}"


class Command:
    """The command of one inbox."""

    def __init__(
        self, inbox: str, spec: HandlerSpec, folders: ResultsFolders, note: Callable[[Note], None] = lambda note: None
    ) -> None:
        """Raises CannotLoad for a command that can't work for any file."""
        assert spec.command is not None  # the loader asks for commands only
        self._inbox = inbox
        self._words = spec.command
        self._options = {_variable(name): _text(value) for name, value in spec.options.items()}
        self._folders = folders
        self._note = note
        _check(self._words, self._options, batch=spec.batch)
        # Noted once: to read all of it for each program takes 60 µs.
        self._around = {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}
        lock = os.environ.get("INBOXD_LOCK_FD", "")
        self._inherited = (int(lock),) if lock else ()  # a new daemon waits for our commands, too

    def run(self, file: OrderedFile) -> Report:
        """Run it on one file; the supervisor holds the deadline, and kills our whole process group."""
        if file.results:
            self._folders.lend(file.results)
        try:
            status, output = run_program(self._arguments(file), self._environment(_about(file)), self._inherited)
        except CannotStart as error:
            return _not_started(error, self._words[0])._replace(file_id=file.id)
        self._log(output, file=file.below, file_id=file.id)
        return _report(status, output, self._words[0])._replace(file_id=file.id)

    def run_batch(self, files: Sequence[OrderedFile]) -> list[Report]:
        """Run it once for all of them. A failure of many asks for their halves (`bisect`), and so does a rejection:
        a program can't say which of them it means.
        """
        for file in files:
            self._folders.lend(file.results)
        try:
            with _listed(files) as stdin:
                about = {"COUNT": str(len(files))}
                status, output = run_program(
                    self._arguments_for(files), self._environment(about), self._inherited, stdin
                )
        except CannotStart as error:
            report = _not_started(error, self._words[0])
            message = report.message
            divisible = error.errno == errno.E2BIG
        else:
            whose = {"file": files[0].below, "file_id": files[0].id} if len(files) == 1 else _many(files)
            self._log(output, **whose)
            kept = output[-max(TAIL // len(files), _LONGEST_LOGGED) :]  # it goes with the report of each
            report = _report(status, output, self._words[0])._replace(output=kept)
            message = _said(status, output, self._words[0])
            divisible = report.ending in (Ending.FAILED, Ending.REJECTED)
        if divisible and len(files) > 1:
            report = Report("", Ending.RELEASED, message=message, detail=report.output, begun=False, bisect=True)
        return [report._replace(file_id=file.id) for file in files]

    def _arguments(self, file: OrderedFile) -> list[str]:
        values = {
            "path": file.path, "name": file.name, "id": file.id, "attempt": str(file.attempt), "results": file.results,
        }  # fmt: skip
        return [word.format(**values) for word in self._words]

    def _arguments_for(self, files: Sequence[OrderedFile]) -> list[str]:
        paths = [file.path for file in files]
        return [one for word in self._words for one in (paths if word == _FILES else [word.format()])]

    def _environment(self, about: dict[str, str]) -> dict[str, str]:
        """`about`: the run; by names without their INBOXD_."""
        ours = {f"INBOXD_{name}": value for name, value in {**about, "INBOX": self._inbox}.items()}
        return {**self._around, **self._options, **ours}

    def _log(self, output: str, **whose: str) -> None:
        about = {"inbox": self._inbox, **whose, "pid": os.getpid()}
        for line in output.splitlines()[-SHOWN:]:
            self._note(Note("handler.output", {**about, "line": line[:_LONGEST_LOGGED]}))


def _variable(option: str) -> str:
    return "INBOXD_OPTION_" + re.sub(r"[^A-Z0-9]", "_", str(option).upper())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _about(file: OrderedFile) -> dict[str, str]:
    return {
        "PATH": file.path, "NAME": file.name, "ID": file.id, "RESULTS": file.results, "ATTEMPT": str(file.attempt),
        "SIZE": str(file.size), "SOURCE": file.source or "",
    }  # fmt: skip


def _many(files: Sequence[OrderedFile]) -> dict[str, str]:
    return {"file": f"(a batch of {len(files)} files)"}


@contextlib.contextmanager
def _listed(files: Sequence[OrderedFile]) -> Iterator[int]:
    """A descriptor to read them from, a line of JSON for each. No pipe: nobody has to read it. Raises CannotStart."""
    try:
        memory = os.memfd_create("files")
    except OSError as error:
        raise CannotStart(error) from error
    with os.fdopen(memory, "w+", encoding="utf-8") as listed:
        for file in files:
            about = {
                "id": file.id, "path": file.path, "name": file.name, "folder": file.folder, "size": file.size,
                "attempt": file.attempt, "source": file.source, "results": file.results,
            }  # fmt: skip
            listed.write(json.dumps(about) + "\n")
        listed.seek(0)
        yield listed.fileno()


def _check(words: tuple[str, ...], options: dict[str, str], *, batch: bool) -> None:
    if shutil.which(words[0]) is None:
        raise CannotLoad(f"the program {words[0]!r} {_why_not(words[0])}")
    for word in words:
        _check_places(word, batch=batch)
    for text in (*words, *options.values()):
        if "\0" in text:
            raise CannotLoad(f"{text!r} holds a NUL character, which no program can be given")


def _why_not(program: str) -> str:
    """Why it can't be run, and what to do."""
    if "/" not in program:
        return "is not there, or not executable, in any folder of PATH; write where it is: /folder/program"
    try:
        if stat.S_ISDIR(os.stat(program).st_mode):
            return "is a folder; name a program"
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except OSError as error:
        return f"can't be looked at: {error.strerror}"
    return f"is there, but not executable; run `chmod +x {shlex.quote(program)}`"


def _check_places(word: str, *, batch: bool) -> None:
    try:
        parts = [part for part in string.Formatter().parse(word) if part[1] is not None]
    except ValueError as error:
        raise CannotLoad(f"argument {word!r}: {error}; write {{{{ and }}}} for braces") from None
    for _literal, place, form, conversion in parts:
        if wrong := _wrong_place(word, place or "", plain=not (form or conversion), batch=batch):
            raise CannotLoad(f"argument {word!r}: {wrong}")


def _wrong_place(word: str, place: str, *, plain: bool, batch: bool) -> str:
    """What is wrong with a place in this word; "" when nothing is."""
    if word == _FILES:
        return "" if batch else "it takes many files, so the handler needs `batch: true`"
    if batch and (place in _PLACES or place == "files"):
        return f"{{{place}}} can't be filled in: `batch: true` means many files; write {_FILES!r} as a word of its own"
    if place in _PLACES and plain:
        return ""
    known = ", ".join(f"{{{name}}}" for name in (("files",) if batch else _PLACES))
    return f"{{{place}}} is none of {known}; write {{{{ and }}}} for braces of your own"


def _not_started(error: CannotStart, program: str) -> Report:
    """The set-up is wrong, or the machine is short of processes, memory or descriptors; never the file's fault."""
    ending = Ending.BROKEN if error.errno in _SET_UP_WRONG else Ending.UNAVAILABLE
    return Report("", ending, message=f"{program} can't be started: {error.strerror}", begun=False)


def _report(status: int, output: str, program: str) -> Report:
    if status == 0:
        return Report("", Ending.PROCESSED, output=output)
    message = _said(status, output, program)
    if status in _NOT_RUNNABLE:
        return Report("", Ending.BROKEN, message=f"{program}: {message}", output=output, begun=False)
    ending = {_EX_DATAERR: Ending.REJECTED, _EX_TEMPFAIL: Ending.RETRY}.get(status, Ending.FAILED)
    if ending is not Ending.FAILED:
        message = _last_line(output) or message
    error_class = f"Exit{status}" if status > 0 else f"Signal{-status}"
    return Report("", ending, message=message, error_class=error_class, output=output)


def _said(status: int, output: str, program: str) -> str:
    last = _last_line(output)
    return f"{_status(status)}: {last}" if last else f"{program} ended: {_status(status)}"


def _status(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"killed by signal {-status}"


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:500] if lines else ""
