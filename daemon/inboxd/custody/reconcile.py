"""The last step of recovery: work/ and the open rows are made the same set.

Unknown files are adopted, missing ones are LOST, unless they lie where they end. Those that have ended, and are here
again, go on where they were. Results that are to be sent stay, and those that have been go on. What an open row of
another inbox knows is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from inboxd import events
from inboxd.beneath import look, opened
from inboxd.clock import Clock
from inboxd.custody import disk, sidecar
from inboxd.custody.claim import as_found
from inboxd.custody.items import Items
from inboxd.custody.keeper import Keeper, is_success_of_a_source
from inboxd.custody.ledger import Ledger
from inboxd.custody.relics import Place, ended, likeness, relics
from inboxd.custody.sends import Sends
from inboxd.events import emit
from inboxd.items import ItemState
from inboxd.lifecycle import OPEN, as_lost
from inboxd.model import BESIDES, RESULTS, InboxFile, Outcome, State, is_beside, new_id, results_name
from inboxd.sends import OPEN_SENDS, Send
from inboxd.syncing import sync

_ID = re.compile(r"[0-9a-f]{32}")
_GONE = (FileNotFoundError, NotADirectoryError)


class Reconciliation:
    """Of the inboxes, one after the other."""

    def __init__(self, ledger: Ledger, clock: Clock, alive: Callable[[], None], summary: Counter[str]) -> None:
        """`alive` is called at every step; `summary` counts what was done."""
        self._ledger = ledger
        self._items = Items(ledger)
        self._sends = Sends(ledger)
        self._clock = clock
        self._alive = alive
        self._summary = summary

    def run(self, keeper: Keeper) -> None:
        """Entries of work/ and open rows must be the same set."""
        work_fd = keeper.claims.work_fd
        present = {name for name in os.listdir(work_fd) if not is_beside(name)}
        missing: list[InboxFile] = []
        copied: list[InboxFile] = []
        for file in self._ledger.open_files(State.CLAIMED, State.WAITING, State.DECIDED):
            self._alive()
            if file.inbox != keeper.inbox:
                continue
            if file.state is State.DECIDED:
                present.discard(file.work_name)  # if it has not been moved already
                keeper.decided.append(file)
            elif file.work_name in present:
                present.discard(file.work_name)
                found = look(work_fd, file.work_name)
                if found is not None and (found.st_dev, found.st_ino) != (file.dev, file.ino):
                    copied.append(as_found(file, found))
            else:
                missing.append(as_lost(file, self._clock.time()))
        gone_on = self._at_their_ends(keeper, missing) if missing else {}
        missing = [file for file in missing if file.id not in gone_on]
        for file in missing:
            emit(events.FILE_LOST, inbox=file.inbox, file_id=file.id, file=file.below)
        with self._ledger.transaction():
            self._ledger.lose(missing)
            self._ledger.identify(copied)  # by us; or restored from a backup, or on a device with a new number
            self._ledger.decide(list(gone_on.values()))
            self._ledger.deliver(list(gone_on.values()))
            self._items.processed([file.id for file in gone_on.values() if is_success_of_a_source(file)])
        self._summary["lost"] += len(missing)
        self._summary["found where they had ended"] += len(gone_on)
        self._summary["that can't be delivered yet"] += len(keeper.decided)
        present -= self._find(keeper, present)
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

    def _find(self, keeper: Keeper, names: Collection[str]) -> set[str]:
        """Files that have ended and are here again go on under their ids, which their receipts know: those that were
        LOST, and those whose delivery was undone. What was decided is delivered, not run again. Returns their names.

        Before the sweep: what a run has left that succeeded counts again.
        """
        work_fd = keeper.claims.work_fd
        known = [file for name in names if (file := self._known(name)) and file.work_name == name]
        ours = [file for file in known if file.inbox == keeper.inbox]
        lost = [_as_it_lies(work_fd, file) for file in ours if file.state is State.LOST]
        undone = [_as_it_lies(work_fd, file) for file in ours if _was_delivered(keeper, file)]
        if not (lost or undone):
            return set()
        disk.sync_all(work_fd)
        held = [
            file._replace(
                state=State.CLAIMED, attempts=_attempts_of(file),
                reason=file.reason if file.outcome is not None else "found again",
            )
            for file in lost
        ]  # fmt: skip
        decided = [file._replace(state=State.DECIDED) for file in held if file.outcome is not None]
        undone = [file._replace(state=State.DECIDED) for file in undone]
        with self._ledger.transaction():
            self._ledger.find(held)
            self._ledger.decide(decided)
            self._ledger.reopen(undone)
        keeper.decided.extend(decided + undone)
        keeper.deliveries.inherited.update(file.id for file in decided + undone)
        for file in held + undone:
            emit(events.FILE_FOUND, inbox=file.inbox, file_id=file.id, file=file.below)
        self._summary["found again"] += len(held) + len(undone)
        return {file.work_name for file in held + undone}

    def _sweep(self, keeper: Keeper, unknown: Collection[str]) -> None:
        """Sidecar drafts, copies, results of runs that no longer count, and results that have been sent.

        `unknown`: files in work/ without a row.
        """
        work_fd = keeper.claims.work_fd
        for name in [name for name in os.listdir(work_fd) if name.endswith(BESIDES)]:
            disk.drop(work_fd, name)
        with opened(keeper.claims.work.path, RESULTS) as results_fd:
            names = os.listdir(results_fd)
        known = self._sends.of_files(names)
        decided = {file.id for file in keeper.decided}
        for file_id in names:
            self._alive()
            if sends := known.get(file_id):
                if not any(send.state in OPEN_SENDS for send in sends):
                    _finish_sent(keeper, file_id, sends)
            elif file_id in decided or self._is_of_another(keeper, file_id):
                continue
            elif self._counts(file_id, unknown):
                with self._ledger.transaction():
                    self._sends.queue(keeper.deliveries.results.place(file_id) or [])
            else:
                disk.drop(work_fd, results_name(file_id))

    def _counts(self, file_id: str, unknown: Collection[str]) -> bool:
        """These results are of a run that succeeded. Of a file that no row knows, since an older ledger was put back:
        as far as the file has left work/, which it does after its results.
        """
        file = self._known(file_id)
        if file is not None:
            return file.state is State.DONE and file.outcome is Outcome.PROCESSED
        return bool(_ID.fullmatch(file_id)) and not any(name.startswith(file_id) for name in unknown)

    def _is_of_another(self, keeper: Keeper, file_id: str) -> bool:
        """Another inbox is not at its end with this file."""
        file = self._known(file_id)
        return file is not None and file.state in OPEN and file.inbox != keeper.inbox

    def _known(self, name: str) -> InboxFile | None:
        return self._ledger.get(name[:32]) if _ID.match(name) else None

    def _adopt(self, keeper: Keeper, names: Sequence[str]) -> None:
        """Files in work/ that no open row knows: a ledger rolled back, or a retry cut off before its sync.

        One that an open row does know, of an inbox that the configuration has no longer, stays that row's: under a new
        id its receipts would not be found, and what it has done in a database would be done again.
        """
        if names:
            disk.sync_all(keeper.claims.work_fd)
        for name in names:
            self._alive()
            found = look(keeper.claims.work_fd, name)
            if found is None:
                continue
            known = self._known(name)
            if known and known.state in OPEN:
                reason = f"its row is open, and says that it is of inbox {known.inbox}"
                emit(events.FILE_LEFT, inbox=keeper.inbox, file_id=known.id, file=name, reason=reason)
            elif known and known.state is State.DONE and known.outcome is Outcome.ERROR:
                self._finish_retry(keeper, as_found(known, found))
            else:
                self._adopt_one(keeper, name, self._new_row(keeper, name, found, known))

    def _finish_retry(self, keeper: Keeper, row: InboxFile) -> None:
        _drop_old_name(keeper, row)
        with self._ledger.transaction():
            self._ledger.retry([row])
        emit(events.FILE_RETRIED, inbox=row.inbox, file_id=row.id, file=row.below, user="a retry that was cut off")
        self._summary["retries finished"] += 1

    def _adopt_one(self, keeper: Keeper, name: str, row: InboxFile) -> None:
        with self._ledger.transaction():
            self._ledger.announce([row])
        if row.work_name != name:
            disk.rename_new(keeper.claims.work_fd, name, keeper.claims.work_fd, row.work_name)
            sync(keeper.claims.work_fd)
        with self._ledger.transaction():
            self._ledger.claim([row])
        emit(events.FILE_ADOPTED, inbox=keeper.inbox, file_id=row.id, file=row.below)
        self._summary["adopted"] += 1

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


def _as_it_lies(work_fd: int, file: InboxFile) -> InboxFile:
    return as_found(file, os.stat(file.work_name, dir_fd=work_fd, follow_symlinks=False))


def _attempts_of(lost: InboxFile) -> int:
    """What was with a worker when it was lost may have begun, though nobody has counted that."""
    return max(lost.attempts, 1 if lost.started_at else 0)


def _was_delivered(keeper: Keeper, file: InboxFile) -> bool:
    """And is to be once more. An error without its sidecar is here for a retry that was cut off."""
    if file.state is not State.DONE or file.outcome is not Outcome.ERROR:
        return file.state is State.DONE
    folder, name = os.path.split(file.destination or "")
    with contextlib.suppress(*_GONE), opened(keeper.deliveries.folders[Outcome.ERROR], folder) as errors_fd:
        return sidecar.is_beside(errors_fd, name, file.id)
    return False


def _finish_sent(keeper: Keeper, file_id: str, sends: list[Send]) -> None:
    try:
        keeper.deliveries.results.finish(file_id, sends)
    except OSError:
        keeper.sent.append(sends)


def _drop_old_name(keeper: Keeper, file: InboxFile) -> None:
    """A power cut before the sync of a retry may leave both names of it, in work/ and in errors/."""
    folder, name = os.path.split(file.destination or "")
    with contextlib.suppress(*_GONE), opened(keeper.deliveries.folders[Outcome.ERROR], folder) as errors_fd:
        old = look(errors_fd, name)
        if old is not None and (old.st_dev, old.st_ino) == (file.dev, file.ino):
            os.unlink(name, dir_fd=errors_fd)
            sync(errors_fd)
