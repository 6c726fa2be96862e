"""The record of every item of a source, in the ledger beside its files, and in their transactions.

A verb takes records that hold the new values, and must hit a row that is in a state which it may leave, or in the one
it leads to: when a server dies inside COMMIT, the whole transaction is said again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, or_, select, text

from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.rows import harmless, sensible
from inboxd.custody.schema import items
from inboxd.custody.statements import literal
from inboxd.errors import LedgerConflict
from inboxd.items import ITEM_TRANSITIONS, Item, ItemState

_SLICE = 500  # ids named in one statement
_OPEN = text("state <> 'ACKED'")  # as the index has it
_KEY = ("source", "item", "version")
_DUE = str(ItemState.ACK_DUE)
_WRITES: dict[str, tuple[str, ...]] = {
    "fetch": ("inbox", "attempts", "ack", "message"),
    "release": ("id", "attempts", "failures", "not_before", "message"),
    "abandon": ("attempts", "failures", "message"),
    "hold": ("size", "attempts", "failures", "not_before", "message", "fetched_at", "acked_at"),
    "tell": ("attempts",),
    "wait": ("attempts", "failures", "not_before", "message"),
    "ack": ("failures", "message", "acked_at"),
    "renew": ("failures", "not_before", "message"),
}  # fmt: skip


class Items:
    """Used where the ledger is: by the pipeline's thread, and by recovery before it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._insert = ledger.dialect_insert(items)

    # Verbs, inside a transaction of the ledger

    def discover(self, found: Sequence[Item]) -> list[Item]:
        """New rows, DISCOVERED; what is known already, in this version, stays as it is. Returns the new ones."""
        rows = [_row(item) for item in found]
        statement = self._insert.on_conflict_do_nothing(index_elements=_KEY)
        known = {key for some in _slices(rows) for key in self._keys(some)}
        fresh = {tuple(row[column] for column in _KEY): row for row in rows}
        fresh = {key: row for key, row in fresh.items() if key not in known}
        if fresh:
            self._ledger.writer().execute(statement, list(fresh.values()))
        ids = {row["id"] for row in fresh.values()}
        return [item for item in found if item.id in ids]

    def _keys(self, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
        source = rows[0]["source"]
        named = items.c.item.in_([row["item"] for row in rows])
        query = select(items.c.source, items.c.item, items.c.version).where(items.c.source == source, named)
        return [tuple(row) for row in self._ledger.rows(query)]

    def change(self, verb: str, changed: Sequence[Item]) -> None:
        """Bring these where `verb` leads. Raises LedgerConflict when one is somewhere else."""
        self._bring(verb, changed, _target(verb))

    def hold(self, held: Sequence[Item], now: float) -> None:
        """Their files are CLAIMED in this transaction. What the source wants to hear is owed, or nothing, at once."""
        self._bring("hold", [item for item in held if item.ack == "processed"], ItemState.HELD)
        for verb, some, target in (
            ("owe", [item for item in held if item.ack == "held"], ItemState.ACK_DUE),
            ("close", [item._replace(acked_at=now) for item in held if not item.ack], ItemState.ACKED),
        ):
            self._bring("hold", some, target)
            if some:
                failpoint(f"items.{verb}")

    def _bring(self, verb: str, changed: Sequence[Item], target: ItemState) -> None:
        if not changed:
            return
        leaves = {state for (state, name) in ITEM_TRANSITIONS if name == verb} | {target}
        where = or_(*(items.c.state == literal(state) for state in sorted(leaves)))
        key = [items.c[column] == bindparam(f"its_{column}") for column in _KEY]
        values: dict[str, Any] = {column: bindparam(f"its_{column}") for column in _WRITES[verb]}
        statement = items.update().where(*key, where).values(state=literal(target), **values)
        rows = [{f"its_{column}": value for column, value in _row(item).items()} for item in changed]
        hit = self._ledger.writer().execute(statement, rows).rowcount
        if hit != len(changed):
            raise LedgerConflict(f"{verb}: {hit} of {len(changed)} items of {changed[0].source} were as expected")
        failpoint(f"items.{verb}")

    def processed(self, file_ids: Collection[str]) -> None:
        """Files that came from a source were processed: it is to hear of it where it waits for that."""
        ids = list(file_ids)
        for start in range(0, len(ids), _SLICE):
            named = items.c.id.in_(ids[start : start + _SLICE])
            waiting = (items.c.state == literal(ItemState.HELD), items.c.ack == "processed")
            owed = self._ledger.writer().execute(items.update().where(named, *waiting).values(state=_DUE)).rowcount
            if owed:
                failpoint("items.owe")

    def hurry(self, source: str, now: float) -> int:
        """What waits for another try is due at once. Returns how many. `now`: wall clock, seconds."""
        states = [literal(state) for state in (ItemState.DISCOVERED, ItemState.ACK_DUE)]
        waiting = (_OPEN, items.c.source == source, items.c.state.in_(states), items.c.not_before > now)
        return int(self._ledger.writer().execute(items.update().where(*waiting).values(not_before=0.0)).rowcount)

    # Reads

    def due(self, source: str, state: ItemState, now: float, limit: int) -> list[Item]:
        """Those in this state whose time has come, the longest due first. `now`: wall clock, seconds."""
        query = select(items).where(_OPEN, items.c.source == source, items.c.state == literal(state))
        query = query.where(items.c.not_before <= now).order_by(items.c.not_before, items.c.id).limit(limit)
        return self._found(query)

    def next_due(self, source: str, state: ItemState, after: float) -> float | None:
        """The earliest `not_before` later than `after`; wall clock, seconds."""
        query = select(func.min(items.c.not_before)).where(_OPEN, items.c.source == source)
        query = query.where(items.c.state == literal(state), items.c.not_before > after)
        found: float | None = self._ledger.rows(query)[0][0]
        return found

    def by_ids(self, ids: Collection[str]) -> dict[str, Item]:
        """By the ids of their files."""
        wanted = list(ids)
        slices = [wanted[start : start + _SLICE] for start in range(0, len(wanted), _SLICE)]
        return {item.id: item for some in slices for item in self._found(select(items).where(items.c.id.in_(some)))}

    def abandoned(self, source: str, limit: int) -> list[Item]:
        """Those of a source that were given up, the first first."""
        query = select(items).where(_OPEN, items.c.source == source, items.c.state == literal(ItemState.ABANDONED))
        return self._found(query.order_by(items.c.id).limit(limit))

    def in_state(self, state: ItemState) -> list[Item]:
        """All of them, of every source."""
        return self._found(select(items).where(_OPEN, items.c.state == literal(state)))

    def taken_between(self, source: str, begin: float, end: float) -> tuple[int, int]:
        """How many items were fetched then (wall clock, seconds), and their bytes."""
        query = select(func.count(), func.coalesce(func.sum(items.c.size), 0)).where(items.c.source == source)
        count, size = self._ledger.rows(query.where(items.c.fetched_at.between(begin, end)))[0]
        return int(count), int(size)

    def first_taken(self, source: str, begin: float, end: float) -> float:
        """When the first of them was; `begin` where none was."""
        query = select(func.min(items.c.fetched_at)).where(items.c.source == source)
        (first,) = self._ledger.rows(query.where(items.c.fetched_at.between(begin, end)))[0]
        return begin if first is None else float(first)

    def _found(self, query: Any) -> list[Item]:
        return [item_of(row._mapping) for row in self._ledger.rows(query)]


item_state: Callable[[str], ItemState] = sensible(ItemState)


@sensible
def item_of(row: Mapping[Any, Any]) -> Item:
    """The record of a row."""
    values = {column: row[column] for column in Item._fields}
    return Item(**{**values, "state": ItemState(values["state"])})


def _row(item: Item) -> dict[str, Any]:
    texts = {"item": harmless(item.item), "version": harmless(item.version), "name": harmless(item.name)}
    message = None if item.message is None else harmless(item.message)
    return {**item._asdict(), **texts, "url": harmless(item.url), "state": str(item.state), "message": message}


def _target(verb: str) -> ItemState:
    return next(state for (_from, name), state in ITEM_TRANSITIONS.items() if name == verb)


def _slices(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [rows[start : start + _SLICE] for start in range(0, len(rows), _SLICE)]
