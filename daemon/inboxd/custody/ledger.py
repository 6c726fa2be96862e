"""The record of every file. One thread, one connection; each change is a compare-and-set that must hit its rows.

Verbs take records that hold the *new* values, inside `transaction()`. A verb that misses a row raises LedgerConflict,
and the transaction takes everything back.

When the server dies inside COMMIT nobody knows what became of the transaction. Its rows are *doubtful* then, until a
later transaction that touches them is committed: only they may be in the state that a verb leads to already, because
the caller says the whole transaction again. What is said last counts, also in the totals and in the failures.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Table, exists, select

from inboxd.clock import Clock
from inboxd.custody.engine import translated
from inboxd.custody.failpoints import failpoint
from inboxd.custody.opening import Opening
from inboxd.custody.reading import Reads
from inboxd.custody.rows import failure_values
from inboxd.custody.schema import failures, files, sends
from inboxd.custody.statements import Statement, Statements, literal, target
from inboxd.errors import LedgerConflict
from inboxd.model import Failure, InboxFile, State

_SLICE = 500  # ids named in one statement
_NAMED = 5  # rows named in an error


class Ledger(Reads):
    """Used by the pipeline's thread, and by recovery before that thread begins."""

    def __init__(self, url: str, durability: str, clock: Clock) -> None:
        super().__init__(url, durability)
        self._clock = clock
        self._statements = Statements(self._engine.dialect)

    @classmethod
    def open(cls, url: str, durability: str, clock: Clock, known: Path | None = None) -> Ledger:
        """Open and migrate. Raises LedgerRefused (damaged, foreign, newer, vanished) or LedgerUnavailable.

        `known`: the file that remembers which ledger is ours; beside a SQLite ledger unless given.
        """
        opening = Opening(url, known)
        opening.prepare()
        ledger = cls(url, durability, clock)
        try:
            with translated(opening.place):
                opening.finish(ledger._connected())
        except BaseException:
            ledger.close()
            raise
        return ledger

    # Verbs

    def announce(self, announced: Sequence[InboxFile]) -> None:
        """New rows, CLAIMING."""
        sure, doubtful = self._parted(announced)
        self._statements.announce.run(self.driver(), sure)
        self._touched.announced.update((file.id, file) for file in sure if not file.attempts)  # a new row says 0
        if doubtful:
            self._statements.announce_again.run(self.driver(), doubtful)

    def claim(self, claimed: Sequence[InboxFile]) -> None:
        """-> CLAIMED: accepted. A doubtful one may have gone further in the commit whose fate is unknown."""
        self._uncount_doubtful(claimed)
        self._change("claim", claimed)

    def abandon(self, gone: Sequence[InboxFile]) -> None:
        """-> ABANDONED: never ours. Ends now where the record does not say when."""
        now = self._clock.time()
        self._change("abandon", [file if file.finished_at else file._replace(finished_at=now) for file in gone])

    def dispatch(self, dispatched: Sequence[InboxFile]) -> None:
        """-> RUNNING: counted before the worker hears of it."""
        self._change("dispatch", dispatched)

    def release(self, released: Sequence[InboxFile]) -> None:
        """-> CLAIMED: given back."""
        self._change("release", released)

    def wait(self, waiting: Sequence[InboxFile]) -> None:
        """-> WAITING: again, not before a moment."""
        self._change("wait", waiting)

    def decide(self, decided: Sequence[InboxFile]) -> None:
        """-> DECIDED: outcome and destination are fixed; counted in the totals."""
        self._uncount_doubtful(decided)
        self._change("decide", decided)
        if decided:
            self._count(Counter((file.inbox, str(file.outcome), file.size) for file in decided), 1)

    def hurry(self, inbox: str, now: float) -> None:
        """WAITING stays WAITING, due at once, where the last attempt began later than `now` (wall clock, seconds)."""
        waiting = (files.c.state == literal(State.WAITING), files.c.inbox == inbox, files.c.started_at > now)
        self.writer().execute(files.update().where(*waiting).values(not_before=0.0))

    def redirect(self, redirected: Sequence[InboxFile]) -> None:
        """DECIDED stays DECIDED, bound for another name."""
        self._must_hit("redirect", self._statements.redirect, redirected, State.DECIDED)

    def identify(self, copied: Sequence[InboxFile]) -> None:
        """Files that are ours are other files now, with other numbers, and perhaps another size. Their states stay."""
        self._must_hit("identify", self._statements.identify, copied, State.CLAIMED)

    def deliver(self, delivered: Sequence[InboxFile]) -> None:
        """-> DONE."""
        self._change("deliver", delivered)

    def lose(self, lost: Sequence[InboxFile]) -> None:
        """-> LOST; what was decided leaves the totals."""
        self._uncount([file.id for file in lost], State.DECIDED)
        self._change("lose", lost)

    def retry(self, retried: Sequence[InboxFile]) -> None:
        """A delivered error begins anew, CLAIMED; it leaves the totals, with the size that it was counted with."""
        self._uncount([file.id for file in retried], State.DONE)
        self._change("retry", retried)

    def reopen(self, undone: Sequence[InboxFile]) -> None:
        """DONE files are in work/ again: DECIDED as they were, to be delivered once more."""
        self._change("reopen", undone)

    def find(self, found: Sequence[InboxFile]) -> None:
        """LOST files are in work/ again: CLAIMED, with the outcome that they had, if any, to be decided once more."""
        self._change("find", found)

    def failed(self, failed: Sequence[Failure]) -> None:
        """Lines of history."""
        if not failed:
            return
        keys = {(failure.file_id, failure.attempt, failure.at) for failure in failed}
        repeated = {key[:2] for key in keys}
        stale = [key for key in self._doubtful.failures if key[:2] in repeated]
        self._statements.unfailed.run_plain(self.driver(), list(stale))
        self._statements.failed.run_plain(self.driver(), [failure_values(failure) for failure in failed])
        self._touched.failures |= keys.union(stale)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove DONE rows, with their failures and all that was sent: their files are gone by policy."""
        for some in _slices(ids):
            gone = files.delete().where(files.c.id.in_(some), files.c.state == literal(State.DONE))
            left = exists().where(files.c.id == failures.c.file_id)
            self.writer().execute(gone)
            self.writer().execute(failures.delete().where(failures.c.file_id.in_(some), ~left))
            kept = exists().where(files.c.id == sends.c.file_id)
            self.writer().execute(sends.delete().where(sends.c.file_id.in_(some), ~kept))

    def dialect_insert(self, table: Table) -> Any:
        """INSERT as this kind of database has it, with ON CONFLICT."""
        return self._statements.insert(table)

    def dismiss(self, ids: Sequence[str]) -> None:
        """Remove DONE rows as an operator says; they leave the totals as well."""
        self._uncount(ids, State.DONE)
        self.forget(ids)

    # How

    def _change(self, verb: str, changed: Sequence[InboxFile]) -> None:
        if not changed:
            return
        sure, doubtful = self._parted(changed)
        if verb == "claim":
            sure = self._accept(sure)
        self._must_hit(verb, self._statements.change[verb], sure, target(verb))
        if doubtful:
            self._must_hit(verb, self._statements.again[verb], doubtful, target(verb))
        failpoint(f"files.{verb}")

    def _accept(self, claimed: Sequence[InboxFile]) -> list[InboxFile]:
        """-> CLAIMED, those whose rows say all about them already; returns the others."""
        said = self._touched_before.announced
        as_said = [file for file in claimed if said.get(file.id) is file]
        self._must_hit("claim", self._statements.accept, as_said, State.CLAIMED)
        return [file for file in claimed if said.get(file.id) is not file]

    def _parted(self, changed: Sequence[InboxFile]) -> tuple[Sequence[InboxFile], Sequence[InboxFile]]:
        """Rows that we know, and doubtful ones."""
        self._touched.files.update(file.id for file in changed)
        doubt = self._doubtful.files
        if not doubt:
            return changed, ()
        return [file for file in changed if file.id not in doubt], [file for file in changed if file.id in doubt]

    def _must_hit(self, verb: str, statement: Statement, changed: Sequence[InboxFile], state: State) -> None:
        """Raises LedgerConflict when rows are not as we believe; LedgerRefused when a damaged tree hides them."""
        hit = statement.run(self.driver(), changed)
        if hit == len(changed):
            return
        self.refuse_damage()
        query = select(files.c.id, files.c.state)
        ids = [file.id for file in changed]
        states = {row.id: row.state for some in _slices(ids) for row in self.rows(query.where(files.c.id.in_(some)))}
        # What stands in the wanted state was hit, or had come there before: it is named only when nothing else is.
        wrong = [one for one in ids if states.get(one) != state] or ids
        named = ", ".join(f"{one} is {states.get(one, 'unknown')}" for one in wrong[:_NAMED])
        more = ", …" if len(wrong) > _NAMED else ""
        raise LedgerConflict(f"{verb}: {hit} of {len(changed)} rows were as expected; {named}{more}")

    def _uncount_doubtful(self, changed: Sequence[InboxFile]) -> None:
        if self._doubtful.files:
            self._uncount(self._doubtful.files.intersection(file.id for file in changed), State.DECIDED)

    def _uncount(self, ids: Collection[str], state: State) -> None:
        """Take rows out of the totals as they were counted, if they are in `state`."""
        for some in _slices(ids):
            query = select(files.c.inbox, files.c.outcome, files.c.size)
            counted = self.rows(query.where(files.c.id.in_(some), files.c.state == literal(state)))
            self._count(Counter((row.inbox, row.outcome, row.size) for row in counted), -1)

    def _count(self, sizes: Counter[tuple[str, str, int]], sign: int) -> None:
        """`sizes`: how many files of an inbox had an outcome and a size."""
        more: dict[tuple[str, str], list[int]] = {}
        for (inbox, outcome, size), number in sizes.items():
            total = more.setdefault((inbox, outcome), [0, 0])
            total[0] += sign * number
            total[1] += sign * number * size
        self._statements.count.run_plain(self.driver(), [(*key, *total) for key, total in sorted(more.items())])


def _slices(ids: Collection[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(itertools.islice(rest, _SLICE)):
        yield some
