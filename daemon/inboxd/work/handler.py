"""Load the user's handlers and run them on files; whatever they do, a report comes out."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from inboxd.beneath import SHORTAGES
from inboxd.model import Ending, Report
from inboxd.wire import HandlerSpec, Note, OrderedFile, Setup
from inboxd.work.content import absence
from inboxd.work.database import DatabaseAway, Databases, DatabaseUnusable
from inboxd.work.file import File
from inboxd.work.forks import ParentOnly
from inboxd.work.loading import CannotLoad, load_function
from inboxd.work.receipts import Receipts
from inboxd.work.results import ResultsFolders
from inboxd.work.verdict import batch_failed, batch_succeeded, judge, succeeded

if TYPE_CHECKING:
    from inboxd.work.command import Command

_FIRST_MOMENT = -(1 << 31) * 10**9  # nanoseconds, 1901; as in custody/rows.py
_LAST_MOMENT = _FIRST_MOMENT + (1 << 64) - 1  # 2486


class Handlers:
    """The handlers of all inboxes, in this process."""

    def __init__(self, setup: Setup, note: Callable[[Note], None] = lambda note: None) -> None:
        self._setup = setup
        self._note = note
        self._databases = Databases(setup.databases, note)
        self._receipts = Receipts(self._databases)
        self._folders = ResultsFolders()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._commands: dict[str, Command] = {}
        self._broken: dict[str, str] = {}

    def load(self) -> dict[str, str]:
        """Load every handler. Returns why some can't be: inbox -> reason."""
        sys.path[:0] = [place for place in self._setup.path if place not in sys.path]
        for inbox, spec in self._setup.handlers.items():
            try:
                self._load_one(inbox, spec)
            except (CannotLoad, DatabaseUnusable) as error:
                self._broken[inbox] = str(error)
        return dict(self._broken)

    def _load_one(self, inbox: str, spec: HandlerSpec) -> None:
        if spec.command is not None:
            from inboxd.work.command import Command  # with ctypes: 1 MiB and more

            self._commands[inbox] = Command(inbox, spec, self._folders, self._note)
        else:
            self._functions[inbox] = load_function(spec.python or "")
        if spec.database is not None:
            self._databases.prepare(spec.database)

    def tidy(self) -> None:
        """An order is done."""
        self._folders.tidy()
        self._databases.tidy()

    def close(self) -> None:
        """Close what is open."""
        self._databases.close()

    def run(self, inbox: str, file: OrderedFile) -> Report:
        """Run the inbox's handler on one file. Never raises for what the handler does."""
        refusal = self._refusal(inbox, file) or absence(file)
        if refusal is not None:
            return refusal
        self._receipts.new_run()
        began = time.monotonic()
        report = self._run_one(inbox, file)
        report = report._replace(seconds=time.monotonic() - began, pid=os.getpid())
        return self._after(file, report)

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
            except (DatabaseAway, DatabaseUnusable) as error:
                return judge(file.id, error)
        return None

    def _run_one(self, inbox: str, file: OrderedFile) -> Report:
        try:
            self._folders.clear(file.results)
            command = self._commands.get(inbox)
            if command is not None:
                return command.run(file)
            with ParentOnly():
                returned = self._functions[inbox](self._file(inbox, file))
        except BaseException as error:  # noqa: BLE001 - the user's code ends here, whatever it raised
            return judge(file.id, error)
        return succeeded(file.id, returned)

    def _file(self, inbox: str, ordered: OrderedFile) -> File:
        return File(ordered, inbox, self._setup.handlers[inbox], self._receipts, self._folders)

    def run_batch(self, inbox: str, files: Sequence[OrderedFile], begin: Callable[[int], None]) -> list[Report]:
        """Run a batch handler on all files at once. A failure of the whole asks for its halves (`bisect`)."""
        refusal = self._refusal(inbox, files[0])
        if refusal is not None:
            return [refusal._replace(file_id=file.id) for file in files]
        gone = [report for report in map(absence, files) if report is not None]
        files = [file for file in files if file.id not in {report.file_id for report in gone}] if gone else files
        if not files:
            return gone
        self._receipts.new_run()
        begin(0)
        began = time.monotonic()
        reports = self._run_together(inbox, files)
        seconds = time.monotonic() - began  # each file was at it for as long as the call lasted
        reports = [report._replace(seconds=seconds, pid=os.getpid()) for report in reports]
        return gone + [self._after(file, report) for file, report in zip(files, reports, strict=True)]

    def _run_together(self, inbox: str, files: Sequence[OrderedFile]) -> list[Report]:
        try:
            for file in files:
                self._folders.clear(file.results)
            command = self._commands.get(inbox)
            if command is not None:
                return command.run_batch(files)
            with ParentOnly():
                returned = self._functions[inbox]([self._file(inbox, file) for file in files])
        except BaseException as error:  # noqa: BLE001 - as in _run_one
            return batch_failed(files, error)
        return batch_succeeded(files, returned)

    def _after(self, file: OrderedFile, report: Report) -> Report:
        """The input must still be what we handed over; what the run left is noted, or removed if it failed.

        A file that was changed in place is still the file: what its handler made of it counts, with a remark.
        """
        try:
            found = os.lstat(file.path)
            # A number of an inode that was given up may come again at once, so its kind is looked at, too.
            if found.st_ino != file.ino or not stat.S_ISREG(found.st_mode):
                return _input_changed(report, "the handler replaced its input by another file")
            if report.ending is not Ending.PROCESSED:
                with contextlib.suppress(OSError):  # the next run, or the delivery, does it
                    self._folders.clear(file.results)
                return report
            if not report.message and _is_changed(file, found):
                report = report._replace(message="the file was changed between its claim and the end of its run")
            return report._replace(results=True) if self._folders.has(file.results) else report
        except FileNotFoundError:
            return _input_changed(report, "the handler removed its input")
        except OSError as error:
            if error.errno in SHORTAGES:  # nobody can look just now; what the run came to stays, and the daemon looks
                return report._replace(results=report.ending is Ending.PROCESSED)
            return judge(file.id, error)._replace(seconds=report.seconds, pid=report.pid)


def _is_changed(file: OrderedFile, found: os.stat_result) -> bool:
    if found.st_mtime_ns != file.mtime_ns and _kept(found.st_mtime_ns) != _kept(file.mtime_ns):
        return True
    return found.st_size != file.size


def _kept(moment: int) -> int:
    """As the ledger keeps it: a file that comes from there may have a time that no column can hold."""
    return min(max(moment, _FIRST_MOMENT), _LAST_MOMENT)


def _input_changed(report: Report, message: str) -> Report:
    changed = report._replace(ending=Ending.INPUT_CHANGED, message=message, error_class="InputChanged", result=None)
    return changed._replace(begun=True, bisect=False, after=None)
