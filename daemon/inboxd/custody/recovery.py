"""At every start, before READY: rows and folders are made to agree again.

Each step may be cut off and done again (docs/recovery.md has the table of crash points). Order:

1. CLAIMING rows: in work/ they are ours now; elsewhere the scan will find them again.
2. RUNNING rows: concluded by the report in the outcome log, if the ledger was away when their run ended; else given
   back, or decided when their attempts are used up, by the policy that judges every report. What never began is not
   counted; nobody is blamed for the death of the daemon.
3. DECIDED rows are delivered.
4. FETCHING items: given back; what has come of them stays, and is gone on from. incoming/ is swept of all else.
5. work/ against the rows, in both directions: unknown files are adopted, missing ones are LOST. Results that are to be
   sent stay, and those that have been go on.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from inboxd import events
from inboxd.beneath import look, opened
from inboxd.clock import Clock
from inboxd.custody import disk
from inboxd.custody.claim import Claims, Taken, as_found, kind_of, lies_as
from inboxd.custody.deliver import Deliveries
from inboxd.custody.failpoints import failpoint
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.outcomes import Outcomes, Run
from inboxd.custody.relics import Place, ended, likeness, relics
from inboxd.custody.sends import Sends
from inboxd.events import emit
from inboxd.items import ItemState
from inboxd.model import BESIDES, Concluded, Ending, InboxFile, Outcome, Report, State, new_id
from inboxd.sends import OPEN_SENDS
from inboxd.wire import Mark

_ID = re.compile(r"[0-9a-f]{32}")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Keeper:
    """What recovery needs of one inbox."""

    inbox: str
    inbound: Path
    claims: Claims
    deliveries: Deliveries
    judge: Callable[[InboxFile, Report, float], Concluded]  # what follows from a report; wall clock, seconds


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
            with _placed(keeper):
                self._reconcile(keeper)
        failpoint("recover.work")

    def _pages(self, *states: State) -> Iterator[tuple[Keeper, list[InboxFile]]]:
        rows = (file for file in self._ledger.open_files(*states) if file.inbox in self._keepers)
        while page := list(islice(rows, _PAGE)):
            self._alive()
            for inbox in sorted({file.inbox for file in page}):
                yield self._keepers[inbox], [file for file in page if file.inbox == inbox]

    def _deliver_decided(self) -> None:
        while self._any_decided():
            for keeper, files in self._pages(State.DECIDED):
                moved = keeper.deliveries.move(files)
                keeper.deliveries.sync(moved)
                with self._ledger.transaction():
                    keeper.deliveries.record(moved, self._clock.time())
                    self._items.processed([file.id for file in moved.delivered if _is_success_of_a_source(file)])
                if moved.outage is not None:
                    with _placed(keeper):
                        raise moved.outage
                self.summary["delivered"] += len(moved.delivered)
                self._story.delivered(keeper.inbox, moved.delivered)

    def _any_decided(self) -> bool:
        counts = self._ledger.counts()
        return any(counts.get(inbox, {}).get(State.DECIDED) for inbox in self._keepers)

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
        work_fd = keeper.claims.work_fd
        if not stat.S_ISREG(found.st_mode):
            taken.strange.append(as_found(file, found)._replace(reason=kind_of(found.st_mode)))
            return
        with contextlib.ExitStack() as stack:
            try:
                inbound_fd = stack.enter_context(opened(*keeper.claims.place(file)))
            except OSError:  # the uploader has removed the folder, or closed it: nothing can be put back there
                taken.claimed.append(as_found(file, found))
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
        # What is not in work/ must come to `_reconcile`, which calls it lost; unless its handler has removed it.
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

    def _reconcile(self, keeper: Keeper) -> None:
        """Entries of work/ and open rows must be the same set."""
        work_fd = keeper.claims.work_fd
        present = {name for name in os.listdir(work_fd) if not name.endswith(BESIDES)}
        missing: list[InboxFile] = []
        copied: list[InboxFile] = []
        for file in self._ledger.open_files(State.CLAIMED, State.WAITING):
            self._alive()
            if file.inbox != keeper.inbox:
                continue
            if file.work_name in present:
                present.discard(file.work_name)
                found = look(work_fd, file.work_name)
                if found is not None and (found.st_dev, found.st_ino) != (file.dev, file.ino):
                    copied.append(as_found(file, found))
            else:
                missing.append(file._replace(reason="missing from work/", finished_at=self._clock.time()))
        gone_on = self._at_their_ends(keeper, missing) if missing else {}
        missing = [file for file in missing if file.id not in gone_on]
        for file in missing:
            emit(events.FILE_LOST, inbox=file.inbox, file_id=file.id, file=file.name)
        with self._ledger.transaction():
            self._ledger.lose(missing)
            self._ledger.identify(copied)  # by us; or restored from a backup, or on a device with a new number
            self._ledger.decide(list(gone_on.values()))
            self._ledger.deliver(list(gone_on.values()))
            self._items.processed([file.id for file in gone_on.values() if _is_success_of_a_source(file)])
        self.summary["lost"] += len(missing)
        self.summary["found where they had ended"] += len(gone_on)
        self._sweep(keeper, present)
        self._adopt(keeper, sorted(present))

    def _at_their_ends(self, keeper: Keeper, missing: Sequence[InboxFile]) -> dict[str, InboxFile]:
        """Where an older ledger was put back, files have gone on since: they are not lost, and not run again."""
        wanted = {likeness(file): file for file in missing}
        place = Place(keeper.inbox, keeper.deliveries.folders)
        found = {}
        for relic in relics(place):
            self._alive()
            file = wanted.pop(relic.likeness, None)
            if file is not None:
                found[file.id], _failures = ended(place, relic, file, None)
        return found

    def _sweep(self, keeper: Keeper, unknown: Collection[str]) -> None:
        """Sidecar drafts, copies, results of runs that no longer count, and results that have been sent.

        `unknown`: files in work/ without a row.
        """
        work_fd = keeper.claims.work_fd
        names = [name for name in os.listdir(work_fd) if name.endswith(BESIDES)]
        known = self._sends.of_files([name[:32] for name in names])
        for name in names:
            self._alive()
            file_id = name.removesuffix("-results")
            if sends := known.get(file_id):
                if not any(send.state in OPEN_SENDS for send in sends):
                    keeper.deliveries.results.finish(file_id, sends)
            elif self._counts(file_id, unknown):
                with self._ledger.transaction():
                    self._sends.queue(keeper.deliveries.results.place(file_id) or [])
            else:
                disk.drop(work_fd, name)

    def _counts(self, file_id: str, unknown: Collection[str]) -> bool:
        """These results are of a run that succeeded. Of a file that no row knows, since an older ledger was put back:
        as far as the file has left work/, which it does after its results.
        """
        file = self._ledger.get(file_id) if _ID.fullmatch(file_id) else None
        if file is not None:
            return file.state is State.DONE and file.outcome is Outcome.PROCESSED
        return bool(_ID.fullmatch(file_id)) and not any(name.startswith(file_id) for name in unknown)

    def _adopt(self, keeper: Keeper, names: Sequence[str]) -> None:
        """Files in work/ that no open row knows: a ledger rolled back, or a retry cut off before its sync."""
        if names:
            disk.sync_all(keeper.claims.work_fd)
        for name in names:
            self._alive()
            found = look(keeper.claims.work_fd, name)
            if found is None:
                continue
            known = self._ledger.get(name[:32]) if _ID.match(name) else None
            if known and known.state is State.DONE and known.outcome is Outcome.ERROR:
                self._finish_retry(keeper, as_found(known, found))
            else:
                self._adopt_one(keeper, name, self._new_row(keeper, name, found, known))

    def _finish_retry(self, keeper: Keeper, row: InboxFile) -> None:
        _drop_old_name(keeper, row)
        with self._ledger.transaction():
            self._ledger.retry([row])
        emit(events.FILE_RETRIED, inbox=row.inbox, file_id=row.id, file=row.name, user="a retry that was cut off")
        self.summary["retries finished"] += 1

    def _adopt_one(self, keeper: Keeper, name: str, row: InboxFile) -> None:
        with self._ledger.transaction():
            self._ledger.announce([row])
        if row.work_name != name:
            disk.rename_new(keeper.claims.work_fd, name, keeper.claims.work_fd, row.work_name)
            os.fsync(keeper.claims.work_fd)
        with self._ledger.transaction():
            self._ledger.claim([row])
        emit(events.FILE_ADOPTED, inbox=keeper.inbox, file_id=row.id, file=row.name)
        self.summary["adopted"] += 1

    def _new_row(self, keeper: Keeper, name: str, found: os.stat_result, known: InboxFile | None) -> InboxFile:
        """Under the id that it had, unless that is another row's: what a transaction did for it is not done again."""
        now = self._clock.time()
        row = InboxFile(
            id=new_id(now), inbox=keeper.inbox, folder="", name=name, dev=found.st_dev, ino=found.st_ino,
            size=found.st_size, mtime_ns=found.st_mtime_ns, claimed_at=now, reason="adopted",
        )  # fmt: skip
        if known is not None or not _ID.fullmatch(name.partition(".")[0]):
            return row
        file_id = name[:32]
        row = row._replace(id=file_id, attempts=1, claimed_at=min(now, int(file_id[:12], 16) / 1000))
        item = self._items.by_ids([file_id]).get(file_id)
        if item is None or item.state not in (ItemState.HELD, ItemState.ACK_DUE, ItemState.ACKED):
            return row
        return row._replace(name=item.name, source=item.source)


@contextlib.contextmanager
def _placed(keeper: Keeper) -> Iterator[None]:
    """An error whose call was relative to a folder of this inbox says which inbox it is about."""
    try:
        yield
    except OSError as error:
        if not os.path.isabs(str(error.filename or "")):
            error.filename = str(keeper.claims.work.path)
        raise


def _drop_old_name(keeper: Keeper, file: InboxFile) -> None:
    """A power cut before the sync of a retry may leave both names of it, in work/ and in errors/."""
    folder, name = os.path.split(file.destination or "")
    errors, gone = keeper.deliveries.folders[Outcome.ERROR], (FileNotFoundError, NotADirectoryError)
    with contextlib.suppress(*gone), opened(errors, folder) as errors_fd:
        old = look(errors_fd, name)
        if old is not None and (old.st_dev, old.st_ino) == (file.dev, file.ino):
            os.unlink(name, dir_fd=errors_fd)
            os.fsync(errors_fd)


def _is_success_of_a_source(file: InboxFile) -> bool:
    return file.source is not None and file.outcome is Outcome.PROCESSED


def _finish_fetched(keeper: Keeper, file: InboxFile) -> os.stat_result | None:
    """An item's bytes were here and verified before its row was announced: what was cut off is the rename alone."""
    if file.source is None:
        return None
    with opened(keeper.claims.incoming) as incoming_fd:
        found = look(incoming_fd, file.part_name)
        if found is None or (found.st_ino, found.st_size) != (file.ino, file.size):
            return None
        disk.rename_new(incoming_fd, file.part_name, keeper.claims.work_fd, file.work_name)
        os.fsync(incoming_fd)
    return look(keeper.claims.work_fd, file.work_name)


def _sweep_incoming(incoming: Path, wanted: Collection[str]) -> None:
    """Listings, and parts of what is no item any more."""
    with opened(incoming) as incoming_fd:
        for name in os.listdir(incoming_fd):
            if name.removesuffix(".from") not in wanted:
                disk.drop(incoming_fd, name)
