"""The loop that keeps the workers: one selector over sockets, pidfds, pipes, and a wake-up from elsewhere."""

from __future__ import annotations

import math
import selectors
import sys
from collections.abc import Callable
from functools import partial

from inboxd.clock import Clock
from inboxd.config.models import Workers
from inboxd.errors import PreconditionError
from inboxd.pool.assignment import Cause, Death
from inboxd.pool.child import Launch
from inboxd.pool.exchange import Exchange
from inboxd.pool.orphans import Orphans
from inboxd.pool.slot import Ground, Slot
from inboxd.pool.states import ChildState
from inboxd.wire import Order, Setup

_MOST_EARLY_DEATHS = 3  # at start, before any worker was ready
_LAST_SPAN = 2.0  # seconds that killed processes get to disappear at the end

Turn = Callable[[], float | None]


class Supervisor:
    """Starts, feeds, watches, recycles and ends the workers, in the thread that calls `start` and `run`."""

    def __init__(self, workers: Workers, setup: Setup, launch: Launch, exchange: Exchange, clock: Clock) -> None:
        self._setup = setup
        self._exchange = exchange
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._orphans = Orphans(self._selector)
        self._grace: float | None = None  # asked for by `drain`, from any thread
        self._draining = False
        self._stop_at = math.inf  # monotonic seconds when the grace is over
        self._sweep_at = math.inf  # monotonic seconds of the next look for orphans
        self._ground = Ground(workers, clock, exchange, self._selector, launch, self._sweep_within)
        self.slots = [Slot(number, self._ground) for number in range(workers.count)]
        self._closed = False
        self._selector.register(exchange.event_fd, selectors.EVENT_READ, lambda _mask: exchange.woken())

    def renew(self, setup: Setup, workers: Workers) -> None:
        """Any thread: start workers with `setup` from now on; those that run are recycled one by one."""
        self._setup = setup
        self._ground.workers = workers
        self._exchange.wakeup()

    def drain(self, grace: float) -> None:
        """Any thread: end, with `grace` seconds for files in progress. A second call can only shorten it."""
        self._grace = grace
        self._exchange.wakeup()

    # The loop

    def start(self) -> dict[str, str]:
        """Start all, wait for the first; returns the handlers it could not load. Raises PreconditionError."""
        try:
            while (broken := self._first_answer()) is None and not self._ended():
                self._round(_no_turn)
                self._give_up_if_hopeless()
        except BaseException:
            self.close()
            raise
        return broken or {}

    def run(self, turn: Turn) -> None:
        """Go on until drained."""
        try:
            while not self._ended():
                self._round(turn)
        finally:
            self.close()

    def _round(self, turn: Turn) -> None:
        """One turn of the loop."""
        self._begin_draining()
        self._match_count()
        self._fill_slots()
        self._renew_one()
        self._hand_over()
        self._exchange.tell()
        self._wait(turn())
        self._tend_slots()
        self._end_grace()
        self._sweep()

    # Its steps

    def _begin_draining(self) -> None:
        grace, self._grace = self._grace, None
        if grace is None:
            return
        self._draining = True
        self._stop_at = min(self._stop_at, self._clock.monotonic() + grace)
        self._exchange.close()
        for slot in self.slots:
            slot.stop("the daemon stops")

    def _match_count(self) -> None:
        """After a reload there may be more workers to keep, or fewer."""
        count = self._ground.workers.count
        if len(self.slots) < count and not self._draining:
            self.slots += [Slot(number, self._ground) for number in range(len(self.slots), count)]
        for slot in self.slots[count:]:
            slot.stop("fewer workers are wanted")
        while len(self.slots) > count and self.slots[-1].state is ChildState.EXITED:
            self.slots.pop()

    def _fill_slots(self) -> None:
        now = self._clock.monotonic()
        for slot in self.slots[: self._ground.workers.count]:
            if slot.state in _EMPTY and slot.due <= now and not self._draining:
                slot.spawn(self._setup)

    def _renew_one(self) -> None:
        """Recycle a worker that has an old set-up, when all the others can work."""
        if all(slot.setup is self._setup or slot.state is ChildState.FATAL for slot in self.slots):
            return
        if all(slot.state in _USEFUL for slot in self.slots):
            idle = [slot for slot in self.slots if slot.state is ChildState.IDLE]
            for slot in [slot for slot in idle if slot.setup is not self._setup][:1]:
                slot.stop("the configuration has changed")

    def _hand_over(self) -> None:
        for slot in self.slots:
            if slot.state is ChildState.IDLE:
                order = self._exchange.next_order(partial(self._fits, slot))
                if order is not None:
                    slot.hand_over(order)
        # One that is starting counts as idle: else a few slow files would all go to the first that is ready.
        idle = sum(slot.state in (ChildState.IDLE, ChildState.STARTING) for slot in self.slots)
        lost = sum(slot.state is ChildState.FATAL for slot in self.slots)
        self._exchange.set_workers(idle, len(self.slots) - lost)

    def _fits(self, slot: Slot, order: Order) -> bool:
        """After a reload, a worker with the old set-up may go on with inboxes that have not changed."""
        old, new = slot.setup, self._setup
        if old is new or old is None:
            return True
        unchanged = old.databases == new.databases and old.path == new.path
        return unchanged and old.handlers.get(order.inbox) == new.handlers.get(order.inbox)

    def _wait(self, wanted: float | None) -> None:
        """Serve what the kernel has to say, or wait for it until something is due."""
        due = min(self._sweep_at, self._stop_at, *(slot.due for slot in self.slots if self._is_due(slot)))
        timeout = min(due - self._clock.monotonic(), math.inf if wanted is None else wanted)
        for key, mask in self._selector.select(None if timeout == math.inf else max(0.0, timeout)):
            key.data(mask)

    def _is_due(self, slot: Slot) -> bool:
        """An empty slot that is not to be filled again wants nothing."""
        return slot.state not in _EMPTY or (not self._draining and slot.number < self._ground.workers.count)

    def _tend_slots(self) -> None:
        now = self._clock.monotonic()
        for slot in self.slots:
            slot.tend(now)

    def _end_grace(self) -> None:
        if self._clock.monotonic() >= self._stop_at:
            self._stop_at = math.inf
            for slot in self.slots:
                slot.kill(_GRACE_OVER)

    def _sweep_within(self, seconds: float) -> None:
        """A child has left (0), or has finished an order: what they started may still be there."""
        self._sweep_at = min(self._sweep_at, self._clock.monotonic() + seconds)

    def _sweep(self) -> None:
        if self._clock.monotonic() < self._sweep_at:
            return
        self._sweep_at = math.inf
        children = {slot.child: slot for slot in self.slots if slot.child is not None}
        at_work = {child.token for child, slot in children.items() if slot.state is not ChildState.IDLE}
        self._orphans.sweep({child.pid for child in children}, at_work, partial(self._sweep_within, 0.0))

    # Its beginning and its end

    def _first_answer(self) -> dict[str, str] | None:
        return next((slot.broken for slot in self.slots if slot.broken is not None), None)

    def _give_up_if_hopeless(self) -> None:
        if sum(slot.restarts.early for slot in self.slots) >= _MOST_EARLY_DEATHS:
            words = next((slot.last_words for slot in self.slots if slot.last_words), "it printed nothing")
            raise PreconditionError(
                f"no worker process can be started; the last one said: {words.strip()[-2000:]}",
                hint="mend that, and see that the package inboxd can be imported by " + sys.executable,
            )

    def _ended(self) -> bool:
        return self._draining and all(slot.state in _GONE for slot in self.slots)

    def close(self) -> None:
        """Kill what there is; nothing of ours stays behind that SIGKILL can end. Harmless the second time."""
        if self._closed:
            return
        self._closed = True
        self._exchange.close()
        self._draining = True
        for slot in self.slots:
            slot.kill(_GRACE_OVER)
        self._sweep_at = deadline = self._clock.monotonic()
        deadline += _LAST_SPAN
        self._sweep()
        while (not self._ended() or self._orphans.dying) and self._clock.monotonic() < deadline:
            for key, mask in self._selector.select(deadline - self._clock.monotonic()):
                key.data(mask)
            self._sweep()
        for slot in self.slots:
            slot.forsake()
        self._orphans.close()
        self._selector.close()
        self._exchange.tell()


_EMPTY = (ChildState.EXITED, ChildState.BACKOFF)
_USEFUL = (ChildState.IDLE, ChildState.BUSY, ChildState.FATAL)
_GONE = (*_EMPTY, ChildState.FATAL)
_GRACE_OVER = Death(Cause.STOPPED, "the daemon stops, and the grace is over")


def _no_turn() -> None:
    return None
