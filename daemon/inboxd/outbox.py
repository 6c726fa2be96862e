"""Between the pipeline and the fetchers of destinations: which results go out, and what their reports change.

As errands.py for sources: reads of the ledger happen here, writes only through the records that `news` and `form`
return, inside the pipeline's transactions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from inboxd.batching import together
from inboxd.clock import Clock
from inboxd.custody.failpoints import failpoint
from inboxd.custody.sends import Sends
from inboxd.destination import Destination
from inboxd.errors import LedgerUnavailable
from inboxd.items import SOURCE_FAULTS
from inboxd.lane import Lane
from inboxd.model import Ending, Report, new_id
from inboxd.sends import OPEN_SENDS, JudgedSend, Send, judge_send
from inboxd.sendstory import SendStory
from inboxd.wire import Errand

_ANSWERED = frozenset({Ending.DONE, Ending.FAILED})  # the destination did, for better or worse
_OURS = "Unreadable"  # fetch/errors.py: the result can't be read here, and nobody was asked
_AT_ONCE = 25  # for each fetcher, read from the ledger


class FetchersFront(Protocol):
    """What the outbox knows of the fetchers."""

    def free(self, source: str) -> int:
        """How many errands it would take now."""

    def dispatch(self, errand: Errand) -> list[tuple[str, Report]]:
        """Have it done; what it returns can't be done any more."""

    def reports(self) -> list[tuple[str, Report]]:
        """What has been reported since the last call: (batch id, report)."""


@dataclass(slots=True)
class Going:
    """Results on their way to a fetcher: the new records."""

    destination: Destination
    sends: list[Send]
    verb: str = "send"

    def write(self, ledger: Sends) -> None:
        """Counted, before anybody may hear of it."""
        ledger.change("send", self.sends)


@dataclass(slots=True)
class Sent:
    """What reports change, before and after it is committed."""

    reports: list[tuple[str, Report]]
    judged: list[tuple[Destination, Report, JudgedSend]] = field(default_factory=list)
    ended: list[tuple[Lane, list[Send]]] = field(default_factory=list)  # all of a file's

    def write(self, ledger: Sends) -> None:
        """In the open transaction."""
        for verb in ("wait", "finish", "abandon"):
            ledger.change(verb, [one.send for _destination, _report, one in self.judged if one.verb == verb])
        lanes = {
            one.send.file_id: destination.lane for destination, _report, one in self.judged if one.verb == "finish"
        }
        self.ended = [(lanes[file_id], all) for file_id, all in ledger.of_files(lanes).items() if not is_open(all)]


class Outbox:
    """Hands results to the fetchers of their destinations, and judges what comes back."""

    def __init__(self, fetchers: FetchersFront, sends: Sends, clock: Clock) -> None:
        self.destinations: dict[str, Destination] = {}
        self.sends = sends
        self._fetchers = fetchers
        self._clock = clock
        self._reported: list[tuple[str, Report]] = []
        self._running: dict[str, tuple[Destination, set[str]]] = {}
        self._story = SendStory(clock)

    def busy(self, lane: Lane | None = None) -> bool:
        """Something (of this inbox) is out, or has come back and is not recorded."""
        of_it = [one for one in self.destinations.values() if lane is None or one.lane is lane]
        return any(destination.sending for destination in of_it)

    def waits_in(self, lane: Lane) -> bool:
        """Results of it lie in work/. Reads the ledger."""
        return self.sends.waits_in(lane.name)

    def collect(self) -> None:
        """A turn begins: take in what the fetchers have to report."""
        self._reported += self._fetchers.reports()
        if self._reported:
            failpoint("send.reported")

    # What reports change

    def news(self) -> Sent | None:
        """Judge what has been reported; changes nothing yet."""
        if not self._reported:
            return None
        now, sent = self._clock.time(), Sent(list(self._reported))
        for batch, told in self._reported:
            destination, _left = self._running[batch]
            send = destination.sending[told.file_id]
            report = _unblamed(destination, send, told)
            judged = judge_send(send, report, destination.limits, now)
            sent.judged.append((destination, report, judged))
        return sent

    def apply(self, sent: Sent) -> None:
        """The commit is through: memory follows."""
        failpoint("send.learned")
        for batch, report in sent.reports:
            destination, left = self._running[batch]
            left.discard(report.file_id)
            if not left:
                del self._running[batch]
        del self._reported[: len(sent.reports)]
        for destination, report, judged in sent.judged:
            self._note(destination, report)
            del destination.sending[judged.send.id]
            if judged.verb == "wait":
                destination.look(judged.send.not_before)
            self._story.judged(destination, report, judged)
        for lane, sends in sent.ended:
            lane.sent.append(sends)

    def _note(self, destination: Destination, report: Report) -> None:
        """What it says of the destination, its breaker has to know."""
        if report.ending in SOURCE_FAULTS:
            self._story.fault(destination, report, destination.access.failed(report))
        elif report.begun and report.ending in _ANSWERED and report.error_class != _OURS:
            self._story.works(destination, destination.access.worked())
        else:
            destination.access.released()

    # Which results go out

    def queued(self, sends: Iterable[Send]) -> None:
        """These are in the ledger now."""
        for name in {send.destination for send in sends}:
            if name in self.destinations:
                self.destinations[name].look()

    def form(self) -> list[Going]:
        """For every destination that has a fetcher free: what is due. Raises LedgerUnavailable."""
        going: list[Going] = []
        try:
            for destination in self.destinations.values():
                room = min(self._fetchers.free(destination.name), destination.access.room())
                if room > 0 and self._clock.time() >= destination.look_at and _may_send(destination.lane):
                    going += self._for_one(destination, room)
        except LedgerUnavailable:
            self.unform(going)
            raise
        return going

    def _for_one(self, destination: Destination, room: int) -> list[Going]:
        now, parallel = self._clock.time(), destination.rules.parallel
        limit = parallel * _AT_ONCE + len(destination.sending)
        found = self.sends.due(destination.name, now, limit)
        if len(found) < limit:
            destination.look_at = self.sends.next_due(destination.name, now) or math.inf
        due = [send._replace(attempts=send.attempts + 1) for send in found if send.id not in destination.sending]
        errands = [Going(destination, some) for some in together(due, lambda send: send.size, parallel)][:room]
        destination.sending |= {send.id: send for errand in errands for send in errand.sends}
        if sum(len(errand.sends) for errand in errands) < len(due):
            destination.look()
        return errands

    def unform(self, going: Iterable[Going]) -> None:
        """The commit failed: nothing has gone out."""
        for one in going:
            for send in one.sends:
                del one.destination.sending[send.id]
            one.destination.look()

    def dispatch(self, going: Going) -> None:
        """To a fetcher, now that the ledger knows."""
        destination, batch = going.destination, new_id()
        self._running[batch] = (destination, {send.id for send in going.sends})
        destination.access.began(going.verb)
        orders = tuple(destination.ordered(send) for send in going.sends)
        errand = Errand(batch, destination.lane.name, destination.name, going.verb, orders)
        self._reported += self._fetchers.dispatch(errand)

    def next_wake(self) -> float:
        """Monotonic seconds when there may be something to do, other than reports."""
        if self._reported:
            return 0.0
        return min((self._wake_of(destination) for destination in self.destinations.values()), default=math.inf)

    def _wake_of(self, destination: Destination) -> float:
        if self._fetchers.free(destination.name) <= 0 or not _may_send(destination.lane):
            return math.inf  # a report will wake us, or the disk's return
        left = max(0.0, destination.look_at - self._clock.time())
        return max(destination.access.rests_until(), self._clock.monotonic() + left)


def is_open(sends: Iterable[Send]) -> bool:
    """Some of them have not come to an end."""
    return any(send.state in OPEN_SENDS for send in sends)


def _may_send(lane: Lane) -> bool:
    return not (lane.retiring and not lane.must_be_empty) and not lane.away


def _unblamed(destination: Destination, send: Send, report: Report) -> Report:
    """A fetcher calls a result gone, or can't read it; but it may be the disk that has gone, or had gone then."""
    gone, unreadable = report.ending is Ending.REJECTED, report.error_class == _OURS
    if not (gone or unreadable):
        return report
    path = destination.ordered(send).path
    is_back = gone and os.path.isfile(path) and not os.path.islink(path)
    if destination.lane.claims.work.is_home() and not is_back:
        return report
    return report._replace(ending=Ending.RELEASED, message="its disk went away while it was sent")
