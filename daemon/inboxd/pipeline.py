"""The way of a file: detect, settle, claim, batch, dispatch, run, decide, deliver.

And of an item of a source: poll, fetch, then claimed like any file, and ack. Results are sent after the delivery.

One thread owns the files and the ledger; `run` is its loop, and `turn` one round of it. Each turn writes down what it
means to do, does it, and writes down what has been done: two commits and one round of syncs serve everything that came
together, and a death between any two lines leaves rows that recovery finishes (custody/recovery.py, docs/recovery.md).

The order of the lines in `turn` is the argument for "nothing is lost". It changes only together with that table.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from inboxd.clock import Clock
from inboxd.custody.claim import Taken, disown
from inboxd.custody.deliver import Moved
from inboxd.custody.disk import why
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.errands import News
from inboxd.errors import LedgerError, LedgerUnavailable
from inboxd.fronts import Fronts, Leaving
from inboxd.homes import Homes
from inboxd.lane import Lane
from inboxd.lifecycle import OPEN
from inboxd.model import InboxFile, Sighting
from inboxd.outage import LEDGER, OUTCOMES, Outages, results_of
from inboxd.questions import Questions
from inboxd.setback import SetBack
from inboxd.story import Story

T = TypeVar("T")

_LOOK = 2000  # directory entries looked at per inbox and turn, so that no inbox holds up the others


class Pipeline:
    """Owns files and ledger. Every method but `ask` and `wake` belongs to the pipeline's own thread."""

    def __init__(self, lanes: Iterable[Lane], ledger: Ledger, fronts: Fronts, clock: Clock, *, durable: bool) -> None:
        self.lanes = {lane.name: lane for lane in lanes}
        self.ledger = ledger
        self.dispatcher, self.errands, self.outbox = fronts
        self.outages = Outages(clock)
        self.draining = False
        self.turns = 0
        self.thread = 0  # whose turns these are
        self._clock = clock
        self._homes = Homes(self.outages, clock)
        self._set_back = SetBack(ledger, self.errands, self.outbox, clock)
        self._durable = durable
        self._story = Story(clock)
        self._wake = threading.Event()
        self._questions = Questions()
        self._retired: Callable[[], None] | None = None
        self._announced: list[tuple[Lane, list[InboxFile]]] = []
        self._taken: list[tuple[Lane, Taken]] = []
        self._moved: list[tuple[Lane, Moved]] = []

    def run(self, stopping: threading.Event) -> None:
        """Turn until `stopping` is set and all that was under way is recorded."""
        self.thread = threading.get_ident()
        try:
            while True:
                self._wake.clear()  # before the turn: what wakes us during it must not be forgotten
                pause = self.turn()
                if stopping.is_set() and self.quiet():
                    return
                self._wake.wait(pause)
        finally:
            self._story.tell(all_of_it=True)

    def turn(self) -> float | None:
        """One turn. Returns seconds until there may be more to do; None: not before somebody wakes us."""
        self.turns += 1
        self._story.tell()
        self._questions.answer()
        self.dispatcher.collect()  # run: a worker did, and reports
        self.errands.collect()  # poll, fetch, ack: likewise
        self.outbox.collect()  # send: likewise
        if self.outages.is_away(LEDGER):
            self.outages.note(OUTCOMES, self.dispatcher.keep())
        if self.outages.must_wait(LEDGER):
            return self.outages.next_try(of=LEDGER)
        try:
            self.ledger.refuse_moved()
            if self.outages.is_away(LEDGER):
                self.ledger.identity()  # it must answer before we say that it is back
            self._set_back.look(self.lanes.values())
            self._homes.look(self.lanes.values(), self._holds_nothing)
            lanes = self.dispatcher.in_turn(self.lanes.values())
            self._refill(lanes)
            sightings = self._detect(lanes)  # detect, settle
            self._intend(sightings)  # decide; announce what will be claimed, sighted or fetched: commit
            self._verify(lanes)  # settle, where contents must be read for it
            self._claim()  # claim: rename into work/
            self._deliver()  # deliver: rename out of work/
            self._finish_sent()  # and results that have been sent
            self._sync()
            self._record()  # batch; claimed, delivered, dispatched: commit; dispatch, to workers and fetchers
            self._finish_retiring()
            if self.outages.is_away(LEDGER):
                disown(self.ledger, self.lanes)
        except LedgerError as error:
            self._story.tell(all_of_it=True)  # before what is told of the ledger
            self.outages.note(OUTCOMES, self.dispatcher.keep())  # what has ended is not run again, should we die now
            if isinstance(error, LedgerUnavailable):
                return self.outages.begin(LEDGER, str(error))
            raise
        self.outages.end(LEDGER)
        self.outages.end(OUTCOMES)  # it knows them now
        return self._next_wake()

    def wake(self) -> None:
        """Any thread: there may be something to do."""
        self._wake.set()

    def ask(self, question: Callable[[], T]) -> Future[T]:
        """Any thread: have `question` answered in the pipeline's thread, between two turns."""
        future = self._questions.ask(question)
        self.wake()
        return future

    def take_back(self, lane: Lane, file: InboxFile) -> None:
        """Move an error back into work/; this turn records it, or the first one that finds the ledger back."""
        if self.outages.is_away(LEDGER):
            raise LedgerUnavailable("the ledger is away: nothing can be taken back just now")
        self._taken.append((lane, lane.take_back(file, self.ledger)))

    def retire(self, names: set[str], then: Callable[[], None]) -> None:
        """Let these inboxes drain under their old rules, and call `then` (in this thread) when they have.

        Where there is nothing to drain, it has been called when this returns, unless the ledger is away.
        """
        for name in names:
            self.lanes[name].retiring = True
        self._retired = then
        try:
            self._finish_retiring()
        except LedgerUnavailable:
            return  # the next turn that comes so far calls it again

    def _finish_retiring(self) -> None:
        then = self._retired
        drained = all(self._is_drained(lane) for lane in self.lanes.values() if lane.retiring)
        unrecorded = self.dispatcher.pending() or self._announced or self._taken or self._moved
        if then is not None and drained and not unrecorded:
            then()  # it may raise LedgerUnavailable, and is called again
            self._retired = None

    def _is_drained(self, lane: Lane) -> bool:
        quiet = all(source.is_quiet for source in self.errands.of(lane)) and not (self.outbox.busy(lane) or lane.sent)
        return lane.drained() and quiet and not (lane.must_be_empty and self.outbox.waits_in(lane))

    def quiet(self) -> bool:
        """Nothing is under way: no batch runs, nothing waits to be recorded or delivered."""
        to_deliver = any(lane.decided and not self.outages.must_wait(lane.name) for lane in self.lanes.values())
        busy = self.dispatcher.busy() or self.errands.busy() or self.outbox.busy()
        return not (busy or self._announced or self._taken or self._moved or to_deliver)

    def _holds_nothing(self, lane: Lane) -> bool:
        """No file of this inbox is, or has been, on its way through work/, and no result of it."""
        here = any(lane is one for one, _ in (*self._announced, *self._taken, *self._moved))
        rows = self.ledger.counts().get(lane.name, {})
        held = here or self.dispatcher.has(lane) or any(rows.get(state) for state in OPEN)
        return not (held or lane.sent or self.outbox.waits_in(lane))

    # The steps of a turn, in their order

    def _refill(self, lanes: Sequence[Lane]) -> None:
        """Files whose wait is over are held again."""
        now = self._clock.time()
        due = [lane for lane in lanes if lane.next_waiting <= now]
        room = self.dispatcher.room(lanes) if due else 0
        for lane in due:
            if lane.may_run(self._clock.monotonic()) and not (self.draining or self.outages.is_away(lane.name)):
                room -= lane.refill(self.ledger, lane.room(room, self.dispatcher.batch_size), now)

    def _detect(self, lanes: Sequence[Lane]) -> list[tuple[Lane, list[Sighting]]]:
        """Complete files that the pool can take soon; the rest stay in inbound/, which is the queue."""
        if self.draining:
            return []
        now, found = self._clock.monotonic(), []
        room = self.dispatcher.room(lanes)
        for lane in lanes:
            if self.outages.is_away(lane.name):
                continue  # what it has finished can't leave: more of it would only pile up in work/
            lane.view.look(_LOOK)
            if not lane.may_claim(now):
                continue
            has_space = lane.has_space(now)
            sightings = lane.view.strange() + lane.view.ready(lane.room(room, self.dispatcher.batch_size))
            if sightings and has_space:
                found.append((lane, sightings))
                room -= len(sightings)
            elif sightings:
                lane.view.put_back(sightings)
        return found

    def _intend(self, sightings: list[tuple[Lane, list[Sighting]]]) -> None:
        """One commit: what reports decide, and what we are about to claim."""
        news, sent = self.errands.news(), self.outbox.news()
        if not (sightings or self.dispatcher.pending() or news or sent):
            return
        now = self._clock.time()
        try:
            concluded = self.dispatcher.conclude(self.ledger, now)
            with self.ledger.transaction():
                concluded.write(self.ledger)
                announced = [(lane, lane.claims.announce(seen, now)) for lane, seen in sightings]
                announced += self._learn(news, now)
                if sent is not None:
                    sent.write(self.outbox.sends)
        except LedgerUnavailable:
            for lane, seen in sightings:
                lane.view.put_back(seen)
            raise
        if concluded.concluded:
            failpoint("decide.recorded")
        if announced:
            failpoint("claim.announced")
        self._announced += announced
        self._story.concluded(self.dispatcher.apply(concluded))
        if news is not None:
            failpoint("fetch.learned")
            self.errands.apply(news)
        if sent is not None:
            self.outbox.apply(sent)

    def _learn(self, news: News | None, now: float) -> list[tuple[Lane, list[InboxFile]]]:
        """In the open transaction: what sources have, and the files that their items become."""
        if news is None:
            return []
        news.write(self.errands.items)
        return [(lane, lane.claims.announce_fetched(brought, now)) for lane, brought in news.brought()]

    def _verify(self, lanes: Sequence[Lane]) -> None:
        """Have files read that a checksum speaks for. Reports ask for it, too: so it comes after `_intend`."""
        now = self._clock.monotonic()
        for lane in lanes:
            if lane.digest and lane.may_claim(now) and not (self.draining or self.outages.is_away(lane.name)):
                self.dispatcher.verify(lane)

    def _claim(self) -> None:
        """Rename what is announced, and copies. An OSError that comes up here is fatal: only recovery can judge it."""
        for lane, files in self._announced:
            taken = lane.claims.take(files)
            lane.held.extend(taken.claimed)
            lane.note_taken(taken, self._clock.monotonic())
            self._taken.append((lane, taken))
        self._announced.clear()
        for lane in self.lanes.values():
            if lane.copied and not lane.away:
                self._taken.append((lane, lane.take_copies(self._clock.monotonic())))

    def _deliver(self) -> None:
        """Rename what is decided. While the folder that it goes to is away it stays in work/, decided."""
        for lane in self.lanes.values():
            if not lane.decided or self.outages.must_wait(lane.name):
                continue
            moved = lane.deliveries.move(lane.decided, with_results=lane.with_results)
            done = moved.ids()
            left = [file for file in lane.decided if file.id not in done]
            error = moved.outage if left else None  # what is delivered waits for nothing any more
            if error is not None:
                place = error.filename or lane.rules.folder("work")
                self.outages.begin(lane.name, f"{lane.name}: no delivery: {place}: {why(error, lane.work)}")
            elif self.outages.end(lane.name):
                lane.view.rescan()  # nobody has looked meanwhile
            if done:
                lane.decided = left
                lane.with_results -= done.difference(file.id for file in moved.redirected)
                self._moved.append((lane, moved))

    def _finish_sent(self) -> None:
        """Bring results to outbound/ whose every send has come to an end. Recovery does it again if we don't."""
        for lane in self.lanes.values():
            results = results_of(lane.name)
            if lane.away or not lane.sent or self.outages.must_wait(results):
                continue
            try:
                lane.finish_sent()
            except OSError as error:
                reason = f"{lane.name}: results can't be brought to outbound/: {why(error, lane.work)}"
                self.outages.begin(results, reason)
            else:
                self.outages.end(results)

    def _sync(self) -> None:
        """Make renames and claimed bytes durable. A failure is fatal: fsync is never tried again on the same data."""
        if not self._durable:
            return
        for lane, taken in self._taken:
            lane.claims.sync(taken)
        if self._taken:
            failpoint("claim.synced")
        for lane, moved in self._moved:
            lane.deliveries.sync(moved)
        if self._moved:
            failpoint("deliver.synced")

    def _record(self) -> None:
        """One commit: what is claimed, delivered, and going out now. Then it goes."""
        leaving = self._form()
        if not (leaving or self._taken or self._moved):
            return
        try:
            with self.ledger.transaction():
                self._write_down(leaving)
        except LedgerUnavailable:
            self.dispatcher.unform(leaving.batches)
            self.errands.unform(leaving.errands)
            self.outbox.unform(leaving.results)
            raise
        self._pass_failpoints(leaving.batches)
        for batch in leaving.batches:
            self.dispatcher.dispatch(batch)
        for errand in leaving.errands:
            failpoint(f"{errand.verb}.recorded")
            self.errands.dispatch(errand)
        for result in leaving.results:
            failpoint("send.recorded")
            self.outbox.dispatch(result)
        self._follow()

    def _form(self) -> Leaving:
        """What may go out now. Batches last: for the others the ledger is read, and it may have gone away."""
        if self.draining:
            return Leaving()
        errands = self.errands.form()
        try:
            results = self.outbox.form()
        except LedgerUnavailable:
            self.errands.unform(errands)
            raise
        return Leaving(self.dispatcher.form(self.lanes.values()), errands, results)

    def _write_down(self, leaving: Leaving) -> None:
        """In the open transaction."""
        for lane, taken in self._taken:
            lane.claims.record(taken)
        self.errands.record(self._taken)
        for lane, moved in self._moved:
            lane.deliveries.record(moved, self._clock.time())
            self.errands.delivered(moved.delivered)
        leaving.write(self.ledger, self.errands.items, self.outbox.sends)

    def _follow(self) -> None:
        """The commit is through: memory follows, and the journal hears of it."""
        for lane, taken in self._taken:
            lane.decided.extend(taken.quarantined())
            self.errands.recorded(taken)
            self._story.claimed(taken)
        for lane, moved in self._moved:
            lane.decided.extend(moved.redirected)
            lane.progress.done(len(moved.delivered) + len(moved.lost), self._clock.monotonic())
            if not lane.unfinished():
                lane.progress.rest()
            self.outbox.queued(moved.sends)
            self._story.delivered(lane.name, moved.delivered)
        self._taken.clear()
        self._moved.clear()

    def _pass_failpoints(self, batches: Sequence[object]) -> None:
        if self._taken:
            failpoint("claim.recorded")
        if any(taken.returned for _lane, taken in self._taken):
            failpoint("retry.recorded")
        if self._moved:
            failpoint("deliver.recorded")
        if any(moved.redirected for _lane, moved in self._moved):
            failpoint("deliver.redirected")
        if batches:
            failpoint("dispatch.recorded")

    def _next_wake(self) -> float | None:
        if self.dispatcher.pending():
            return 0.0  # a hash has come in whose twin is still to be looked for
        errands = math.inf if self.draining else min(self.errands.next_wake(), self.outbox.next_wake())
        now, wall = self._clock.monotonic(), self._clock.time()
        room = self.dispatcher.room(self.lanes.values())
        moments = [
            lane.next_wake(now, wall, lane.room(room, self.dispatcher.batch_size), draining=self.draining)
            for lane in self.lanes.values()
            if not self.outages.is_away(lane.name)
        ]
        if any(lane.decided and not self.outages.must_wait(lane.name) for lane in self.lanes.values()):
            moments.append(now)
        elif self.outages.reasons():
            untried = {results_of(lane.name) for lane in self.lanes.values() if lane.away}
            moments.append(now + self.outages.next_try(but=untried))
        soonest = min(errands, self._story.due, *moments)
        return None if soonest == math.inf else max(0.0, soonest - now)
