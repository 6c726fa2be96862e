"""All that the pipeline knows of one inbox while it runs: its lane."""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from inboxd import events
from inboxd.batching import cut, shares
from inboxd.clock import Clock
from inboxd.conclude import conclude
from inboxd.config.models import Checksum, Inbox
from inboxd.custody.claim import Claims, Taken
from inboxd.custody.deliver import Deliveries
from inboxd.custody.keeper import Keeper
from inboxd.custody.ledger import Ledger
from inboxd.custody.results import Bound, Results
from inboxd.custody.takeback import take_back
from inboxd.events import emit
from inboxd.intake.inbox import InboxView
from inboxd.intake.match import Matcher
from inboxd.lifecycle import Limits
from inboxd.model import Concluded, Ending, InboxFile, Outcome, Report, State
from inboxd.progress import Progress
from inboxd.sends import Send
from inboxd.space import Space
from inboxd.wire import LARGEST_FILES, size_at_most

_ALL = 1 << 31
_DEADLY = frozenset({str(Ending.CRASHED), str(Ending.TIMED_OUT)})  # how a run ends that takes its worker along
_REST_FIRST, _REST_LONGEST = 1.0, 60.0  # seconds an inbox rests while what its handler needs is away


@dataclass(slots=True)
class Twins:
    """Files that wait because another one with their content is running (duplicates policy)."""

    running: dict[str, str] = field(default_factory=dict)  # sha256 -> id of the file that runs
    parked: dict[str, list[InboxFile]] = field(default_factory=dict)  # sha256 -> those that wait for it


class Lane:
    """One inbox: its view, its custody, what is held in memory, and whether it may go on."""

    def __init__(self, name: str, rules: Inbox, view: InboxView, ledger: Ledger, space: Space, clock: Clock) -> None:
        self.name = name
        self.rules = rules
        self.view = view
        self.limits: Limits = rules.retry.limits
        self.claims = Claims(rules.folder("inbound"), rules.folder("incoming"), rules.folder("work"), ledger)
        self.deliveries = Deliveries(
            {
                Outcome.PROCESSED: rules.folder("processed"),
                Outcome.ERROR: rules.folder("errors"),
                Outcome.QUARANTINE: rules.folder("quarantine"),
            },
            Results(
                name, rules.folder("outbound"), self.claims.work_fd, _bound(rules), clock, keep=rules.sent == "keep"
            ),
            self.claims.work_fd,
            ledger,
        )
        self.progress = Progress(clock.monotonic())
        self.held: deque[InboxFile] = deque()  # in work/, to be dispatched
        self.copied: list[InboxFile] = []  # in work/, and so is the copy that is to take their place
        self.decided: list[InboxFile] = []  # DECIDED in the ledger, to be delivered
        self.with_results: set[str] = set()  # ids of decided files whose handler left results, or may have
        self.sent: deque[list[Send]] = deque()  # all sends of a file, ended: its results may leave work/
        self.halves: deque[list[InboxFile]] = deque()  # batches that failed as a whole, or died, cut in two
        self.twins = Twins()
        self.served = 0  # the turn in which a worker last got something of it
        self.running = 0  # batches
        self.running_files = 0
        self.retrying = 0  # files that wait in the ledger for their next attempt
        self._due: set[str] = set()  # ids in `held` that the ledger still calls WAITING
        self.next_waiting = math.inf  # wall clock seconds
        self.paused: str | None = None
        self.away = ""  # why its work/ can't be reached by its path
        self.broken = False  # paused by itself, since its handler can't be run; a reload lifts that
        self.retiring = False  # takes nothing new: the configuration has changed
        self.must_be_empty = False  # before it ends: its successor has another work/
        self.space = space
        self.lacks = ""  # what its handler needs and was away when it was last tried, in words
        self._rest_until = 0.0
        self._rest = 0.0
        self._work_length = len(str(self.work))

    @property
    def work(self) -> Path:
        return self.rules.folder("work")

    @property
    def condition(self) -> str:
        """How inbound/ is looked at; or that the inbox is away, and why."""
        if self.away:
            return f"away: {self.work}: {self.away}"
        looked_at = self.view.condition
        return "drains for a reload" if self.retiring and not looked_at.startswith("away") else looked_at

    def trouble(self) -> str:
        """Why it takes nothing, where an operator has not said so: in words, with what to look at; "" when it does."""
        if self.condition.startswith("away"):
            return self.condition
        if self.space.low is not None:
            return f"nothing is claimed: {self.space.low}"
        if self.paused and self.broken:
            return self.paused
        return f"little is run: {self.lacks}" if self.lacks and self.unfinished() else ""

    def keeper(self) -> Keeper:
        """What recovery needs of this inbox."""
        return Keeper(
            self.name, self.rules.folder("inbound"), self.claims, self.deliveries, self.judge, self.decided, self.sent
        )  # fmt: skip

    def judge(self, file: InboxFile, report: Report, now: float) -> Concluded:
        """What follows from a report, by the rules of this inbox. `now`: wall clock, seconds."""
        return conclude(file, report, self.limits, self.rules.layout, now, together=self.rules.handler.batch)

    def unfinished(self) -> int:
        """Files that are known here and have not come to an end. Any thread."""
        halves = sum(map(len, self.halves))
        parked = sum(map(len, self.twins.parked.values()))
        under_way = len(self.held) + halves + parked + self.running_files + len(self.decided)
        return self.view.backlog + under_way + self.retrying

    def drained(self) -> bool:
        """Nothing of this inbox is under way; what is held by a pause waits for its successor in the ledger."""
        empty = not (self.held or self.halves)
        waits = empty and self.next_waiting == math.inf if self.must_be_empty else empty or self.paused is not None
        return waits and not (self.running or self.copied or self.decided or self.twins.parked)

    def may_run(self, now: float) -> bool:
        """Held files may be dispatched."""
        return self.paused is None and not self.away and now >= self._rest_until

    def may_claim(self, now: float) -> bool:
        """New files may be taken."""
        return self.may_run(now) and not self.retiring

    def has_space(self, now: float) -> bool:
        """There is room on the disk for what we might take; says so when that changes."""
        return self.space.enough(now)

    def room(self, room: int, batch_size: int) -> int:
        """How many files this inbox may claim, given room for so many in the pool; one, where even that was refused."""
        if self.space.refused:
            room = min(room, 1)
        if self.rules.parallel is None:
            return max(0, room)
        return max(0, min(room, (self.rules.parallel - self.running) * batch_size - len(self.held)))

    def load(self, ledger: Ledger) -> None:
        """At start: take up what recovery left."""
        self.held.extend(ledger.claimed(self.name, _ALL))
        self.retrying = ledger.counts().get(self.name, {}).get(State.WAITING, 0)
        self.next_waiting = ledger.next_waiting(0.0).get(self.name, math.inf)

    def refill(self, ledger: Ledger, room: int, now: float) -> int:
        """Bring back files whose wait is over (`now`: wall clock); returns how many."""
        if room <= 0 or now < self.next_waiting:
            return 0
        limit = room + len(self._due)
        rows = ledger.waiting(self.name, now, limit)
        due = [file for file in rows if file.id not in self._due and not ledger.doubts(file.id)]
        self.held.extend(due)
        self.retrying -= len(due)
        self._due.update(file.id for file in due)
        if len(rows) < limit:
            self.next_waiting = ledger.next_waiting(now).get(self.name, math.inf)
        return len(due)

    def dispatched(self, files: list[InboxFile], *, recorded: bool) -> None:
        """A batch has gone to the pool; `recorded`: as RUNNING. One that is only hashed is what it was."""
        self.running += 1
        self.running_files += len(files)
        if recorded:
            self._due.difference_update(file.id for file in files)

    def note_taken(self, taken: Taken, now: float) -> None:
        """Announced files that could not be had. Those that can't be moved wait apart, so that nobody waits for them.

        Unless the folders have gone, or the disk is full, or work/ is closed to us: then nothing is wrong with
        the files, and all of us wait.
        """
        if taken.shortage is not None:
            self.space.refuse(taken.shortage, now)
            self.view.rescan()
            return
        if taken.claimed or taken.strange:
            self.space.grant(now)
        stuck = [file for file in taken.gone if file.source is None and "can't be" in (file.reason or "")]
        if stuck and not self.claims.work.is_home():
            self.away = "its disk has gone"  # for the moment: homes.py has a closer look
            return
        if stuck and not self.claims.work.may_be_written():
            self.rest(now)
            self.view.rescan()
            return
        for file in stuck:
            self.view.set_aside(file)

    @property
    def digest(self) -> str:
        """The kind of checksum that settles files here; "" where none does."""
        return self.rules.settle.checksum if isinstance(self.rules.settle, Checksum) else ""

    def take_hashed(self) -> list[InboxFile]:
        """Held files whose content is known, by a checksum file or an earlier look: their twins must be looked for."""
        if self.rules.duplicates.policy == "process":
            return []
        known = [file for file in self.held if file.sha256 and file.size and not self.wants_copy(file)]
        hashed = [file for file in known if self.twins.running.get(file.sha256 or "") != file.id]
        if hashed:
            taken = {file.id for file in hashed}
            self.held = deque(file for file in self.held if file.id not in taken)
        return hashed

    def take_back(self, file: InboxFile, ledger: Ledger) -> Taken:
        """An error of ours is held again. Raises as `custody.takeback.take_back`."""
        back = take_back(file, self.rules.folder("errors"), self.claims.work_fd, ledger)
        self.held.append(back)
        return Taken(returned=[back])

    def take_copies(self, now: float) -> Taken:
        """Put copies in the places of their files, which may run then. Where that can't be done, all of us rest."""
        taken = self.claims.replace(self.copied)
        if not all(file.copied for file in taken.copied):
            self.rest(now)
        self.held.extend(taken.copied)
        self.copied.clear()
        return taken

    def run_or_park(self, file: InboxFile) -> None:
        """A hashed file without a twin in the ledger: run it, unless its twin is running now."""
        assert file.sha256 is not None  # hashed
        if file.sha256 in self.twins.running:
            self.twins.parked.setdefault(file.sha256, []).append(file)
        else:
            self.twins.running[file.sha256] = file.id
            self.held.append(file)

    def run_is_over(self, file: InboxFile) -> None:
        """The files that waited for its content are looked at afresh."""
        self._due.discard(file.id)
        if file.sha256 and self.twins.running.get(file.sha256) == file.id:
            del self.twins.running[file.sha256]
            self.held.extend(self.twins.parked.pop(file.sha256, []))

    def bisect(self, files: list[InboxFile]) -> None:
        """A batch failed as a whole, or died: run its halves apart, so that the guilty file ends up alone."""
        files = sorted(files, key=lambda file: file.id)
        middle = (len(files) + 1) // 2
        self.halves.extend(half for half in (files[:middle], files[middle:]) if half)

    def next_wake(self, now: float, wall: float, room: int, *, draining: bool) -> float:
        """Monotonic seconds when there may be something to do here, other than reports."""
        if self.away:
            return now  # it has just been noticed
        if draining or self.paused is not None:
            return math.inf
        if now < self._rest_until:
            return self._rest_until
        if room <= 0:
            return math.inf  # a report will wake us
        moments = [now + max(0.0, self.next_waiting - wall)]
        if not self.retiring:
            moments += [max(self.view.next_wake() or math.inf, self.space.look_again), self.space.next_look]
        return min(moments)

    def rest(self, now: float, lacks: str = "") -> float:
        """What the handler needs is away: wait, longer each time; returns the span in seconds."""
        self.lacks = lacks
        self._rest = min(max(_REST_FIRST, self._rest * 2), _REST_LONGEST)
        self._rest_until = now + self._rest
        return self._rest

    def resting(self, now: float) -> str:
        """Why it rests, in words; "" when it does not."""
        if self.retiring:
            return "a reload changes it when it has finished what it has"
        left = self._rest_until - now
        return f"what it needs was away; it goes on in {left:.1f} s" if left > 0 else ""

    def rested(self) -> None:
        """A run has come through: forget earlier outages."""
        self._rest, self.lacks = 0.0, ""

    def pause(self, reason: str, *, broken: bool = False) -> None:
        """Take and run nothing until `resume`, or, where the handler is `broken`, until a reload."""
        self.paused, self.broken = reason, broken
        emit(events.INBOX_PAUSED, inbox=self.name, reason=reason)

    def resume(self) -> None:
        """Go on after a pause."""
        self.paused, self.broken = None, False
        self._rest_until = 0.0
        emit(events.INBOX_RESUMED, inbox=self.name)

    def batches_allowed(self, room: int) -> int:
        """How many more batches this inbox may have under way, given room for so many in the pool.

        One, while nothing has come through since what it needs was away: no more workers wait for that.
        """
        most = 1 if self._rest else self.rules.parallel
        return room if most is None else max(0, min(room, most - self.running))

    def wants_hash(self, file: InboxFile) -> bool:
        """The duplicates policy needs the content's hash first; empty files are nobody's duplicate."""
        return self.rules.duplicates.policy != "process" and file.sha256 is None and file.size > 0

    def wants_copy(self, file: InboxFile) -> bool:
        """Its uploader may still write to it. What has run was copied before, as is what this life has copied."""
        return self.rules.claim == "copy" and not (file.copied or file.attempts or file.source)

    def purpose_of(self, file: InboxFile) -> str:
        """What a worker has to do with it next."""
        return "copy" if self.wants_copy(file) else "hash" if self.wants_hash(file) else "run"

    @property
    def copies_with(self) -> str:
        """The digest that is wanted of a copy; "" where nobody asks what is in it."""
        return "sha256" if self.digest == "sha256" or self.rules.duplicates.policy != "process" else ""

    def form(self, idle: int, room: int, batch_size: int) -> list[list[InboxFile]]:
        """Take batches out of what is held. A batch is in the order of its ids, as recovery counts on."""
        room = self.batches_allowed(room)
        batches: list[list[InboxFile]] = []
        while self.halves and len(batches) < room:
            batches.append(self.halves.popleft())
        idle, room = max(0, idle - len(batches)), room - len(batches)
        sizes = cut(len(self.held), idle, room, batch_size)
        parts = [part for size in sizes for part in self._by_need([self.held.popleft() for _ in range(size)])]
        self.held.extendleft(file for part in reversed(parts[room:]) for file in reversed(part))
        return batches + parts[:room]

    def _by_need(self, batch: list[InboxFile]) -> list[list[InboxFile]]:
        """Files to be copied or hashed first go in a batch of their own; one that has killed its worker goes alone.

        So nobody else's file is cut off more than once by the same culprit. None is larger than an order can be.
        """
        alone = [[file] for file in batch if file.reason in _DEADLY]
        parts: dict[str, list[InboxFile]] = {"run": [], "copy": [], "hash": []}  # what is ready goes first
        for file in batch:
            if file.reason not in _DEADLY:
                parts[self.purpose_of(file)].append(file)
        ordered = [sorted(part, key=lambda file: file.id) for part in parts.values()]
        return alone + [
            some for part in ordered for some in shares(part, self._size_in_order, len(part), LARGEST_FILES)
        ]

    def _size_in_order(self, file: InboxFile) -> int:
        """Bytes in an order, at most. Its path and that of its results are below work/, its name may be anything."""
        return size_at_most(2 * self._work_length + len(file.folder) + len(file.name))

    def finish_sent(self) -> None:
        """Let results go whose every send has come to an end. Raises the first OSError, after all have been tried."""
        stuck: OSError | None = None
        for _ in range(len(self.sent)):
            sends = self.sent.popleft()
            try:
                self.deliveries.results.finish(sends[0].file_id, sends)
            except OSError as error:
                self.sent.append(sends)
                stuck = stuck or error
        if stuck is not None:
            raise stuck

    def close(self) -> None:
        """Stop looking, and give descriptors back."""
        self.view.stop()
        self.claims.close()


def _bound(rules: Inbox) -> Bound | None:
    """Which destinations are to have a result of this name; None where there are no destinations."""
    if not rules.destinations:
        return None
    matchers = {name: Matcher(one.match, [], False) for name, one in rules.destinations.items()}
    return lambda result: [name for name, matcher in matchers.items() if matcher.takes(os.path.basename(result))]
