"""An order that a child has, and what becomes of its files when the child does not come back. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from inboxd.model import Ending, Report
from inboxd.wire import BrokenFrame, Errand, Mark, Order, OrderedFile, OrderedItem


class Cause(StrEnum):
    """Why a child ended in the middle of an order."""

    DIED = "died"  # by itself
    TIMED_OUT = "timed out"  # we killed it: the file in progress took too long
    STOPPED = "stopped"  # we killed it: the daemon stops


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended. `file_id` is the file that took too long."""

    cause: Cause
    text: str
    detail: str = ""
    file_id: str = ""
    pid: int = 0
    at: float = 0.0  # monotonic seconds


class Assignment:
    """One order in the hands of one child; every file of it is reported exactly once."""

    def __init__(self, order: Order | Errand, whole: bool, since: float) -> None:
        """`whole`: one call of the handler takes all files. `since`: monotonic seconds of the hand-over."""
        self.order = order
        self._files: tuple[OrderedFile | OrderedItem, ...] = order.files
        self.whole = whole
        self.since = since
        self.extra = 0.0  # seconds for which everything stood still
        self._open = {file.id for file in order.files}

    def accept(self, reports: Sequence[Report], *, last: bool) -> None:
        """The child has reported these. Raises BrokenFrame, and changes nothing, when that can't be."""
        ids = {report.file_id for report in reports}
        if len(ids) < len(reports) or not ids <= self._open:
            raise BrokenFrame(f"a report for a file that is not open in batch {self.order.batch}")
        if last and len(ids) < len(self._open):
            raise BrokenFrame(f"the last reports of batch {self.order.batch} leave files out")
        self._open -= ids

    def current(self, mark: Mark | None) -> OrderedFile | OrderedItem | None:
        """The file in progress, by the mark; None before the first and after the last."""
        if mark is None or mark.batch != self.order.batch or not 0 <= mark.at < len(self.order.files):
            return None
        return self.order.files[mark.at]

    def named(self, mark: Mark | None) -> str:
        """What it is at, in words: a name below inbound/, or all of a batch; "" for nothing."""
        file, many = self.current(mark), len(self.order.files)
        if file is None:
            return ""
        return f"(a batch of {many} files)" if self.whole and many > 1 else file.below

    def deadline(self, mark: Mark | None, timeout: float) -> float:
        """Monotonic seconds when the child has had long enough for what it is at."""
        begun = mark is not None and mark.batch == self.order.batch
        return (max(self.since, mark.since) if mark and begun else self.since) + timeout + self.extra

    def remains(self, mark: Mark | None, death: Death) -> list[Report]:
        """Reports for all that the dead child did not report, by where its mark stands."""
        at = -1 if mark is None or mark.batch != self.order.batch else mark.at
        in_one_call = self.whole and 0 <= at < len(self.order.files)
        seconds = max(0.0, death.at - mark.since) if mark is not None and death.at else 0.0
        if in_one_call and death.cause is not Cause.STOPPED:
            return self._bisect(death, seconds)
        reports = [self._one(0 if in_one_call else index - at, file, death, seconds) for index, file in self._left()]
        self._open.clear()
        return reports

    def _left(self) -> list[tuple[int, OrderedFile | OrderedItem]]:
        return [(index, file) for index, file in enumerate(self._files) if file.id in self._open]

    def _one(self, distance: int, file: OrderedFile | OrderedItem, death: Death, seconds: float) -> Report:
        """`distance` from the mark: below 0 the file was finished, above 0 the handler never heard of it."""
        if distance > 0:
            message = f"not begun: its worker ended before ({death.text})"
            return Report(file.id, Ending.RELEASED, message=message, begun=False, pid=death.pid)
        if distance < 0:
            message = f"finished, but its report was lost: its worker ended after it ({death.text})"
            return Report(file.id, Ending.RELEASED, message=message, pid=death.pid)
        return self._charge(file, death)._replace(seconds=seconds)

    def _charge(self, file: OrderedFile | OrderedItem, death: Death) -> Report:
        if death.cause is Cause.DIED:
            message = f"{death.text} in the middle of the file"
            return Report(file.id, Ending.CRASHED, message=message, detail=death.detail, pid=death.pid)
        if death.cause is Cause.TIMED_OUT and death.file_id in (file.id, ""):
            return Report(file.id, Ending.TIMED_OUT, message=death.text, detail=death.detail, pid=death.pid)
        return Report(file.id, Ending.RELEASED, message=f"cut off: {death.text}", pid=death.pid)

    def _bisect(self, death: Death, seconds: float) -> list[Report]:
        """A death in a call for many files is laid to none of them: its halves are run again."""
        left = [file for _, file in self._left()]
        self._open.clear()
        if len(self.order.files) == 1:
            return [self._charge(file, death)._replace(seconds=seconds) for file in left]
        message, detail = f"batch died: {death.text}", death.detail
        bisected = Report("", Ending.RELEASED, message=message, detail=detail, begun=False, bisect=True)
        return [bisected._replace(file_id=file.id) for file in left]


def released(order: Order | Errand, message: str) -> list[Report]:
    """Reports for an order that no child ever had."""
    return [Report(file.id, Ending.RELEASED, message=message, begun=False) for file in order.files]


_HINTS = {
    signal.SIGKILL: " (SIGKILL: by the kernel when memory runs out, or by somebody)",
    signal.SIGSEGV: " (a crash in native code)",
}


def how_it_ended(returncode: int) -> str:
    """In words; `returncode` as subprocess has it, below 0 for signals."""
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"killed by signal {-returncode}{_HINTS.get(-returncode, '')}"  # type: ignore[call-overload]
