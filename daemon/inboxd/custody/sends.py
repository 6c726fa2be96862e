"""The record of every result that a destination is to have, in the ledger beside the files that they come from.

As items.py: a verb takes records that hold the new values, and must hit a row that is in a state which it may leave, or
in the one it leads to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, or_, select, text

from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.rows import harmless, sensible
from inboxd.custody.schema import sends
from inboxd.custody.statements import literal
from inboxd.errors import LedgerConflict
from inboxd.sends import OPEN_SENDS, SEND_TRANSITIONS, Send, SendState

_SLICE = 500  # ids named in one statement
_OPEN = text("open = 1")  # as the index has it
_KEY = ("file_id", "destination", "name")
_WRITES: dict[str, tuple[str, ...]] = {
    "send": ("attempts",),
    "wait": ("attempts", "failures", "not_before", "message"),
    "finish": ("failures", "message", "ended_at"),
    "abandon": ("failures", "message"),
    "drop": ("ended_at",),
    "renew": ("failures", "not_before"),
}  # fmt: skip


class Sends:
    """Used where the ledger is: by the pipeline's thread, and by recovery before it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._insert = ledger.dialect_insert(sends)

    # Verbs, inside a transaction of the ledger

    def queue(self, due: Sequence[Send]) -> None:
        """New rows, DUE; what is known already stays as it is."""
        if due:
            statement = self._insert.on_conflict_do_nothing(index_elements=_KEY)
            self._ledger.writer().execute(statement, [_row(send) for send in due])

    def change(self, verb: str, changed: Sequence[Send]) -> None:
        """Bring these where `verb` leads. Raises LedgerConflict when one is somewhere else."""
        if not changed:
            return
        target = next(state for (_from, name), state in SEND_TRANSITIONS.items() if name == verb)
        leaves = {state for (state, name) in SEND_TRANSITIONS if name == verb} | {target}
        where = or_(*(sends.c.state == literal(state) for state in sorted(leaves)))
        values: dict[str, Any] = {column: bindparam(f"its_{column}") for column in (*_WRITES[verb], "open")}
        statement = (
            sends.update().where(sends.c.id == bindparam("its_id"), where).values(state=literal(target), **values)
        )
        wanted = [send._replace(state=target) for send in changed]
        rows = [{f"its_{column}": value for column, value in _row(send).items()} for send in wanted]
        hit = self._ledger.writer().execute(statement, rows).rowcount
        if hit != len(changed):
            raise LedgerConflict(f"{verb}: {hit} of {len(changed)} sends to {changed[0].destination} were as expected")
        failpoint(f"sends.{verb}")

    def hurry(self, destination: str, now: float) -> int:
        """What waits for another try is due at once. Returns how many. `now`: wall clock, seconds."""
        waiting = (*_due(destination), sends.c.not_before > now)
        return int(self._ledger.writer().execute(sends.update().where(*waiting).values(not_before=0.0)).rowcount)

    # Reads

    def due(self, destination: str, now: float, limit: int) -> list[Send]:
        """Those whose time has come, the longest due first. `now`: wall clock, seconds."""
        query = select(sends).where(*_due(destination), sends.c.not_before <= now)
        return self._found(query.order_by(sends.c.not_before, sends.c.id).limit(limit))

    def next_due(self, destination: str, after: float) -> float | None:
        """The earliest `not_before` later than `after`; wall clock, seconds."""
        query = select(func.min(sends.c.not_before)).where(*_due(destination), sends.c.not_before > after)
        found: float | None = self._ledger.rows(query)[0][0]
        return found

    def open_to(self, destination: str) -> list[Send]:
        """All that have not come to an end, the first first."""
        query = select(sends).where(_OPEN, sends.c.destination == destination)
        return self._found(query.order_by(sends.c.id))

    def counts(self) -> dict[str, dict[SendState, int]]:
        """By destination, how many that have not come to an end are in each state."""
        query = select(sends.c.destination, sends.c.state, func.count()).where(_OPEN)
        found: dict[str, dict[SendState, int]] = {}
        for name, state, count in self._ledger.rows(query.group_by(sends.c.destination, sends.c.state)):
            found.setdefault(name, {})[send_state(state)] = count
        return found

    def of_files(self, file_ids: Collection[str]) -> dict[str, list[Send]]:
        """By the file whose handler left it; files without one are left out."""
        wanted, found = list(file_ids), dict[str, list[Send]]()
        for start in range(0, len(wanted), _SLICE):
            for send in self._found(select(sends).where(sends.c.file_id.in_(wanted[start : start + _SLICE]))):
                found.setdefault(send.file_id, []).append(send)
        return found

    def waits_in(self, inbox: str) -> bool:
        """Results of this inbox lie in work/."""
        return bool(self._ledger.rows(select(sends.c.id).where(_OPEN, sends.c.inbox == inbox).limit(1)))

    def _found(self, query: Any) -> list[Send]:
        return [send_of(row._mapping) for row in self._ledger.rows(query)]


def _due(destination: str) -> tuple[Any, ...]:
    return _OPEN, sends.c.destination == destination, sends.c.state == literal(SendState.DUE)


send_state: Callable[[str], SendState] = sensible(SendState)


@sensible
def send_of(row: Mapping[Any, Any]) -> Send:
    """The record of a row."""
    values = {column: row[column] for column in Send._fields}
    return Send(**{**values, "state": SendState(values["state"]), "name": os.fsdecode(bytes(values["name"]))})


def _row(send: Send) -> dict[str, Any]:
    message = None if send.message is None else harmless(send.message)
    fixed = {"name": os.fsencode(send.name), "state": str(send.state), "open": int(send.state in OPEN_SENDS)}
    return {**send._asdict(), **fixed, "message": message}
