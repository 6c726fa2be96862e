"""Children of one kind: the workers, or the fetchers of one source. Each has its slots and its exchange.

Workers are kept at all times. Fetchers are started when there is something to do for them, and end when there has been
nothing for a while: a source is asked once a minute or once a day, and its process holds its credentials.
"""

from __future__ import annotations

import math
from functools import partial

from inboxd import events
from inboxd.pool.assignment import Cause, Death
from inboxd.pool.exchange import Exchange
from inboxd.pool.slot import Ground, Slot
from inboxd.pool.states import ChildState
from inboxd.pool.terms import Terms
from inboxd.wire import Setup, SourceSetup

_LINGER = 30.0  # seconds

_EMPTY = (ChildState.EXITED, ChildState.BACKOFF)
_GONE = (*_EMPTY, ChildState.FATAL)
_SOON_IDLE = (ChildState.IDLE, ChildState.STARTING)
GRACE_OVER = Death(Cause.STOPPED, "the daemon stops, and the grace is over")


class Crew:
    """Used by the supervisor's thread, but for `setup` and `terms`, which any thread may replace."""

    def __init__(self, ground: Ground, setup: Setup | SourceSetup, *, on_demand: bool) -> None:
        self.setup = setup
        self.exchange: Exchange = ground.exchange
        self.draining = False
        self._ground = ground
        self._on_demand = on_demand
        self.slots = [Slot(number, ground) for number in range(ground.terms.count)]

    def renew(self, setup: Setup | SourceSetup, terms: Terms) -> None:
        """Any thread: start children with these from now on. What is dispatched after this, no older child gets."""
        self.setup, self._ground.terms = setup, terms

    def drain(self, reason: str) -> None:
        """No more orders; files in progress are finished."""
        self.draining = True
        self.exchange.close()
        for slot in self.slots:
            slot.stop(reason, events.CHILD_ASKED)

    def kill(self) -> None:
        """The grace is over."""
        for slot in self.slots:
            slot.kill(GRACE_OVER)

    def is_gone(self) -> bool:
        """It is draining, and no child is left that SIGKILL could end."""
        return self.draining and all(slot.state in _GONE for slot in self.slots)

    def turn(self, now: float) -> None:
        """Everything that may be due before the supervisor waits. `now`: monotonic seconds."""
        self._match_count()
        self._fill_slots(now)
        self._recycle_old()
        self._hand_over()
        self.exchange.tell()

    def tend(self, now: float) -> None:
        """Everything that may be due after it has waited."""
        for slot in self.slots:
            slot.tend(now)
        if self._on_demand:
            for slot in self.slots:
                if slot.state is ChildState.IDLE and now >= slot.idle_since + _LINGER:
                    slot.stop()

    def due(self) -> float:
        """Monotonic seconds when one of its slots wants to be looked after."""
        return min((self._slot_due(slot) for slot in self.slots), default=math.inf)

    def _slot_due(self, slot: Slot) -> float:
        if slot.state not in _EMPTY:
            lingers = self._on_demand and slot.state is ChildState.IDLE
            return min(slot.due, slot.idle_since + _LINGER) if lingers else slot.due
        # An empty slot that is not to be filled wants nothing.
        kept = not self.draining and slot.number < self._ground.terms.count
        return slot.due if kept and self._is_wanted() else math.inf

    def _match_count(self) -> None:
        """After a reload there may be more children to keep, or fewer."""
        count = self._ground.terms.count
        if len(self.slots) < count and not self.draining:
            self.slots += [Slot(number, self._ground) for number in range(len(self.slots), count)]
        for slot in self.slots[count:]:
            slot.stop("fewer are wanted", events.CHILD_ASKED)
        while len(self.slots) > count and self.slots[-1].state is ChildState.EXITED:
            self.slots.pop()

    def _fill_slots(self, now: float) -> None:
        for slot in self.slots[: self._ground.terms.count]:
            if slot.state in _EMPTY and slot.due <= now and not self.draining and self._is_wanted():
                slot.spawn(self.setup)

    def _is_wanted(self) -> bool:
        """One more child has something to do."""
        return not self._on_demand or self.exchange.waiting() > sum(slot.state in _SOON_IDLE for slot in self.slots)

    def _recycle_old(self) -> None:
        """Those that are idle with an old set-up, all at once: they can do nothing any more."""
        for slot in self.slots:
            if slot.state is ChildState.IDLE and not self._is_current(slot):
                slot.stop("the configuration has changed")

    def _is_current(self, slot: Slot) -> bool:
        """Its child has the set-up that is in force, and has loaded its handlers since then."""
        return slot.setup is self.setup

    def _hand_over(self) -> None:
        for slot in self.slots:
            if slot.state is ChildState.IDLE:
                order = self.exchange.next_order(partial(self._is_current, slot))
                if order is not None:
                    slot.hand_over(order)
        # One that is starting counts as idle: else a few slow files would all go to the first that is ready.
        ready = (*_SOON_IDLE, ChildState.EXITED) if self._on_demand else _SOON_IDLE
        idle = sum(slot.state in ready for slot in self.slots)
        lost = sum(slot.state is ChildState.FATAL for slot in self.slots)
        self.exchange.set_workers(idle, len(self.slots) - lost)
