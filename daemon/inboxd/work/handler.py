"""Load the user's handlers and run them on files; whatever they do, a report comes out."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from inboxd.model import Ending, Report
from inboxd.wire import HandlerSpec, Note, OrderedFile, Setup
from inboxd.work.database import AlreadyDone, DatabaseAway, Databases
from inboxd.work.file import File, Reject, Retry, clear_results, has_results

_LARGEST_RESULT = 64 * 1024  # bytes of JSON
_LARGEST_DETAIL = 16 * 1024  # characters of a traceback

Runner = Callable[[OrderedFile], Report]


class Handlers:
    """The handlers of all inboxes, in this process."""

    def __init__(self, setup: Setup, note: Callable[[Note], None] = lambda note: None) -> None:
        self._setup = setup
        self._databases = Databases(setup.databases, note)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._commands: dict[str, Runner] = {}
        self._broken: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        """Load every handler. Returns why some can't be: inbox -> reason."""
        sys.path[:0] = [place for place in self._setup.path if place not in sys.path]
        for inbox, spec in self._setup.handlers.items():
            try:
                self._load_one(inbox, spec)
            except _CannotLoad as error:
                self._broken[inbox] = str(error)
        return dict(self._broken)

    def _load_one(self, inbox: str, spec: HandlerSpec) -> None:
        if spec.command is not None:
            from inboxd.work.command import Command

            command = Command(inbox, spec)
            why = command.why_not()
            if why:
                raise _CannotLoad(why)
            self._commands[inbox] = command.run
        else:
            self._functions[inbox] = _load_function(spec.python or "")

    def is_batch(self, inbox: str) -> bool:
        """Its function takes a list of files."""
        return self._setup.handlers[inbox].batch

    def close(self) -> None:
        """Close what is open."""
        self._databases.close()

    def run(self, inbox: str, file: OrderedFile) -> Report:
        """Run the inbox's handler on one file. Never raises for what the handler does."""
        refusal = self._refusal(inbox, file)
        if refusal is not None:
            return refusal
        clear_results(file)
        self._databases.new_run()
        began = time.monotonic()
        command = self._commands.get(inbox)
        report = command(file) if command else self._run_function(inbox, file)
        report = replace(report, seconds=time.monotonic() - began, pid=os.getpid())
        return _after(file, report)

    def _refusal(self, inbox: str, file: OrderedFile) -> Report | None:
        """Why the handler is not even begun."""
        if inbox in self._broken:
            return Report(file.id, Ending.BROKEN, message=self._broken[inbox], begun=False)
        if inbox not in self._setup.handlers:
            return Report(file.id, Ending.BROKEN, message="this worker does not know the inbox yet", begun=False)
        database = self._setup.handlers[inbox].database
        if database is not None:
            try:
                self._databases.test(database)
            except DatabaseAway as error:
                return Report(file.id, Ending.UNAVAILABLE, message=str(error), begun=False)
        return None

    def _run_function(self, inbox: str, ordered: OrderedFile) -> Report:
        try:
            returned = self._functions[inbox](self._file(inbox, ordered))
        except BaseException as error:  # noqa: BLE001 - the user's code ends here, whatever it raised
            return judge(ordered.id, error)
        return succeeded(ordered.id, returned)

    def _file(self, inbox: str, ordered: OrderedFile) -> File:
        return File(ordered, inbox, dict(self._setup.handlers[inbox].options), self._databases)

    def run_batch(self, inbox: str, files: Sequence[OrderedFile], begin: Callable[[int], None]) -> list[Report]:
        """Run a batch handler on all files at once. A failure of the whole asks for its halves (`bisect`)."""
        refusals = [refusal for file in files if (refusal := self._refusal(inbox, file))]
        if refusals:
            return [replace(refusals[0], file_id=file.id) for file in files]
        for file in files:
            clear_results(file)
        self._databases.new_run()
        begin(0)
        began = time.monotonic()
        reports = self._call_batch(inbox, files)
        seconds = (time.monotonic() - began) / len(files)
        reports = [replace(report, seconds=seconds, pid=os.getpid()) for report in reports]
        return [_after(file, report) for file, report in zip(files, reports, strict=True)]

    def _call_batch(self, inbox: str, files: Sequence[OrderedFile]) -> list[Report]:
        try:
            returned = self._functions[inbox]([self._file(inbox, file) for file in files])
        except (Reject, Retry, DatabaseAway, AlreadyDone) as error:
            return [judge(file.id, error) for file in files]
        except BaseException as error:  # noqa: BLE001 - as in _run_function
            if len(files) == 1:
                return [judge(files[0].id, error)]
            message = f"the batch failed as a whole: {type(error).__name__}: {error}"
            released = Report("", Ending.RELEASED, message=message, begun=False, bisect=True)
            return [replace(released, file_id=file.id) for file in files]
        return [_of_batch(file, position, returned) for position, file in enumerate(files)]


class _CannotLoad(Exception):
    """A handler that can't be run at all; the text says why."""


def _load_function(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise _CannotLoad(f"there is no module {error.name!r}; is it beside the configuration file?") from None
        raise _CannotLoad(f"module {module_name!r} imports {error.name!r}, which is not installed") from None
    except BaseException as error:  # noqa: BLE001 - the user's module ends here, whatever it raised
        lines = traceback.format_exception_only(error)
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" ({place[0].filename}, line {place[0].lineno})" if place else ""
        raise _CannotLoad(f"importing {module_name!r} failed: {lines[-1].strip()}{where}") from None
    function = getattr(module, function_name, None)
    if function is None:
        close = difflib.get_close_matches(function_name, dir(module), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise _CannotLoad(f"module {module_name!r} has no {function_name!r}{hint}")
    if not callable(function):
        raise _CannotLoad(f"{name!r} can't be called: it is a {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def succeeded(file_id: str, returned: Any) -> Report:
    """The report for what a handler returned."""
    if isinstance(returned, BaseException):
        return judge(file_id, returned)
    if returned is None:
        return Report(file_id, Ending.PROCESSED)
    try:
        size = len(json.dumps(returned)) if isinstance(returned, dict) else _LARGEST_RESULT + 1
    except (TypeError, ValueError, RecursionError):
        size = _LARGEST_RESULT + 1
    if size > _LARGEST_RESULT:
        message = f"a handler returns None or a small JSON object (at most 64 KiB), not this {type(returned).__name__}"
        return Report(file_id, Ending.FAILED, error_class="BadResult", message=message)
    return Report(file_id, Ending.PROCESSED, result=returned)


def judge(file_id: str, error: BaseException) -> Report:
    """The report for what a handler raised."""
    message = _words(error)
    if isinstance(error, AlreadyDone):
        return Report(file_id, Ending.PROCESSED, message="its transaction was committed by an earlier run")
    if isinstance(error, DatabaseAway):
        return Report(file_id, Ending.UNAVAILABLE, message=message)
    if isinstance(error, Reject):
        return Report(file_id, Ending.REJECTED, error_class="Reject", message=message)
    if isinstance(error, Retry):
        return Report(file_id, Ending.RETRY, after=error.after, error_class="Retry", message=message)
    detail = "".join(traceback.format_exception(error))[-_LARGEST_DETAIL:]
    return Report(file_id, Ending.FAILED, error_class=type(error).__name__, message=message, detail=detail)


def _words(error: BaseException) -> str:
    try:
        return str(error)[:2000] or type(error).__name__
    except Exception as broken:  # noqa: BLE001 - even saying what is wrong is the user's code
        return f"{type(error).__name__}, whose text raised {type(broken).__name__}"


def _of_batch(file: OrderedFile, position: int, returned: Any) -> Report:
    """What a batch handler said of one file: by id, by position, or one answer for all."""
    if isinstance(returned, list | tuple):
        missing = ValueError(f"the batch handler returned {len(returned)} answers; this file is number {position + 1}")
        return succeeded(file.id, returned[position] if position < len(returned) else missing)
    if isinstance(returned, dict) and file.id in returned:
        return succeeded(file.id, returned[file.id])
    return succeeded(file.id, returned)


def _after(file: OrderedFile, report: Report) -> Report:
    """The input must still be what we handed over; what the run left is noted."""
    try:
        found = os.lstat(file.path)
    except FileNotFoundError:
        return _input_changed(report, "the handler removed its input")
    if (found.st_dev, found.st_ino) != (file.dev, file.ino):
        return _input_changed(report, "the handler replaced its input by another file")
    if report.ending is not Ending.PROCESSED:
        return report
    if (found.st_size, found.st_mtime_ns) != (file.size, file.mtime_ns) and not report.message:
        report = replace(report, message="the file was changed while the handler ran")
    return replace(report, results=has_results(file))


def _input_changed(report: Report, message: str) -> Report:
    return replace(report, ending=Ending.INPUT_CHANGED, message=message, error_class="InputChanged", result=None)
