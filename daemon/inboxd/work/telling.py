"""Reports on their way to the daemon: those of quick files travel together, and none waits for a long neighbour."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from inboxd.model import Report
from inboxd.wire import Reports

_PATIENCE = 0.050  # seconds
_MOST_TOGETHER = 128  # reports: at their longest, 64 KiB of control characters each, 48 of the 64 MiB of wire.LARGEST


class Telling:
    """The reports of one order at a time. Its thread sends what has waited, whatever the handler is doing.

    But for C code that keeps the interpreter's lock: what was finished in the last moment before it waits for its end.
    """

    def __init__(self, say: Callable[[Reports], None]) -> None:
        """`say` sends one message whole; it is never called by two threads at once."""
        self.rss = 0  # bytes, told with the reports
        self.leaving = False  # likewise: there will be no more orders
        self._say = say
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._batch = ""
        self._reports: list[Report] = []
        threading.Thread(target=self._run, name="reports", daemon=True).start()

    def begin(self, batch: str) -> None:
        """What follows belongs to this batch."""
        self._batch = batch

    def add(self, report: Report, *, last: bool = False) -> None:
        """It leaves within a moment, or with `tell`, which follows at once if it is the `last`. Takes no lock: append
        is atomic, and only `tell` removes.
        """
        self._reports.append(report)
        if not (last or self._some.is_set()):
            self._some.set()

    def tell(self, *, last: bool) -> None:
        """Now, in as many messages as it takes; the daemon may have the first ones alone, if we die. `last`: the order
        is done.
        """
        with self._lock:
            self._some.clear()  # first: what is added from here on sets it again
            reports = tuple(self._reports)
            del self._reports[: len(reports)]
            while len(reports) > _MOST_TOGETHER:
                self._tell(reports[:_MOST_TOGETHER], last=False)
                reports = reports[_MOST_TOGETHER:]
            if reports or last:
                self._tell(reports, last=last)

    def _tell(self, reports: tuple[Report, ...], *, last: bool) -> None:
        self._say(Reports(self._batch, reports, last, self.rss, self.leaving))

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the thread that waits for them
        try:
            while self._some.wait():
                time.sleep(_PATIENCE)
                self.tell(last=False)
        except OSError:
            return  # the daemon is gone, which the other thread will notice
