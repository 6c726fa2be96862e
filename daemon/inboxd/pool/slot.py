"""One place of the pool: the child in it, the order that child has, and when it is looked after again."""

from __future__ import annotations

import math
import random
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inboxd import events
from inboxd.clock import Clock
from inboxd.events import Event, emit
from inboxd.pool.assignment import Assignment, Cause, Death, how_it_ended
from inboxd.pool.child import Child, Launch, memory
from inboxd.pool.exchange import Exchange
from inboxd.pool.restarts import Restarts
from inboxd.pool.states import ChildState, follow
from inboxd.pool.terms import Terms
from inboxd.pool.transcript import Transcript
from inboxd.wire import BrokenFrame, Errand, Mark, Message, Note, Order, Ready, Reports, Setup, SourceSetup

START_TIMEOUT = 60.0  # seconds until Ready
EXIT_TIMEOUT = 5.0  # from the request to stop, without a file in progress, to SIGKILL
_AGAIN = 0.5  # from that request to the second one
ABANDON_AFTER = 10.0  # from SIGKILL to giving the slot up
_EOF_GRACE = 1.0  # a dying process closes its socket a moment before its pidfd tells
_DUMP_SPAN = 0.5  # what a hung worker gets to write its traceback
_LOOK = 1.0  # how often the memory of a worker is looked at during a long file
_SWEEP = 10.0  # from a finished order to the look for what it left behind
_NEVER = math.inf

_NOTES = {event.name: event for event in (events.DATABASE_OPENED, events.DATABASE_AWAY, events.HANDLER_OUTPUT)}


@dataclass(slots=True)
class Ground:
    """What all slots of a crew stand on. `terms` are replaced by a reload."""

    title: str  # "worker", or "fetcher of acme"
    module: str  # what a child runs
    marks: str  # what the names of its mark files begin with
    terms: Terms
    clock: Clock
    exchange: Exchange
    selector: selectors.BaseSelector
    launch: Launch
    sweep_within: Callable[[float], None]  # seconds: there may be orphans


class Slot:
    """One place of the pool. Used by the supervisor's thread; others may read its public attributes."""

    def __init__(self, number: int, ground: Ground) -> None:
        self.number = number
        self.title = f"{ground.title} {number}"
        self.mark_name = f"{ground.marks}{number}"
        self.state = ChildState.EXITED
        self.due = -_NEVER  # monotonic seconds when `tend` (or the next start) is due
        self.child: Child | None = None
        self.setup: Setup | SourceSetup | None = None  # what the child was started with
        self.broken: dict[str, str] | None = None  # as Ready said it
        self.assignment: Assignment | None = None
        self.restarts = Restarts()
        self.done = 0  # files of this child
        self.last_words = ""  # of the last child that died
        self.idle_since = 0.0  # monotonic seconds
        self.began = 0.0  # seconds of uptime before its last order, or before this child
        self.fetched = ("", 0)  # the item in progress, and how many bytes of it are here
        self._ground = ground
        self._transcript: Transcript | None = None
        self._verdict: Death | None = None  # why we kill, or are about to
        self._asked = False  # to stop
        self._asked_twice = False
        self._killed = False
        self._given = 0.0  # seconds for each file of the order it has
        self._started = 0.0
        self._spread = 1.0  # of max_files
        self._rss = 0

    # Start

    def spawn(self, setup: Setup | SourceSetup) -> None:
        """Start a child, or wait longer when the machine can't."""
        self.began = self._ground.clock.uptime()
        try:
            child = Child(self.mark_name, self._ground.module, self._ground.launch)
        except OSError as error:
            self._rest(self.restarts.died(early=True), f"it can't be started: {error}")
            return
        self._change("spawn")
        self._begin(child, setup)
        self._send(child, setup)
        emit(events.CHILD_STARTED, child=self.title, pid=child.pid)

    def _begin(self, child: Child, setup: Setup | SourceSetup) -> None:
        self.child, self.setup, self.broken = child, setup, None
        self._verdict, self._asked, self._asked_twice, self._killed = None, False, False, False
        self._transcript = Transcript(self.title, child)
        # Workers that were started together must not all be recycled together.
        self._spread = random.uniform(0.9, 1.1)
        self.done, self._rss = 0, 0
        self._started = self._now()
        self.due = self._started + START_TIMEOUT
        selector = self._ground.selector
        selector.register(child.pidfd, selectors.EVENT_READ, self._on_exit)
        selector.register(child.socket, selectors.EVENT_READ, self._on_socket)
        selector.register(child.output_fd, selectors.EVENT_READ, self._on_output)

    # Work

    def hand_over(self, order: Order | Errand) -> None:
        """IDLE: give the child its next order."""
        assert self.child is not None and self.setup is not None
        self._change("hand over")
        now, self.began = self._now(), self._ground.clock.uptime()
        self.assignment = Assignment(order, self.setup.runs_whole(order), now)
        self.fetched = ("", 0)
        self._given = self._ground.terms.timeout
        self.due = now + min(_LOOK, self._timeout)
        self._send(self.child, order)

    def _send(self, child: Child, message: Setup | SourceSetup | Order | Errand) -> None:
        child.send(message)
        if child.wants_to_send and not child.eof:
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._ground.selector.modify(child.socket, both, self._on_socket)

    def _on_socket(self, mask: int) -> None:
        child = self.child
        if child is None or child.eof:  # it went while its other descriptors were served
            return
        if mask & selectors.EVENT_WRITE:
            child.flush()
            if not child.wants_to_send:
                self._ground.selector.modify(child.socket, selectors.EVENT_READ, self._on_socket)
        if mask & selectors.EVENT_READ:
            self._take_in(child, everything=False)
            if child.eof:
                self._hang_up(child)

    def _hang_up(self, child: Child) -> None:
        self._ground.selector.unregister(child.socket)
        if self.assignment is not None or not self._asked:
            self.due = min(self.due, self._now() + _EOF_GRACE)

    def _take_in(self, child: Child, *, everything: bool) -> None:
        try:
            for message in child.receive_all() if everything else child.receive():
                self._on_message(message)
        except BrokenFrame as error:
            self.kill(Death(Cause.DIED, f"it said what is no message of ours: {error}"))

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Reports):
            self._on_reports(message)
        elif isinstance(message, Ready):
            self._on_ready(message)
        elif isinstance(message, Note) and message.event in ("fetching", "sending"):
            self.fetched = (str(message.fields.get("id")), int(message.fields.get("bytes", 0)))
        elif isinstance(message, Note) and message.event in _NOTES:
            emit(_NOTES[message.event], **message.fields)
        else:
            raise BrokenFrame(f"a child does not say {type(message).__name__!r}")

    def _on_ready(self, message: Ready) -> None:
        self.broken = message.broken
        self.restarts.ready()
        if self.state is not ChildState.STARTING:
            return
        self._change("ready")
        self.due, self.idle_since = _NEVER, self._now()
        emit(events.CHILD_READY, child=self.title, pid=message.pid, seconds=self._now() - self._started)

    def _on_reports(self, message: Reports) -> None:
        assignment = self.assignment
        if assignment is None or assignment.order.batch != message.batch:
            raise BrokenFrame(f"reports for batch {message.batch}, which it does not have")
        assignment.accept(message.reports, last=message.last)
        self._ground.exchange.report(message.batch, message.reports)
        self.restarts.finished()
        self.done += len(message.reports)
        self._rss = message.rss
        if message.last:
            self._finish()
        if message.leaving:
            self.stop("somebody asked it to end")
        self._recycle()

    def _finish(self) -> None:
        if self._transcript is not None:
            self._transcript.pause(self.assignment, self._now())
        self.assignment = None
        self._ground.sweep_within(_SWEEP)
        if self._killed:
            return
        self._verdict = None
        self.due = self._now() + _AGAIN if self._asked else _NEVER
        if self.state is ChildState.BUSY:
            self._change("finish")
            self.idle_since = self._now()

    def _recycle(self) -> None:
        terms = self._ground.terms
        if self._rss > terms.max_memory:
            self.stop(f"{self._rss >> 20} MiB of memory, {terms.max_memory >> 20} MiB allowed")
        elif self.state is ChildState.IDLE and self.done >= terms.max_files * self._spread:
            self.stop(f"{self.done} files")

    # Time

    def tend(self, now: float) -> None:
        """Look after the child, when it is time."""
        if now < self.due or self.child is None:
            return
        if self._killed:
            self._abandon(self.child)
        elif self.state is ChildState.STARTING:
            self.kill(Death(Cause.DIED, f"not ready within {START_TIMEOUT:.0f} s"))
        elif self.child.eof and (self.assignment is not None or not self._asked):
            self.kill(Death(Cause.DIED, "it closed its socket"))
        elif self.assignment is not None:
            self._check_run(self.child, self.assignment, now)
        elif not self._asked_twice:  # what comes just before its read(2) is not noticed before that returns
            self._asked_twice = True
            self.child.signal(signal.SIGTERM)
            self.due = now + EXIT_TIMEOUT - _AGAIN
        else:
            self.kill(Death(Cause.STOPPED, f"asked to end, and still there after {EXIT_TIMEOUT:g} s"))

    def forgive(self, seconds: float) -> None:
        """So long neither the child nor we have run: it has that much more time for whatever it is at."""
        self.due += seconds
        if self.assignment is not None:
            self.assignment.extra += seconds

    @property
    def _timeout(self) -> float:
        """Seconds for each file. A reload that shortens them is for what comes later; a run may need longer now."""
        return max(self._given, self._ground.terms.timeout)

    def _check_run(self, child: Child, assignment: Assignment, now: float) -> None:
        mark = child.mark()
        deadline = assignment.deadline(mark, self._timeout)
        if now >= deadline:
            self._time_out(child, assignment, mark)
            return
        self._verdict = None
        if not self._asked:
            self._rss = memory(child.pid)
            self._recycle()
        self.due = min(now + _LOOK, deadline)

    def _time_out(self, child: Child, assignment: Assignment, mark: Mark | None) -> None:
        """First a traceback on standard error (the worker's faulthandler), a moment later SIGKILL."""
        file = assignment.current(mark)
        text = f"ran longer than {self._timeout:g} s"
        death = Death(Cause.TIMED_OUT, text, file_id=file.id if file else "")
        if self._verdict == death:
            self.kill(death)
            return
        self._verdict = death
        child.signal(signal.SIGQUIT)
        self.due = self._now() + _DUMP_SPAN

    # End

    def stop(self, reason: str = "", told: Event = events.CHILD_RECYCLED) -> None:
        """Let the child finish its file, give the rest back, and end. Harmless when it is ending already.

        Without a `reason` it is not told: it is what becomes of every fetcher that has nothing to do.
        """
        if self.state is ChildState.BACKOFF:
            self._change("exit")
        if self.child is None or self.state in (ChildState.STOPPING, ChildState.FATAL):
            return
        self._change("stop")
        self._asked = True
        self.child.signal(signal.SIGTERM)
        self.due = self._now() + (0.0 if self.assignment is not None else _AGAIN)
        if reason:
            emit(told, child=self.title, pid=self.child.pid, reason=reason)

    def kill(self, death: Death) -> None:
        """SIGKILL for its process group. Harmless when that was done."""
        if self.child is None or self._killed:
            return
        if self.state is not ChildState.STOPPING:
            self._change("stop")
        self._killed, self._verdict = True, death
        self.child.kill()
        self.due = self._now() + ABANDON_AFTER
        idle_at_the_end = death.cause is Cause.STOPPED and self.assignment is None and not self._asked
        self._asked = self._asked or death.cause is Cause.STOPPED
        if not idle_at_the_end:
            emit(events.CHILD_KILLED, child=self.title, pid=self.child.pid, reason=death.text)

    def _abandon(self, child: Child) -> None:
        assert self._verdict is not None and self._transcript is not None
        self._change("abandon")
        self.due = _NEVER
        self._settle(child, self._verdict, self._transcript.tail())
        emit(events.CHILD_STUCK, child=self.title, pid=child.pid)

    def _on_exit(self, _mask: int) -> None:
        """The process has ended: take what it said last, report what it did not, reap it."""
        child, transcript = self.child, self._transcript
        assert child is not None and transcript is not None
        child.kill_group()
        if not child.eof:
            self._take_in(child, everything=True)
        self.last_words = transcript.finish(self.assignment, self._now())
        returncode = child.reap()
        mark = child.mark()
        at = self.assignment.named(mark) if self.assignment else ""
        if mark is not None and mark.at > 0:  # reports of quick files may have died with it
            self.restarts.finished()
        self._settle(child, self._verdict or Death(Cause.DIED, how_it_ended(returncode)), self.last_words)
        self._leave(child)
        self._bury(child.pid, returncode, at)

    def _settle(self, child: Child, death: Death, detail: str) -> None:
        """Report every file that the child has not."""
        assignment, self.assignment = self.assignment, None
        if assignment is not None:
            death = replace(death, detail=detail, pid=child.pid, at=self._now())
            self._ground.exchange.report(assignment.order.batch, assignment.remains(child.mark(), death))

    def _leave(self, child: Child) -> None:
        self._change("exit")
        self.child = None
        selector = self._ground.selector
        for fd in (child.pidfd, child.socket.fileno(), child.output_fd):
            if fd in selector.get_map():
                selector.unregister(fd)
        child.close()
        self._ground.sweep_within(0.0)

    def _bury(self, pid: int, returncode: int, file: str) -> None:
        """Say how it ended, and decide when the next one starts."""
        self.due = -_NEVER
        if self._asked and not file:
            emit(events.CHILD_STOPPED, child=self.title, pid=pid)
            return
        reason = self._verdict.text if self._verdict else how_it_ended(returncode)
        if not self._killed:
            emit(events.CHILD_DIED, child=self.title, pid=pid, reason=reason, file=file or "no file")
        delay = self.restarts.died(early=self.broken is None)
        if delay:
            self._rest(delay, reason)

    def _rest(self, delay: float, reason: str) -> None:
        if self.state is ChildState.EXITED:
            self._change("wait")
        self.due = self._now() + delay
        emit(events.CHILD_BACKOFF, child=self.title, delay=delay, reason=reason)

    def forsake(self) -> None:
        """The pool ends while the process does not: leave it to the kernel and to the next daemon's start."""
        if self.child is not None:
            self._leave(self.child)

    def _on_output(self, _mask: int) -> None:
        child, transcript = self.child, self._transcript
        if child is not None and transcript is not None and not transcript.read(self.assignment, self._now()):
            self._ground.selector.unregister(child.output_fd)

    def _change(self, event: str) -> None:
        self.state = follow(self.state, event)

    def _now(self) -> float:
        return self._ground.clock.monotonic()

    def describe(self) -> dict[str, Any]:
        """For any thread: every fact is read once; the child may be gone a moment later."""
        child, assignment = self.child, self.assignment
        return {
            "slot": self.number,
            "state": self.state.value,
            "pid": child.pid if child else None,
            "batch": assignment.order.batch if assignment else None,
            "inbox": assignment.order.inbox if assignment else None,
            "files_done": self.done,
            "restarts": self.restarts.deaths,
        }

    def describe_errand(self, file_id: str | None) -> dict[str, Any]:
        """Likewise, what a fetcher is doing; `file_id`: of the item in progress."""
        assignment, (fetched, size) = self.assignment, self.fetched
        order = assignment.order if assignment else None
        sizes = {file.id: file.size for file in order.files} if order and file_id else {}
        return {
            "verb": order.verb if isinstance(order, Errand) else None,
            "bytes": size if fetched == file_id else 0,
            "size": sizes.get(file_id or ""),
        }
