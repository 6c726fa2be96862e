"""The loop that keeps all children: one selector over sockets, pidfds, pipes, and wake-ups from elsewhere."""

from __future__ import annotations

import math
import selectors
import sys
from collections.abc import Callable
from functools import partial

from inboxd.clock import Clock
from inboxd.errors import PreconditionError
from inboxd.pool.child import Launch
from inboxd.pool.crew import Crew
from inboxd.pool.exchange import Exchange
from inboxd.pool.fetchers import Fetchers
from inboxd.pool.orphans import Orphans
from inboxd.pool.slot import Ground, Slot
from inboxd.pool.states import ChildState
from inboxd.pool.terms import Terms
from inboxd.wire import Order, Setup

_MOST_EARLY_DEATHS = 3  # at start, before any worker was ready
_STANDSTILL = 3.0  # seconds by which we are woken too late when it was no mere load
_SWEEP_AGAIN = 1.0  # seconds until orphans are looked for again, when it could not be seen which are nobody's
_LAST_SPAN = 2.0  # seconds that killed processes get to disappear at the end
_WORKER, _FETCHER = "inboxd.work.worker", "inboxd.fetch.fetcher"

Turn = Callable[[], float | None]


class Supervisor:
    """Starts, feeds, watches, recycles and ends children, in the thread that calls `start` and `run`."""

    def __init__(self, launch: Launch, clock: Clock, *fetchers: Fetchers) -> None:
        self._launch = launch
        self._clock = clock
        self._fetchers = fetchers
        self._selector = selectors.DefaultSelector()
        self._orphans = Orphans(self._selector)
        self._grace: float | None = None  # asked for by `drain`, from any thread
        self._draining = False
        self._stop_at = math.inf  # monotonic seconds when the grace is over
        self._sweep_at = math.inf  # monotonic seconds of the next look for orphans
        self._closed = False
        self.crews: dict[str, Crew] = {}  # the workers by the name "", fetchers by that of their source or destination

    def employ(self, workers: Terms, setup: Setup, exchange: Exchange) -> None:
        """The workers; before `start`."""
        self._add("", Crew(self._ground("worker", _WORKER, "", workers, exchange), setup, on_demand=False))

    def _ground(self, title: str, module: str, marks: str, terms: Terms, exchange: Exchange) -> Ground:
        return Ground(
            title, module, marks, terms, self._clock, exchange, self._selector, self._launch, self._sweep_within
        )

    def _add(self, name: str, crew: Crew) -> None:
        self._selector.register(crew.exchange.event_fd, selectors.EVENT_READ, lambda _mask: crew.exchange.woken())
        self.crews[name] = crew

    def renew(self, setup: Setup, workers: Terms, secrets: frozenset[str]) -> None:
        """Any thread: start workers with `setup` from now on; those that run are recycled."""
        self._launch.secrets = secrets  # first, so that no worker with the new set-up has seen them
        self.crews[""].renew(setup, workers)
        self.wakeup()

    def drain(self, grace: float) -> None:
        """Any thread: end, with `grace` seconds for files in progress. A second call can only shorten it."""
        self._grace = grace
        self.wakeup()

    def wakeup(self) -> None:
        """Make the loop turn once. A signal handler may call it."""
        self.crews[""].exchange.wakeup()

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
        self._match_sources()
        for crew in self.crews.values():
            crew.turn(self._clock.monotonic())
        self._wait(turn())
        for crew in self.crews.values():
            crew.tend(self._clock.monotonic())
        self._end_grace()
        self._sweep()

    # Its steps

    def _begin_draining(self) -> None:
        grace, self._grace = self._grace, None
        if grace is None:
            return
        self._draining = True
        self._stop_at = min(self._stop_at, self._clock.monotonic() + grace)
        for crew in self.crews.values():
            crew.drain("the daemon stops")

    def _match_sources(self) -> None:
        """A crew for each source and destination that has one kept; the others end."""
        kept = {name: one for fetchers in self._fetchers for name, one in fetchers.kept.items()}
        for name, crew in list(self.crews.items()):
            if not name or (name in kept and kept[name].exchange is crew.exchange):
                continue
            if not crew.draining:
                crew.drain("its partner's section has changed, or is gone")
            if crew.is_gone():
                self._selector.unregister(crew.exchange.event_fd)
                crew.exchange.tell()
                del self.crews[name]
        for name, source in kept.items():
            crew_of_it = self.crews.get(name)
            if crew_of_it is not None and crew_of_it.exchange is source.exchange:
                crew_of_it.renew(source.setup, source.terms)
            elif crew_of_it is None and not self._draining:
                ground = self._ground(f"fetcher of {name}", _FETCHER, f"{name}-", source.terms, source.exchange)
                self._add(name, Crew(ground, source.setup, on_demand=True))

    def _wait(self, wanted: float | None) -> None:
        """Serve what the kernel has to say, or wait for it until something is due."""
        due = min(self._sweep_at, self._stop_at, *(crew.due() for crew in self.crews.values()))
        now = self._clock.monotonic()
        timeout = max(0.0, min(due - now, math.inf if wanted is None else wanted))
        ready = self._selector.select(None if timeout == math.inf else timeout)
        late = self._clock.monotonic() - now - timeout
        if late > _STANDSTILL:
            self._forgive(late)
        for key, mask in ready:
            key.data(mask)

    def _forgive(self, seconds: float) -> None:
        """So long all stood still, workers with us, as in a virtual machine that is paused: no limit counts that."""
        self._stop_at += seconds
        for slot in self._slots():
            slot.forgive(seconds)

    def _end_grace(self) -> None:
        if self._clock.monotonic() >= self._stop_at:
            self._stop_at = math.inf
            for crew in self.crews.values():
                crew.kill()

    def _sweep_within(self, seconds: float) -> None:
        """A child has left (0), or has finished an order: what they started may still be there."""
        self._sweep_at = min(self._sweep_at, self._clock.monotonic() + seconds)

    def _sweep(self) -> None:
        if self._clock.monotonic() < self._sweep_at:
            return
        self._sweep_at = math.inf
        children = {slot.child: slot for slot in self._slots() if slot.child is not None}
        at_work = {child.token: _began(slot) for child, slot in children.items() if slot.state is not ChildState.IDLE}
        ours = {child.pid for child in children}
        try:
            told_apart = self._orphans.sweep(ours, at_work, partial(self._sweep_within, 0.0))
        except OSError:  # no descriptor is left, for the moment
            told_apart = False
        if not told_apart:
            self._sweep_within(_SWEEP_AGAIN)

    def _slots(self) -> list[Slot]:
        return [slot for crew in self.crews.values() for slot in crew.slots]

    # Its beginning and its end

    def _first_answer(self) -> dict[str, str] | None:
        return next((slot.broken for slot in self.crews[""].slots if slot.broken is not None), None)

    def _give_up_if_hopeless(self) -> None:
        slots = self.crews[""].slots
        if sum(slot.restarts.early for slot in slots) >= _MOST_EARLY_DEATHS:
            words = next((slot.last_words for slot in slots if slot.last_words), "it printed nothing")
            raise PreconditionError(
                f"no worker process can be started; the last one said: {words.strip()[-2000:]}",
                hint="mend that, and see that the package inboxd can be imported by " + sys.executable,
            )

    def _ended(self) -> bool:
        return self._draining and all(crew.is_gone() for crew in self.crews.values())

    def close(self) -> None:
        """Kill what there is; nothing of ours stays behind that SIGKILL can end. Harmless the second time."""
        if self._closed:
            return
        self._closed = self._draining = True
        for crew in self.crews.values():
            crew.draining = True
            crew.exchange.close()
            crew.kill()
        self._sweep_at = deadline = self._clock.monotonic()
        deadline += _LAST_SPAN
        self._sweep()
        while (not self._ended() or self._orphans.dying) and self._clock.monotonic() < deadline:
            for key, mask in self._selector.select(deadline - self._clock.monotonic()):
                key.data(mask)
            self._sweep()
        for slot in self._slots():
            slot.forsake()
        self._orphans.close()
        self._selector.close()
        for crew in self.crews.values():
            crew.exchange.tell()


def _began(slot: Slot) -> float:
    """The uptime from which on the worker may have started processes that it needs; never for one that has to end, nor
    for a fetcher, which starts none.
    """
    has_order = slot.assignment is not None and isinstance(slot.assignment.order, Order)
    return slot.began if has_order or slot.state is ChildState.STARTING else math.inf


def _no_turn() -> None:
    return None
