"""What the writer's own thread asks the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, exists, func, literal_column, or_, select, text, tuple_

from inboxd.custody.engine import damaged
from inboxd.custody.rows import failure_of, file_of, harmless, state_of
from inboxd.custody.schema import failures, files, meta, sends
from inboxd.custody.session import Session
from inboxd.custody.statements import literal
from inboxd.model import Failure, InboxFile, Outcome, State, twin_of

_PAGE = 1000
_OPEN = text("open = 1")
_UNPROCESSED = text("outcome <> 'processed'")  # as its index says


def _is(state: State) -> ColumnElement[bool]:
    return files.c.state == literal(state)


class Reads(Session):
    """Each call is one statement on the writer's connection, inside its transaction if one is open."""

    def _files(self, statement: Any) -> list[InboxFile]:
        with self._speaking():
            return [file_of(row) for row in self._connected().execute(statement).mappings()]

    def rows(self, statement: Any) -> list[Any]:
        """What a statement finds."""
        with self._speaking():
            return list(self._connected().execute(statement))

    def open_files(self, *states: State) -> Iterator[InboxFile]:
        """Rows in these open states, state by state, by inbox and id; a page at a time.

        Rows may change between two pages: one that has left its state by then is not given.
        """
        for state in states:
            after = ("", "")
            while True:
                later = tuple_(files.c.inbox, files.c.id) > after
                query = select(files).where(_OPEN, _is(state), later)
                page = self._files(query.order_by(files.c.inbox, files.c.id).limit(_PAGE))
                yield from page
                if len(page) < _PAGE:
                    break
                after = (page[-1].inbox, page[-1].id)

    def claimed(self, inbox: str, limit: int, after_id: str = "") -> list[InboxFile]:
        """CLAIMED rows of an inbox, oldest id first."""
        query = select(files).where(_OPEN, _is(State.CLAIMED), files.c.inbox == inbox, files.c.id > after_id)
        return self._files(query.order_by(files.c.id).limit(limit))

    def waiting(self, inbox: str, now: float, limit: int) -> list[InboxFile]:
        """WAITING rows whose time has come, the longest due first. `now`: wall clock, seconds."""
        query = select(files).where(_is(State.WAITING), files.c.inbox == inbox, files.c.not_before <= now)
        return self._files(query.order_by(files.c.not_before, files.c.id).limit(limit))

    def next_waiting(self, after: float) -> dict[str, float]:
        """By inbox, the earliest `not_before` later than `after` (wall clock seconds)."""
        query = (
            select(files.c.inbox, func.min(files.c.not_before))
            .where(_is(State.WAITING), files.c.not_before > after)
            .group_by(files.c.inbox)
        )
        return {inbox: moment for inbox, moment in self.rows(query)}

    def counts(self) -> dict[str, dict[State, int]]:
        """How many rows are in each open state, by inbox."""
        query = select(files.c.inbox, files.c.state, func.count()).where(_OPEN).group_by(files.c.state, files.c.inbox)
        counts: dict[str, dict[State, int]] = {}
        for inbox, state, count in self.rows(query):
            counts.setdefault(inbox, {})[state_of(state)] = count
        return counts

    def get(self, file_id: str) -> InboxFile | None:
        """One row."""
        found = self._files(select(files).where(files.c.id == harmless(file_id)))
        return found[0] if found else None

    def failures(self, file_id: str) -> list[Failure]:
        """A file's failed attempts, oldest first."""
        query = select(failures).where(failures.c.file_id == file_id).order_by(failures.c.at, failures.c.attempt)
        with self._speaking():
            return [failure_of(row) for row in self._connected().execute(query).mappings()]

    def twin(self, inbox: str, sha256: str, since: float, not_id: str) -> InboxFile | None:
        """The last file with this content that was processed since then (wall clock; 0.0: ever).

        One that was skipped for another's sake has not run, and must not keep a window open; but it may be all that is
        left to know of the other.
        """
        query = select(files).where(
            files.c.inbox == inbox, files.c.sha256 == sha256, files.c.outcome == str(Outcome.PROCESSED),
            files.c.finished_at >= since, files.c.id != not_id,
        )  # fmt: skip
        last = self._first(query.order_by(files.c.id.desc()))
        if last is None or not since or last.reason != "duplicate":
            return last
        one = self.get(twin_of(last) or "")  # there may be thousands of duplicates between the two
        if one is not None and one.reason != "duplicate" and (one.finished_at or 0.0) >= since:
            return one
        has_run = func.coalesce(files.c.reason, "") != "duplicate"
        return self._first(query.where(has_run).order_by(files.c.id.desc()))

    def _first(self, query: Any) -> InboxFile | None:
        found = self._files(query.limit(1))
        return found[0] if found else None

    def ended_at(self, inbox: str, outcome: Outcome, destination: str) -> list[InboxFile]:
        """Files that were or are to be delivered there. Only a rebuild has an index for it: else all rows are read; of
        what was not processed, all of those.
        """
        query = select(files).where(
            files.c.outcome == literal(outcome), files.c.inbox == inbox,
            files.c.destination == os.fsencode(destination), or_(_is(State.DECIDED), _is(State.DONE)),
        )  # fmt: skip
        return self._files(query if outcome is Outcome.PROCESSED else query.where(_UNPROCESSED))

    def prune(self, inbox: str, outcome: Outcome, before: float, limit: int, after_id: str = "") -> list[InboxFile]:
        """Delivered files that ended before `before` (wall clock) and have no results to send, oldest id first."""
        # Ids hold the time of the claim: what ended before then was claimed before, and later rows need not be read.
        # A clock that was set back between claim and end makes a row wait longer here, never go earlier.
        query = select(files).where(
            files.c.id < f"{max(0, int(before * 1000) + 1):012x}", files.c.id > after_id, files.c.inbox == inbox,
            _is(State.DONE),
            files.c.outcome == literal(outcome), files.c.finished_at < before,
            ~exists().where(sends.c.file_id == files.c.id, sends.c.open == literal_column("1")),
        )  # fmt: skip
        return self._files(query.order_by(files.c.id).limit(limit))

    def identity(self) -> str:
        """What tells this ledger from every other."""
        return str(self.rows(select(meta.c.value).where(meta.c.key == "identity"))[0][0])

    def refuse_damage(self) -> None:
        """Read all of a SQLite file, trees and indexes. Raises LedgerRefused."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._speaking():
            words = self._connected().exec_driver_sql("PRAGMA integrity_check(5)").scalars().all()
        if list(words) != ["ok"]:
            raise damaged(self._place, "; ".join(words))
