"""At every start, before READY: rows and folders are made to agree again.

Each step may be cut off and done again (docs/recovery.md has the table of crash points). Order:

1. CLAIMING rows: in work/ they are ours now; elsewhere the scan will find them again.
2. RUNNING rows: concluded by the report in the outcome log, if the ledger was away when their run ended; else given
   back, or decided when their attempts are used up, by the policy that judges every report. What never began is not
   counted; nobody is blamed for the death of the daemon.
3. DECIDED rows are delivered, but for those of an inbox where that can't be done now: its lane goes on with them.
4. FETCHING items: given back; what has come of them stays, and is gone on from. incoming/ is swept of all else.
5. work/ against the rows, in both directions (reconcile.py).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from inboxd.beneath import look, opened
from inboxd.clock import Clock
from inboxd.custody import disk
from inboxd.custody.claim import Taken, as_found, drop_companions, kind_of, lies_as
from inboxd.custody.failpoints import failpoint
from inboxd.custody.items import Items
from inboxd.custody.keeper import Keeper, is_success_of_a_source, placed
from inboxd.custody.ledger import Ledger
from inboxd.custody.outcomes import Outcomes, Run
from inboxd.custody.reconcile import Reconciliation
from inboxd.custody.sends import Sends
from inboxd.items import ItemState
from inboxd.model import Concluded, Ending, InboxFile, Report, State, new_id
from inboxd.syncing import sync
from inboxd.wire import Mark

_PAGE = 500


class Teller(Protocol):
    """Who tells the journal what became of the files."""

    def concluded(self, concluded: Iterable[Concluded]) -> None:
        """These were judged."""

    def delivered(self, inbox: str, files: Sequence[InboxFile]) -> None:
        """These lie at their destinations."""


class Traces(NamedTuple):
    """What a dead daemon left beside its ledger: how far its workers were, and what runs had come to.

    `marks`: None when nobody can tell what had begun. Then all of it counts as an attempt, else a file that takes the
    whole machine down would be run for ever.
    """

    marks: Sequence[Mark] | None
    outcomes: Outcomes


class Recovery:
    """One pass over everything a dead daemon may have left. Needs the whole state to itself."""

    def __init__(
        self, ledger: Ledger, keepers: dict[str, Keeper], traces: Traces, story: Teller, clock: Clock,
        alive: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`alive` is called at every step, so that a long recovery is not taken for a hanging one."""
        self._ledger = ledger
        self._items = Items(ledger)
        self._sends = Sends(ledger)
        self._alive = alive
        self._keepers = keepers
        self._outcomes = traces.outcomes
        self._story = story
        self._begun_up_to: dict[str, str] = {}
        self._marked = traces.marks is not None
        for mark in traces.marks or ():
            self._begun_up_to[mark.batch] = max(mark.file_id, self._begun_up_to.get(mark.batch, ""))
        self._clock = clock
        self.summary: Counter[str] = Counter()
        self._reconciliation = Reconciliation(ledger, clock, alive, self.summary)

    def run(self) -> None:
        """All steps. Raises LedgerError, OSError: then the daemon does not start, and nothing is worse than before."""
        failpoint("recover.begun")
        self._resolve_claiming()
        failpoint("recover.claiming")
        self._conclude_running()
        failpoint("recover.running")
        if next(self._ledger.open_files(State.RUNNING), None) is not None:
            self._outcomes.owe()
        self._outcomes.clear()
        self._deliver_decided()
        failpoint("recover.decided")
        self._give_back_fetching()
        failpoint("recover.items")
        for keeper in self._keepers.values():
            with placed(keeper):
                self._reconciliation.run(keeper)
        failpoint("recover.work")

    def _pages(self, *states: State) -> Iterator[tuple[Keeper, list[InboxFile]]]:
        rows = (file for file in self._ledger.open_files(*states) if file.inbox in self._keepers)
        while page := list(islice(rows, _PAGE)):
            self._alive()
            for inbox in sorted({file.inbox for file in page}):
                yield self._keepers[inbox], [file for file in page if file.inbox == inbox]

    def _deliver_decided(self) -> None:
        away: set[str] = set()
        while self._any_decided(but=away):
            for keeper, files in self._pages(State.DECIDED):
                if keeper.inbox in away:
                    continue
                keeper.deliveries.inherited.update(file.id for file in files)
                moved = keeper.deliveries.move(files)
                keeper.deliveries.sync(moved)
                with self._ledger.transaction():
                    keeper.deliveries.record(moved, self._clock.time())
                    self._items.processed([file.id for file in moved.delivered if is_success_of_a_source(file)])
                if moved.outage is not None:
                    away.add(keeper.inbox)
                self.summary["delivered"] += len(moved.delivered)
                self._story.delivered(keeper.inbox, moved.delivered)

    def _any_decided(self, *, but: Collection[str]) -> bool:
        counts = self._ledger.counts()
        return any(counts.get(inbox, {}).get(State.DECIDED) for inbox in self._keepers if inbox not in but)

    def _resolve_claiming(self) -> None:
        for keeper, files in self._pages(State.CLAIMING):
            taken = Taken()
            for file in files:
                found = look(keeper.claims.work_fd, file.work_name) or _finish_fetched(keeper, file)
                if found is None:
                    taken.gone.append(file._replace(reason="the daemon stopped before it was taken"))
                else:
                    self._judge(keeper, file, found, taken)
            keeper.claims.renew(taken)
            keeper.claims.sync(taken)
            with self._ledger.transaction():
                keeper.claims.record(taken)
                self._record_items(taken)
            self.summary["claimed"] += len(taken.claimed) + len(taken.strange)
            self.summary["abandoned"] += len(taken.gone)

    def _record_items(self, taken: Taken) -> None:
        """Their files are ours now, or will be others."""
        now, lost = self._clock.time(), [*taken.gone, *taken.strange]
        known = self._items.by_ids([file.id for file in (*taken.claimed, *lost) if file.source is not None])
        claimed = [file for file in taken.claimed if file.id in known]
        held = [known[file.id]._replace(fetched_at=now, size=file.size, attempts=0, failures=0) for file in claimed]
        self._items.hold(held, now)
        gone = [known[file.id] for file in lost if file.id in known]
        self._items.change("release", [item._replace(id=new_id()) for item in gone])

    def _give_back_fetching(self) -> None:
        # What is still CLAIMING is of an inbox that the configuration has no longer: its item waits for that one, too.
        claiming = {file.id for file in self._ledger.open_files(State.CLAIMING)}
        fetching = [item for item in self._items.in_state(ItemState.FETCHING) if item.id not in claiming]
        with self._ledger.transaction():
            self._items.change("release", fetching)
        self.summary["given back to sources"] += len(fetching)
        wanted = {item.part_name for item in self._items.in_state(ItemState.DISCOVERED)}
        for keeper in self._keepers.values():
            _sweep_incoming(keeper.claims.incoming, wanted)

    def _judge(self, keeper: Keeper, file: InboxFile, found: os.stat_result, taken: Taken) -> None:
        """It is in work/. After a power cut its old name may still be there as well."""
        work_fd, ours = keeper.claims.work_fd, as_found(file, found)
        strange = "" if stat.S_ISREG(found.st_mode) else kind_of(found.st_mode)
        with contextlib.ExitStack() as stack:
            try:
                inbound_fd = stack.enter_context(opened(*keeper.claims.place(file)))
            except OSError:  # the uploader has removed the folder, or closed it: nothing can be put back there
                if strange:
                    taken.strange.append(ours._replace(reason=strange))
                else:
                    taken.claimed.append(ours)
                return
            file = _with_companions_of_its_own(file, inbound_fd)
            if strange:
                drop_companions(inbound_fd, file)
                taken.strange.append(ours._replace(reason=strange))
                return
            twin = look(inbound_fd, lies_as(file))
            if twin and twin.st_ino == found.st_ino and found.st_nlink > 1:
                os.unlink(lies_as(file), dir_fd=inbound_fd)
                found = os.stat(file.work_name, dir_fd=work_fd, follow_symlinks=False)
            keeper.claims.judge(inbound_fd, file._replace(dev=found.st_dev), found, taken)

    def _conclude_running(self) -> None:
        """The report that the dead daemon did not record: the one that it kept, or else cut off, or not begun."""
        kept = self._outcomes.read()
        for keeper, files in self._pages(State.RUNNING):
            now = self._clock.time()
            concluded = [keeper.judge(file, self._report(keeper, file, kept), now) for file in files]
            with self._ledger.transaction():
                self._ledger.decide([one.file for one in concluded if one.verb == "decide"])
                self._ledger.wait([one.file for one in concluded if one.verb == "wait"])
                self._ledger.release([one.file for one in concluded if one.verb == "release"])
                self._ledger.failed([one.failure for one in concluded if one.failure])
            self.summary["given back"] += sum(one.verb == "release" for one in concluded)
            self._story.concluded(concluded)

    def _report(self, keeper: Keeper, file: InboxFile, kept: Mapping[Run, Report]) -> Report:
        # What is not in work/ must come to the last step, which calls it lost; unless its handler has removed it.
        there = look(keeper.claims.work_fd, file.work_name) is not None
        report = kept.get(Run.of(file))
        if report is not None and (there or report.ending is Ending.INPUT_CHANGED):
            self.summary["ended while the ledger was away"] += 1
            return report
        message = "cut off: the daemon died while it ran, or before its report was recorded"
        return Report(file.id, Ending.RELEASED, message=message, begun=there and self._begun(file))

    def _begun(self, file: InboxFile) -> bool:
        """A batch is in the order of its ids, so what its mark names and all before it have begun."""
        return not self._marked or file.id <= self._begun_up_to.get(file.batch or "", "")


def _with_companions_of_its_own(file: InboxFile, inbound_fd: int) -> InboxFile:
    """Without those that are younger than its claim: while nobody was here, the next file of its name has come."""
    found = {name: look(inbound_fd, name) for name in file.companions}
    own = tuple(name for name, one in found.items() if one is None or one.st_ctime <= file.claimed_at)
    return file._replace(companions=own)


def _finish_fetched(keeper: Keeper, file: InboxFile) -> os.stat_result | None:
    """An item's bytes were here and verified before its row was announced: what was cut off is the rename alone."""
    if file.source is None:
        return None
    with opened(keeper.claims.incoming) as incoming_fd:
        found = look(incoming_fd, file.part_name)
        if found is None or (found.st_ino, found.st_size) != (file.ino, file.size):
            return None
        disk.rename_new(incoming_fd, file.part_name, keeper.claims.work_fd, file.work_name)
        sync(incoming_fd)
    return look(keeper.claims.work_fd, file.work_name)


def _sweep_incoming(incoming: Path, wanted: Collection[str]) -> None:
    """Listings, and parts of what is no item any more."""
    with opened(incoming) as incoming_fd:
        for name in os.listdir(incoming_fd):
            if name.removesuffix(".from") not in wanted:
                disk.drop(incoming_fd, name)
