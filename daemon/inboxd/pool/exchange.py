"""Where the supervisor's thread and the others meet: orders one way, reports the other."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from inboxd.model import Report
from inboxd.pool.assignment import released
from inboxd.wire import Errand, Order


class Exchange:
    """For any thread. One lock guards the queue and the counts; it is never held while waiting."""

    def __init__(self, ahead: int, wake: Callable[[], None]) -> None:
        """`ahead`: so many orders may wait beside those for idle workers. `wake`: there are reports."""
        self._lock = threading.Lock()
        self._ahead = ahead
        self._wake = wake
        self._orders: deque[Order | Errand] = deque()
        self._reports: deque[tuple[str, Report]] = deque()
        self._owed = 0  # files and items that are dispatched, and whose reports nobody has taken yet
        self._idle = 0
        self._news = False
        self._closed = False
        self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self.event_fd)  # not sooner: a late wake-up may come

    def free(self) -> int:
        with self._lock:
            return 0 if self._closed else max(0, self._idle + self._ahead - len(self._orders))

    def idle(self) -> int:
        with self._lock:
            return 0 if self._closed else max(0, self._idle - len(self._orders))

    def dispatch(self, order: Order | Errand) -> None:
        with self._lock:
            self._owed += len(order.files)
            closed = self._closed
            if not closed:
                self._orders.append(order)
        if closed:
            self.report(order.batch, released(order, "the daemon stops"))
            self.tell()
        else:
            self.wakeup()

    def waiting(self) -> int:
        """Orders that no child has yet."""
        with self._lock:
            return len(self._orders)

    def next_order(self, may_have: Callable[[], bool]) -> Order | Errand | None:
        """The oldest order, for an idle worker, which is idle no longer; None when there is none that it `may_have`.

        That is asked when the order is seen: what was true before it was dispatched may be so no longer.
        """
        with self._lock:
            if self._orders and may_have():
                self._idle -= 1
                return self._orders.popleft()
        return None

    def set_workers(self, idle: int, ahead: int) -> None:
        """How many are idle now, and how many orders may wait; `tell` has to follow."""
        with self._lock:
            self._news = self._news or idle > self._idle  # a new worker must not wait until somebody else wakes us
            self._idle, self._ahead = idle, ahead

    def close(self) -> None:
        """No more orders; those that wait are given back."""
        with self._lock:
            self._closed = True
            orders, self._orders = list(self._orders), deque()
        for order in orders:
            self.report(order.batch, released(order, "the daemon stops"))

    def report(self, batch: str, reports: Iterable[Report]) -> None:
        """Lay out reports; `tell` has to follow."""
        self._reports.extend((batch, report) for report in reports)
        self._news = True

    def tell(self) -> None:
        """Wake whoever takes the reports, if there are new ones, or a worker for whom there may be work."""
        if self._news:
            self._news = False
            self._wake()

    def take_reports(self) -> list[tuple[str, Report]]:
        reports = []
        while self._reports:
            reports.append(self._reports.popleft())
        with self._lock:
            self._owed -= len(reports)
        return reports

    def owes_reports(self) -> bool:
        """Something that was dispatched is not reported, or its report is not taken."""
        with self._lock:
            return self._owed > 0

    def wakeup(self) -> None:
        """Make the supervisor's selector return. Takes no lock, so a signal handler may call it."""
        os.eventfd_write(self.event_fd, 1)

    def woken(self) -> None:
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            pass
