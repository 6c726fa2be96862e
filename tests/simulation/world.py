"""Where everything happens: the steps of the daemon are counted, and at each of them the schedule may strike."""

from __future__ import annotations

import errno
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from simulation.calls import Calls, Watch
from simulation.schedule import Schedule
from simulation.tree import Tree, fail

_ANY = frozenset({"open", "create", "read", "write", "fsync", "stat", "list", "unlink", "rename"})
_SPACE = frozenset({"create", "write", "rename"})
_RIGHTS = frozenset({"create", "unlink", "rename"})
#: What a file system may answer, and to which calls.
FAULTS = (
    (errno.EIO, _ANY), (errno.ENOSPC, _SPACE), (errno.EDQUOT, _SPACE), (errno.ESTALE, _ANY),
    (errno.EMFILE, frozenset({"open", "create", "list"})), (errno.EACCES, _RIGHTS), (errno.EROFS, _RIGHTS),
    (errno.EIO, frozenset({"fsync"})), (errno.EIO, frozenset({"rename"})),
)  # fmt: skip
_SPANS = (1, 1, 2, 5, 20, 100)  # how many calls fail
_LONGEST = 400  # steps after which a fault is over, whatever is left of it
_RESTART = 20  # steps that go by until somebody starts it again
_OUTAGES = ("away", "away", "commit lost", "commit unknown", "commit unknown")
_BOOT = 1_790_000_000.0


class Death(BaseException):
    """The process is gone; nothing of it may go on. `power`: and so is the machine's memory."""

    def __init__(self, *, power: bool) -> None:
        super().__init__("power cut" if power else "death")
        self.power = power


class Violation(AssertionError):
    """Something that must never be."""


@dataclass(slots=True)
class Fault:
    """Calls of these kinds fail."""

    errno: int
    calls: frozenset[str]
    left: int
    until: int  # the step at which it is over


class SimClock:
    """inboxd.clock.Clock; moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.shift = _BOOT

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.shift


class World(Watch):
    """One simulation's file system, clock and chance; and what strikes."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.chance = random.Random(schedule.seed)
        self.clock = SimClock()
        self.tree = Tree(schedule.model)
        self.calls = Calls(self.tree, self, self._tick, self.chance.randbytes)
        self.steps = 0
        self.dead: Death | None = None
        self.disturbed = False  # in this life of the daemon something failed, or somebody moved its folders
        self.acts: dict[str, Callable[[int], None]] = {}  # kind of event -> who does it
        self.history: list[str] = []  # for people
        self.verbose = False
        self._events = deque(schedule.events)
        self._until = self._events[0].gap if self._events else 0
        self._fault: Fault | None = None
        self._dies_after: Death | None = None
        self._ledger_away = 0
        self._commit = ""

    def _tick(self) -> int:
        self.clock.now += 1e-4
        return int(self.clock.time() * 1e9)

    def note(self, what: str) -> None:
        """For the story of a replay."""
        if self.verbose:
            self.history.append(f"{self.steps:6d}  {what}")

    @property
    def calm(self) -> bool:
        """Nothing will strike any more."""
        return not (self._events or self._fault or self._ledger_away or self._commit or self._dies_after)

    def heal(self) -> None:
        """What is still to fail, once the schedule is through, does not."""
        if not self._events:
            self._fault = self._dies_after = None
            self._ledger_away, self._commit = 0, ""

    # Steps

    def before(self, name: str) -> None:
        if self.dead is not None:
            raise self.dead
        if name == "close":
            return
        self.step(name)
        fault = self._fault
        if fault is not None:
            if self.steps >= fault.until or not fault.left:
                self._fault = None
            elif name in fault.calls:
                fault.left -= 1
                self.disturbed = True
                self.note(f"{name} fails: {errno.errorcode[fault.errno]}")
                raise fail(fault.errno)

    def after(self, name: str) -> None:
        if self._dies_after is not None:
            death, self._dies_after = self._dies_after, None
            self.note(f"after {name}:")
            self.die(death)

    def step(self, name: str) -> None:
        """One more; whatever is due happens now."""
        self.steps += 1
        self._until -= 1
        while self._events and self._until <= 0:
            event = self._events.popleft()
            self._until = self._events[0].gap if self._events else 0
            self.note(f"before {name}: {event.kind} {event.arg}")
            self._happen(event.kind, event.arg)

    def _happen(self, kind: str, arg: int) -> None:
        if kind in ("die", "cut"):
            death = Death(power=kind == "cut" and self.schedule.durability == "full")
            if arg % 2:
                self._dies_after = death
            else:
                self.die(death)
        elif kind == "fault":
            number, calls = FAULTS[arg % len(FAULTS)]
            span = _SPANS[arg // len(FAULTS) % len(_SPANS)]
            self._fault = Fault(number, calls, span, self.steps + _LONGEST)
        elif kind == "ledger":
            self._break_ledger(_OUTAGES[arg % len(_OUTAGES)], 1 + arg // len(_OUTAGES) % 30)
        elif kind == "clock":
            self._turn_clock(arg)
        elif kind == "flush":
            self.tree.sync_all()
        else:
            self.acts[kind](arg)

    def die(self, death: Death) -> None:
        """Now."""
        self.dead = death
        self.note(str(death))
        raise death

    def revive(self) -> None:
        """A new process, after a while."""
        self.steps += _RESTART
        self.calls.reset()
        self.dead = self._dies_after = None
        self.disturbed = False

    def _turn_clock(self, arg: int) -> None:
        shift = (-60.0, 3600.0, -0.5, 86400.0, 0.0)[arg % 5]
        self.clock.shift += shift
        self.clock.now += arg % 7

    # The ledger

    def _break_ledger(self, how: str, span: int) -> None:
        if how == "away":
            self._ledger_away = span
        else:
            self._commit = how

    def statement(self, text: str, run: Callable[[], object]) -> bool:
        """Before a statement of the ledger is run; True when it has been run here."""
        if self.dead is not None:
            raise self.dead
        self.step(f"statement {text[:40]}")
        if self._ledger_away:
            self._ledger_away -= 1
            self.disturbed = True
            self.note(f"the ledger is away for {text[:40]}")
            raise sqlite3.OperationalError("disk I/O error")
        if text != "COMMIT":
            return False
        how, self._commit = self._commit, ""
        if how == "commit lost":
            self.disturbed = True
            self.note("the commit fails")
            raise sqlite3.OperationalError("disk I/O error")
        run()
        self.acts["committed"](0)
        self.after("COMMIT")
        if how:
            self.disturbed = True
            self.note("the commit is done, and an error comes")
            raise sqlite3.OperationalError("connection lost")
        return True
