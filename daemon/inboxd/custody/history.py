"""Reading the ledger beside its writer: short connections, for control threads and a stopped daemon's command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, TextClause, and_, func, or_, select, text

from inboxd.custody.engine import make_reader, other_schema, place_of, translated
from inboxd.custody.items import item_of, item_state
from inboxd.custody.rows import failure_of, file_of, harmless, outcome_of, state_of
from inboxd.custody.schema import REVISION, failures, files, items, sends, totals
from inboxd.custody.sends import send_of, send_state
from inboxd.custody.statements import literal
from inboxd.errors import LedgerError, LedgerRefused
from inboxd.items import Item, ItemState
from inboxd.lifecycle import OPEN
from inboxd.model import Failure, InboxFile, Outcome, State
from inboxd.sends import Send, SendState


class History:
    """Reads only. Any thread; each call opens a connection and closes it. Raises LedgerUnavailable, LedgerRefused."""

    def __init__(self, url: str) -> None:
        self._place = place_of(url)
        self._engine = make_reader(url)

    def _rows(self, statement: Any) -> list[Any]:
        try:
            return self._asked(statement)
        except LedgerRefused:
            self._refuse_other_schema()  # sound, and read between an upgrade and the first start after it
            raise

    def _asked(self, statement: Any) -> list[Any]:
        with translated(self._place), self._engine.connect() as connection:
            return list(connection.execute(statement).mappings())

    def _refuse_other_schema(self) -> None:
        """Raises LedgerRefused for one whose tables may be others than ours."""
        try:
            revisions = [row["version_num"] for row in self._asked(text("SELECT version_num FROM alembic_version"))]
        except LedgerError:
            return
        if revisions not in ([], [REVISION]):
            raise other_schema(self._place, revisions[0])

    def like(self, file_id: str, limit: int) -> list[InboxFile]:
        """Rows whose id is this one, or begins with it; 8 digits at least."""
        if len(file_id) < 8:
            return []
        # "g" comes after every hexadecimal digit in every collation; punctuation does not.
        first = harmless(file_id)
        query = select(files).where(files.c.id >= first, files.c.id < first + "g")
        return [file_of(row) for row in self._rows(query.order_by(files.c.id).limit(limit))]

    def get(self, file_id: str) -> InboxFile | None:
        """One row by its id, or by the unique beginning of one."""
        found = self.like(file_id, 2)
        return found[0] if len(found) == 1 else None

    def failures(self, file_id: str) -> list[Failure]:
        """A file's failed attempts, oldest first."""
        query = select(failures).where(failures.c.file_id == file_id).order_by(failures.c.at, failures.c.attempt)
        return [failure_of(row) for row in self._rows(query)]

    def find(
        self, *, inbox: str | None = None, states: Sequence[State] | None = None, outcome: Outcome | None = None,
        since: float | None = None, limit: int = 100, before_id: str | None = None,
    ) -> list[InboxFile]:  # fmt: skip
        """Newest first. `since`: wall clock seconds of the claim."""
        query = select(files)
        if inbox is not None:
            query = query.where(files.c.inbox == harmless(inbox))
        if states is not None:
            query = query.where(files.c.state.in_([literal(state) for state in states]))
            if OPEN.issuperset(states):
                query = query.where(text("open = 1"))
        if outcome is not None:
            query = query.where(*_ended_as(outcome))
        if since is not None:
            query = query.where(files.c.id >= f"{max(0, int(since * 1000)):012x}", files.c.claimed_at >= since)
        if before_id is not None:
            query = query.where(files.c.id < harmless(before_id))
        return [file_of(row) for row in self._rows(query.order_by(files.c.id.desc()).limit(limit))]

    def by_place(self, inbox: str, destination: str, at: float, outcome: Outcome | None = None) -> InboxFile | None:
        """The row of what lies at a destination since `at` (wall clock, seconds): the newest of those claimed before.

        No index knows destinations: rows are read from then backwards, until it is found.
        """
        query = select(files).where(
            files.c.id < f"{int((at + 1.0) * 1000):012x}", files.c.inbox == harmless(inbox),
            files.c.destination == os.fsencode(destination),
        )  # fmt: skip
        if outcome is not None:
            query = query.where(*_ended_as(outcome))
        rows = self._rows(query.order_by(files.c.id.desc()).limit(1))
        return file_of(rows[0]) if rows else None

    def by_name(self, inbox: str, folder: str, name: str, limit: int = 5) -> list[InboxFile]:
        """The newest rows of a name. No index knows names: rows are read backwards, until there are enough."""
        query = select(files).where(
            files.c.inbox == harmless(inbox),
            files.c.folder == os.fsencode(folder),
            files.c.name == os.fsencode(name),
        )
        return [file_of(row) for row in self._rows(query.order_by(files.c.id.desc()).limit(limit))]

    def ending_in(self, inboxes: Sequence[str], path: str, limit: int) -> list[InboxFile]:
        """The newest rows of these inboxes whose name below inbound/, or place below where they ended, may be the end
        of this path. Rows are read backwards, as by `by_name`.
        """
        folder, name = os.path.split(os.path.normpath(path))
        folders = [os.fsencode(end) for end in _ends(folder)]
        query = select(files).where(
            files.c.inbox.in_(list(map(harmless, inboxes))),
            or_(
                and_(files.c.name == os.fsencode(name), files.c.folder.in_(folders)),
                files.c.destination.in_([os.path.join(end, os.fsencode(name)) for end in folders]),
            ),
        )
        return [file_of(row) for row in self._rows(query.order_by(files.c.id.desc()).limit(limit))]

    def totals(self) -> dict[str, dict[Outcome, tuple[int, int]]]:
        """By inbox and outcome: files and bytes."""
        result: dict[str, dict[Outcome, tuple[int, int]]] = {}
        for row in self._rows(select(totals)):
            result.setdefault(row["inbox"], {})[outcome_of(row["outcome"])] = (row["files"], row["bytes"])
        return result

    def oldest(self) -> dict[str, float]:
        """By inbox, when the oldest file that is open was claimed (wall clock, seconds): its id says so."""
        query = text("SELECT inbox, min(id) AS first FROM files WHERE open = 1 GROUP BY state, inbox")
        result: dict[str, float] = {}
        for row in self._rows(query):
            moment = int(row["first"][:12], 16) / 1000
            result[row["inbox"]] = min(moment, result.get(row["inbox"], moment))
        return result

    def counts(self) -> dict[str, dict[State, int]]:
        """How many rows are in each open state, by inbox."""
        query = text("SELECT inbox, state, count(*) AS number FROM files WHERE open = 1 GROUP BY state, inbox")
        result: dict[str, dict[State, int]] = {}
        for row in self._rows(query):
            result.setdefault(row["inbox"], {})[state_of(row["state"])] = row["number"]
        return result

    def holding(self) -> set[str]:
        """The inboxes that have something in work/: files, or results that are to be sent."""
        sending = text("SELECT DISTINCT inbox FROM sends WHERE open = 1")
        return {*self.counts(), *(row["inbox"] for row in self._rows(sending))}

    def held(self, inbox: str) -> set[str]:
        """The ids of what an inbox has in work/: of its files, and of those whose results are to be sent."""
        found = [
            select(files.c.id).where(files.c.inbox == harmless(inbox), text("open = 1")),
            select(sends.c.file_id.label("id")).where(sends.c.inbox == harmless(inbox), text("open = 1")),
        ]
        return {row["id"] for query in found for row in self._rows(query)}

    # Results for destinations

    def send_counts(self) -> dict[str, dict[SendState, int]]:
        """By destination, how many sends are in each state but the final ones."""
        query = text(
            "SELECT destination, state, count(*) AS number FROM sends WHERE open = 1 GROUP BY destination, state"
        )
        result: dict[str, dict[SendState, int]] = {}
        for row in self._rows(query):
            result.setdefault(row["destination"], {})[send_state(row["state"])] = row["number"]
        return result

    def sends_of(self, file_id: str) -> list[Send]:
        """Of the results of one file, the first first."""
        query = select(sends).where(sends.c.file_id == harmless(file_id)).order_by(sends.c.id)
        return [send_of(row) for row in self._rows(query)]

    def last_send(self, inbox: str, name: str) -> Send | None:
        """Of results of this name the newest, whatever became of it. No index knows names of those that were sent."""
        query = select(sends).where(sends.c.inbox == harmless(inbox), sends.c.name == os.fsencode(name))
        rows = self._rows(query.order_by(sends.c.id.desc()).limit(1))
        return send_of(rows[0]) if rows else None

    def sends_called(self, word: str, limit: int) -> list[Send]:
        """Those that have not come to an end, by their name or the beginning of their id; the oldest first."""
        named = sends.c.name == os.fsencode(word)
        if _ID.fullmatch(word):
            named = or_(named, and_(sends.c.id >= word, sends.c.id < word + "g"))
        query = select(sends).where(text("open = 1"), named)
        return [send_of(row) for row in self._rows(query.order_by(sends.c.id).limit(limit))]

    def sends_in_trouble(self, destination: str, limit: int) -> list[Send]:
        """Those to a destination that have failed and have not come to an end, the oldest first."""
        mine = (text("open = 1"), sends.c.destination == destination, sends.c.message.is_not(None))
        return [send_of(row) for row in self._rows(select(sends).where(*mine).order_by(sends.c.id).limit(limit))]

    def arrivals(self, inbox: str, source: str | None, begin: float, until: float, *, has_items: bool) -> int:
        """How many files were claimed after `begin` and up to `until` (wall clock, seconds), of a source or all.

        Ids hold the time of the claim, so older rows need not be read; those of items that of their discovery
        (`has_items`: there may be some), which may have been days before.
        """
        earliest = begin - (_LONGEST_WAY if has_items else 0.0)
        query = select(func.count().label("number")).select_from(files)
        query = query.where(
            files.c.id >= f"{max(0, int(earliest * 1000)):012x}", files.c.inbox == harmless(inbox),
            files.c.claimed_at > begin, files.c.claimed_at <= until,
            files.c.state.not_in([literal(State.CLAIMING), literal(State.ABANDONED)]),
        )  # fmt: skip
        if source is not None:
            query = query.where(files.c.source == harmless(source))
        return int(self._rows(query)[0]["number"])

    # Items of sources

    def item_counts(self) -> dict[str, dict[ItemState, int]]:
        """By source, how many items are in each state but the final one."""
        query = text(
            "SELECT source, state, count(*) AS number FROM items WHERE state <> 'ACKED' GROUP BY source, state"
        )
        result: dict[str, dict[ItemState, int]] = {}
        for row in self._rows(query):
            result.setdefault(row["source"], {})[item_state(row["state"])] = row["number"]
        return result

    def unheard(self, least: int) -> dict[str, tuple[int, str]]:
        """By source, how many acknowledgements have failed so often or oftener, and the words of one of them."""
        query = text(
            "SELECT source, count(*) AS number, max(message) AS message FROM items"
            " WHERE state <> 'ACKED' AND state = 'ACK_DUE' AND failures >= :least GROUP BY source"
        ).bindparams(least=least)
        return {row["source"]: (row["number"], row["message"] or "") for row in self._rows(query)}

    def held_by_errors(self) -> dict[str, int]:
        """By source, how many items wait for the success of a file that ended in errors/."""
        query = text(
            "SELECT items.source, count(*) AS number FROM items JOIN files ON files.id = items.id"
            " WHERE items.state <> 'ACKED' AND items.state = 'HELD'"
            " AND files.outcome <> 'processed' AND files.outcome = 'error' GROUP BY items.source"
        )
        return {row["source"]: row["number"] for row in self._rows(query)}

    def _items(self, query: Select[Any], limit: int) -> list[Item]:
        return [item_of(row) for row in self._rows(query.order_by(items.c.id.desc()).limit(limit))]

    def item_of_file(self, file_id: str) -> Item | None:
        """The item that becomes, or became, the file of this id."""
        found = self._items(select(items).where(items.c.id == harmless(file_id)), 1)
        return found[0] if found else None

    def items_called(self, sources: Sequence[str], word: str, limit: int) -> list[Item]:
        """By what their source calls them, else by the beginning of their file's id, else by name; the newest first.

        Only names of items that are not acknowledged have an index: for others every row is read.
        """
        word = harmless(word)
        ways = [select(items).where(items.c.source.in_(sources), items.c.item == word)] if sources else []
        if _ID.fullmatch(word):
            ways.append(select(items).where(items.c.id >= word, items.c.id < word + "g"))
        named = select(items).where(items.c.name == word)
        ways += [named.where(text("state <> 'ACKED'")), named]
        return next((found for way in ways if (found := self._items(way, limit))), [])

    def items_known(self, source: str, words: Sequence[str]) -> dict[tuple[str, str], ItemState]:
        """Which of these items of a source have rows: their states, by item and version."""
        named = items.c.item.in_(list(map(harmless, words)))
        query = select(items.c.item, items.c.version, items.c.state).where(items.c.source == harmless(source), named)
        return {(row["item"], row["version"]): item_state(row["state"]) for row in self._rows(query)}

    def items_in_trouble(self, source: str, state: ItemState, limit: int) -> list[Item]:
        """Those of a source that have failed and are in this state."""
        mine = (text("state <> 'ACKED'"), items.c.source == harmless(source), items.c.state == literal(state))
        return self._items(select(items).where(*mine, items.c.message.is_not(None)), limit)


_ID = re.compile("[0-9a-f]{8,32}")
_LONGEST_WAY = (
    7 * 86400.0
)  # seconds from the discovery of an item to the claim of its file; what takes longer is no arrival


def _ends(folder: str) -> list[str]:
    """What it may be below another one, the root included: "b" and "a/b" of "/a/b", and ""."""
    parts = [part for part in folder.split("/") if part]
    return ["/".join(parts[first:]) for first in range(len(parts), -1, -1)]


def _ended_as(outcome: Outcome) -> list[ColumnElement[bool] | TextClause]:
    """In the words of the partial index, where there is one."""
    unprocessed = [text("outcome <> 'processed'")] if outcome is not Outcome.PROCESSED else []
    return [files.c.outcome == literal(outcome), *unprocessed]
