"""A real pool with real worker processes, its loop in a thread, and the events it emits."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inboxd import events
from inboxd.clock import SystemClock
from inboxd.config.models import Workers
from inboxd.model import Report, new_id
from inboxd.pool.pool import Pool
from inboxd.wire import HandlerSpec, Order, OrderedFile, Setup
from support.wait import wait_until

HANDLERS = Path(__file__).with_name("pool_handlers.py")


class Rig:
    """One pool. `reports` holds what has come back: batch -> reports."""

    def __init__(self, folder: Path, **workers: object) -> None:
        self.folder = folder
        self.workers = Workers(**{"processes": 1, **workers})
        self.news = threading.Event()
        self.pool = Pool(self.workers, self.setup(), folder, SystemClock(), self.news.set, frozenset({"NAMED"}))
        self.reports: dict[str, list[Report]] = defaultdict(list)
        self.told: list[tuple[str, dict[str, object]]] = []
        self.failure: BaseException | None = None
        self._loop = threading.Thread(target=self._run, name="pool")

    def setup(self, **options: object) -> Setup:
        """Each public function of pool_handlers is the handler of an inbox of its name; `batch` takes lists."""
        names = re.findall("^def ([a-z]\\w*)", HANDLERS.read_text(), re.MULTILINE)
        specs = {
            name: HandlerSpec(python=f"pool_handlers:{name}", batch=name.startswith("batch"), options=options)
            for name in names
        }
        return Setup(specs, {}, (str(HANDLERS.parent),))

    def start(self) -> None:
        assert self.pool.start() == {}
        self._loop.start()
        wait_until(lambda: self.pool.idle() == self.workers.count, "all workers to be idle")

    def _run(self) -> None:
        try:
            self.pool.run(lambda: None)
        except BaseException as error:
            self.failure = error

    def order(self, inbox: str, *names: str, hash: str = "") -> Order:
        return Order(new_id(), inbox, tuple(self._file(name) for name in names), hash=hash)

    def _file(self, name: str) -> OrderedFile:
        path = self.folder / f"{new_id()}-{name}"
        path.write_text(name)
        found = path.stat()
        return OrderedFile(
            new_id(), str(path), name, found.st_size, 1, str(path) + "-results",
            dev=found.st_dev, ino=found.st_ino, mtime_ns=found.st_mtime_ns,
        )  # fmt: skip

    def dispatch(self, inbox: str, *names: str) -> Order:
        order = self.order(inbox, *names)
        self.pool.dispatch(order)
        return order

    def collect(self) -> None:
        for batch, report in self.pool.reports():
            self.reports[batch].append(report)

    def outcome(self, order: Order) -> list[Report]:
        """The reports of an order, in the order of its files, once all are there; exactly one each."""

        def complete() -> bool:
            self.collect()
            return len(self.reports[order.batch]) >= len(order.files)

        wait_until(complete, f"{len(order.files)} reports of {order.inbox}")
        found = {report.file_id: report for report in self.reports[order.batch]}
        assert len(found) == len(self.reports[order.batch]) == len(order.files)
        return [found[file.id] for file in order.files]

    def run(self, inbox: str, *names: str) -> list[Report]:
        return self.outcome(self.dispatch(inbox, *names))

    def wait_begun(self, order: Order) -> None:
        """Some file of the order is in progress."""
        wait_until(lambda: any(row["batch"] == order.batch and row["file_id"] for row in self.pool.snapshot()), "a run")

    def pids(self) -> list[int]:
        return [row["pid"] for row in self.pool.snapshot() if row["pid"]]

    def names(self) -> list[str]:
        """The events told so far."""
        return [name for name, _ in self.told]

    def texts(self, event: str) -> list[str]:
        return [str(fields) for name, fields in self.told if name == event]

    def stop(self, grace: float = 5.0) -> None:
        self.pool.drain(grace)
        if self._loop.ident is not None:
            self._loop.join(30)
            assert not self._loop.is_alive(), "the pool's loop does not end"
        self.pool.kill()
        if self.failure is not None:
            raise self.failure


@contextmanager
def rig(folder: Path, **workers: object) -> Iterator[Rig]:
    """A pool with idle workers; afterwards it has left neither processes nor descriptors behind."""
    before = len(os.listdir("/proc/self/fd"))
    made = Rig(folder, **workers)
    events.send_to(lambda event, fields: made.told.append((event.name, fields)))
    try:
        made.start()
        yield made
    finally:
        try:
            made.stop()
        finally:
            events.send_to(lambda event, fields: None)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the eventfd goes with the pool object


def alive(pid: int) -> bool:
    """The process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
