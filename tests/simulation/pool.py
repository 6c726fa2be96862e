"""In place of the pool: workers that go on a step at a time, in any order, and may die at each of them.

What a death means for the files of an order is decided by the real pool's Assignment, from marks as workers write them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from inboxd.model import Ending, Report
from inboxd.pool.assignment import Assignment, Cause, Death, released
from inboxd.wire import Mark, Order, OrderedFile
from simulation.handler import Handler
from simulation.world import World


@dataclass(eq=False, slots=True)
class Worker:
    """One; `at` is the file that it is at, begun or not."""

    assignment: Assignment | None = None
    files: tuple[OrderedFile, ...] = ()
    at: int = 0
    begun: bool = False
    mark: Mark | None = None
    unsent: list[Report] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)  # all that its file still holds


class SimPool:
    """dispatch.PoolFront."""

    def __init__(self, world: World, handler: Handler, count: int = 2) -> None:
        self._world, self._handler = world, handler
        self._workers = [Worker() for _ in range(count)]
        self._orders: deque[Order] = deque()
        self._reports: list[tuple[str, Report]] = []
        self._closed = False

    # PoolFront

    def free(self) -> int:
        return 0 if self._closed else max(0, self._idle() + len(self._workers) - len(self._orders))

    def idle(self) -> int:
        return 0 if self._closed else max(0, self._idle() - len(self._orders))

    def dispatch(self, order: Order) -> None:
        self._world.before("dispatch")
        if self._closed:
            self._report(order, released(order, "the daemon stops"))
        else:
            self._orders.append(order)
        self._world.after("dispatch")

    def reports(self) -> list[tuple[str, Report]]:
        found, self._reports = self._reports, []
        return found

    # What the workers do

    def _idle(self) -> int:
        return sum(worker.assignment is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Somebody has something to do."""
        return bool(self._orders) or self._idle() < len(self._workers)

    def work(self, steps: int) -> None:
        """So many steps of any workers."""
        for _ in range(steps):
            self._advance(self._world.chance.choice(self._workers))

    def _advance(self, worker: Worker) -> None:
        if worker.assignment is None:
            if self._orders:
                self._take(worker, self._orders.popleft())
        elif worker.at >= len(worker.files):
            self._send(worker, last=True)
        elif not worker.begun:
            self._begin(worker)
        else:
            self._finish(worker)

    def _take(self, worker: Worker, order: Order) -> None:
        worker.assignment = Assignment(order, False, self._world.clock.monotonic())
        worker.files, worker.at, worker.begun, worker.mark = order.files, 0, False, None

    def _begin(self, worker: Worker) -> None:
        assert worker.assignment is not None
        file = worker.files[worker.at]
        self._mark(worker, worker.at, file.id)
        worker.begun = True
        order = worker.assignment.order
        if order.copy:  # type: ignore[union-attr]
            self._handler.begin_copy(file)
        elif not order.hash:  # type: ignore[union-attr]
            self._handler.begin(file, order.batch)

    def _mark(self, worker: Worker, index: int, file_id: str) -> None:
        assert worker.assignment is not None
        worker.mark = Mark(worker.assignment.order.batch, index, self._world.clock.monotonic(), file_id)
        worker.marks = [one for one in worker.marks if one.batch != worker.mark.batch] + [worker.mark]

    def _finish(self, worker: Worker) -> None:
        assert worker.assignment is not None
        order, file = worker.assignment.order, worker.files[worker.at]
        worker.at, worker.begun = worker.at + 1, False
        if order.copy:  # type: ignore[union-attr]
            worker.unsent.append(self._handler.copied(file, order.hash))  # type: ignore[union-attr]
        elif order.hash:  # type: ignore[union-attr]
            worker.unsent.append(self._handler.hashed(file))
        else:
            report = self._handler.finish(file)
            if report.ending in (Ending.CRASHED, Ending.TIMED_OUT):
                cause = Cause.DIED if report.ending is Ending.CRASHED else Cause.TIMED_OUT
                self._bury(worker, Death(cause, report.message, file_id=file.id))
                return
            worker.unsent.append(report)
        if worker.at == len(worker.files):
            self._mark(worker, worker.at, file.id)
        if self._world.chance.random() < 0.5 and worker.at < len(worker.files):
            self._send(worker, last=False)

    def _send(self, worker: Worker, *, last: bool) -> None:
        assert worker.assignment is not None
        if worker.unsent or last:
            worker.assignment.accept(worker.unsent, last=last)
            self._report(worker.assignment.order, worker.unsent)  # type: ignore[arg-type]
            worker.unsent = []
        if last:
            worker.assignment = None

    def _report(self, order: Order, reports: list[Report]) -> None:
        self._reports += [(order.batch, report) for report in reports]

    def _bury(self, worker: Worker, death: Death) -> None:
        """It is gone, with what it had not sent; another takes its place. Its mark stays."""
        assert worker.assignment is not None
        self._report(worker.assignment.order, worker.assignment.remains(worker.mark, death))  # type: ignore[arg-type]
        worker.assignment, worker.unsent, worker.begun = None, [], False

    def kill_one(self, arg: int) -> None:
        """A worker dies by itself, or runs out of time, wherever it is."""
        worker = self._workers[arg % len(self._workers)]
        if worker.assignment is not None:
            file = worker.files[worker.at] if worker.begun else None
            self._bury(worker, Death(Cause.DIED, "killed", file_id=file.id if file else ""))

    def drain(self) -> None:
        """The daemon stops: what has not begun is given back, what has may finish, or is cut off."""
        self._closed = True
        orders, self._orders = list(self._orders), deque()
        for order in orders:
            self._report(order, released(order, "the daemon stops"))
        for worker in self._workers:
            while worker.begun and self._world.chance.random() < 0.7:
                self._advance(worker)
            if worker.assignment is not None:
                self._bury(worker, Death(Cause.STOPPED, "the daemon stops"))

    def outlive(self, *, power: bool) -> list[Mark] | None:
        """The daemon is dead: workers may finish the file they are at. Returns the marks that are found then; None when
        the machine was off, too.
        """
        if power:
            return None
        marks: list[Mark] = []
        for worker in self._workers:
            if worker.begun and self._world.chance.random() < 0.7:
                self._finish(worker)
            marks += worker.marks
        return marks
