"""The pool as the rest of the daemon sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from inboxd.clock import Clock
from inboxd.config.models import Workers
from inboxd.model import Report
from inboxd.pool.child import Launch, prepare_marks
from inboxd.pool.exchange import Exchange
from inboxd.pool.fetchers import Fetchers
from inboxd.pool.generation import GenerationLock
from inboxd.pool.slot import Slot
from inboxd.pool.supervisor import Supervisor, Turn
from inboxd.wire import Mark, Order, Setup, read_mark


class Pool:
    """Worker processes, and the orders they run. Nothing here tells a caller that a worker is local.

    `start`, `run` and `kill` belong to the main thread, which stays in `run`. The rest is for any thread: orders
    and reports pass through an Exchange (one lock, two deques); `renew` and `drain` set attributes that the loop
    reads in its next round; `snapshot` reads each attribute once.
    """

    def __init__(
        self,
        workers: Workers,
        setup: Setup,
        state_dir: Path,
        clock: Clock,
        wake: Callable[[], None],
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        """`wake`: there are reports. `secrets`: names of environment variables that no worker may see."""
        self._workers, self._setup, self._clock = workers, setup, clock
        self._marks = state_dir / "marks"
        self._generation = GenerationLock(state_dir / "generation.lock")
        self._secrets = secrets
        self._exchange = Exchange(workers.count, wake)
        self.fetchers = Fetchers(wake)  # of sources
        self.senders = Fetchers(wake)  # of destinations
        self._supervisor: Supervisor | None = None

    def take_generation(self, timeout: float = 10.0) -> None:
        """Wait until no worker of an earlier daemon is left, as recovery needs it. Raises AlreadyRunning."""
        self._generation.take(timeout)

    def start(self) -> dict[str, str]:
        """Main thread: start the workers; returns the handlers that can't be loaded (inbox -> why).

        Raises AlreadyRunning, and PreconditionError when no worker comes up.
        """
        self.take_generation()
        prepare_marks(self._marks)
        launch = Launch(self._marks, self._generation.fd, self._secrets)
        self._supervisor = Supervisor(launch, self._clock, self.fetchers, self.senders)
        self._supervisor.employ(self._workers, self._setup, self._exchange)
        try:
            return self._supervisor.start()
        except BaseException:
            self._generation.release()
            raise

    def run(self, turn: Turn) -> None:
        """Main thread: the loop, until drained. `turn` is called each round; returns seconds to the next call."""
        assert self._supervisor is not None, "start() comes first"
        try:
            self._supervisor.run(turn)
        finally:
            self._generation.release()

    def kill(self) -> None:
        """Main thread: end everything at once, whatever has come up. Harmless after `run`."""
        if self._supervisor is not None:
            self._supervisor.close()
        self._generation.release()

    def wakeup(self) -> None:
        """Make the loop turn once. A signal handler may call it."""
        self._exchange.wakeup()

    def free(self) -> int:
        """How many orders it would take now: for idle workers, and one ahead for each."""
        return self._exchange.free()

    def idle(self) -> int:
        """Workers without an order, and without one on its way to them."""
        return self._exchange.idle()

    def dispatch(self, order: Order) -> None:
        """Run this. Each file of it gets exactly one report, whatever dies."""
        self._exchange.dispatch(order)

    def reports(self) -> list[tuple[str, Report]]:
        """(batch, report), oldest first; each is handed out once."""
        return self._exchange.take_reports()

    def drain(self, grace: float) -> None:
        """No more orders; what has not begun is given back; files in progress get `grace` seconds.

        Then `run` returns. A second call can only shorten the grace.
        """
        if self._supervisor is not None:
            self._supervisor.drain(grace)

    def renew(self, setup: Setup, workers: Workers | None = None, secrets: frozenset[str] | None = None) -> None:
        """After a reload: each worker is recycled when it has finished its order. Whatever is dispatched after this
        waits for a new one, which has loaded its handlers after this.
        """
        self._setup, self._workers = setup, workers or self._workers
        self._secrets = self._secrets if secrets is None else secrets
        if self._supervisor is not None:
            self._supervisor.renew(self._setup, self._workers, self._secrets)

    def snapshot(self) -> list[dict[str, Any]]:
        """Per worker: slot, state, pid, batch, inbox, file_id, file (its name), since (monotonic seconds), files_done,
        restarts, rss (bytes), cpu (seconds).
        """
        return [self._describe(slot) for slot in list(self._supervisor.crews[""].slots)] if self._supervisor else []

    def errands(self) -> list[dict[str, Any]]:
        """Likewise of each fetcher, with source, verb, size (as announced), and bytes: so much of its item is here."""
        crews = list(self._supervisor.crews.items()) if self._supervisor else []
        fetchers = [(name, slot) for name, crew in crews if name for slot in list(crew.slots) if slot.child]
        return [self._describe_errand(name, slot) for name, slot in fetchers]

    def _describe_errand(self, source: str, slot: Slot) -> dict[str, Any]:
        facts = self._describe(slot)
        return facts | slot.describe_errand(facts["file_id"]) | {"source": source}

    def _describe(self, slot: Slot) -> dict[str, Any]:
        assignment, facts = slot.assignment, slot.describe()
        mark = _mark(self._marks / slot.mark_name)
        file = assignment.current(mark) if assignment else None
        facts["file_id"] = file.id if file else None
        facts["file"] = file.below if file else None
        facts["since"] = mark.since if mark and file else None
        return facts | _usage(facts["pid"])


def _mark(path: Path) -> Mark | None:
    try:
        with path.open("rb") as file:
            return read_mark(file.fileno())
    except FileNotFoundError:
        return None


def _usage(pid: int | None) -> dict[str, Any]:
    try:
        process = psutil.Process(pid) if pid is not None else None
        if process is None:
            return {"rss": 0, "cpu": 0.0}
        with process.oneshot():
            times = process.cpu_times()
            return {"rss": process.memory_info().rss, "cpu": times.user + times.system}
    except (psutil.Error, OSError):  # gone, or no descriptor is left to look with
        return {"rss": 0, "cpu": 0.0}
