"""The record of every file. One thread, one connection; each change is a compare-and-set that must hit its rows.

Verbs take records that hold the *new* values, inside `transaction()`. A verb may be said again after a commit whose
fate is unknown (the server died in COMMIT): a transaction is all or nothing, so when no row of a verb changes and
every one is in the wanted state already, that was it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite

from inboxd.clock import Clock
from inboxd.custody import engine as opening
from inboxd.custody.engine import translated
from inboxd.custody.rows import Values, failure_of, failure_values, file_of, file_values
from inboxd.custody.schema import failures, files, meta, totals
from inboxd.errors import LedgerConflict, LedgerUnavailable
from inboxd.lifecycle import TRANSITIONS, sources
from inboxd.model import Failure, InboxFile, Outcome, State

_PAGE = 1000

#: The columns that each verb writes, besides the state.
_WRITES = {
    "claim": ("dev", "ino", "size", "mtime_ns", "claimed_at", "sha256", "reason"),
    "abandon": ("reason", "finished_at"),
    "dispatch": ("batch", "attempts", "started_at"),
    "release": ("attempts", "failures"),
    "wait": ("attempts", "failures", "not_before", "reason", "message"),
    "decide": (
        "attempts", "failures", "outcome", "reason", "message", "destination", "result", "sha256", "finished_at",
    ),
    "deliver": (),
    "lose": ("reason", "finished_at"),
    "retry": (
        "attempts", "failures", "dev", "ino", "size", "mtime_ns", "outcome", "reason", "message", "destination",
        "result", "finished_at",
    ),
}  # fmt: skip


def _compare_and_set(verb: str) -> Any:
    """UPDATE … WHERE the row is in a state that `verb` may leave."""
    target = next(state for (_from, name), state in TRANSITIONS.items() if name == verb)
    writes: dict[str, Any] = {column: bindparam(f"new_{column}") for column in _WRITES[verb]}
    open_now = 0 if verb in ("abandon", "deliver", "lose") else 1
    return (
        files.update()
        .where(files.c.id == bindparam("old_id"), or_(*(files.c.state == str(state) for state in sources(verb))))
        .values(state=str(target), open=open_now, **writes)
    )


_UPDATES = {verb: _compare_and_set(verb) for verb in _WRITES}
_OPEN = text("open = 1")


class Ledger:
    """Used by the pipeline's thread, and by recovery before that thread begins."""

    def __init__(self, url: str, durability: str, clock: Clock) -> None:
        self._engine = opening.make_engine(url, durability)
        self._clock = clock
        self._connection: Connection | None = None
        self._insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert

    @classmethod
    def open(cls, url: str, durability: str, clock: Clock) -> Ledger:
        """Open and migrate. Raises LedgerRefused (damaged, foreign, newer) or LedgerUnavailable."""
        opening.make_private(url)
        ledger = cls(url, durability, clock)
        with translated():
            opening.migrate(ledger._connected())
        return ledger

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        self._engine.dispose()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises LedgerUnavailable; the next call opens a new connection then."""
        try:
            with translated():
                connection = self._connected()
                opening.begin(connection)
                try:
                    yield
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    with contextlib.suppress(Exception):
                        connection.exec_driver_sql("ROLLBACK")
                    raise
        except LedgerUnavailable:
            self._drop()
            raise

    # Verbs

    def announce(self, announced: Sequence[InboxFile]) -> None:
        """New rows, CLAIMING."""
        if announced:
            statement = self._insert(files).on_conflict_do_nothing(index_elements=["id"])
            self._connected().execute(statement, [file_values(file) for file in announced])

    def claim(self, claimed: Sequence[InboxFile]) -> None:
        """-> CLAIMED: accepted."""
        self._change("claim", claimed)

    def abandon(self, gone: Sequence[InboxFile]) -> None:
        """-> ABANDONED: never ours."""
        now = self._clock.time()
        self._change("abandon", gone, {"new_finished_at": now})

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
        if self._change("decide", decided):
            self._count(decided, 1)

    def redirect(self, redirected: Sequence[InboxFile]) -> None:
        """DECIDED stays DECIDED, bound for another name."""
        if redirected:
            statement = (
                files.update()
                .where(files.c.id == bindparam("old_id"), files.c.state == str(State.DECIDED))
                .values(destination=bindparam("new_destination"))
            )
            self._connected().execute(statement, _parameters(redirected, ("destination",)))

    def deliver(self, delivered: Sequence[InboxFile]) -> None:
        """-> DONE."""
        self._change("deliver", delivered)

    def lose(self, lost: Sequence[InboxFile]) -> None:
        """-> LOST."""
        self._change("lose", lost)

    def retry(self, retried: Sequence[InboxFile]) -> None:
        """An error goes back to CLAIMED, and out of the totals."""
        if self._change("retry", retried):
            by_inbox: Counter[str] = Counter(file.inbox for file in retried)
            for inbox, count in by_inbox.items():
                size = sum(file.size for file in retried if file.inbox == inbox)
                self._add(inbox, Outcome.ERROR, -count, -size)

    def failed(self, failed: Sequence[Failure]) -> None:
        """Lines of history."""
        if failed:
            statement = self._insert(failures).on_conflict_do_nothing(index_elements=["file_id", "attempt", "at"])
            self._connected().execute(statement, [failure_values(failure) for failure in failed])

    def forget(self, ids: Sequence[str]) -> None:
        """Remove rows whose files are gone by policy."""
        if ids:
            self._connected().execute(failures.delete().where(failures.c.file_id.in_(ids)))
            self._connected().execute(files.delete().where(files.c.id.in_(ids), files.c.state == str(State.DONE)))

    def _change(self, verb: str, changed: Sequence[InboxFile], more: Values | None = None) -> bool:
        """False when it had been done before; raises LedgerConflict when rows are not as we believe."""
        if not changed:
            return False
        parameters = _parameters(changed, _WRITES[verb])
        hit = self._connected().execute(_UPDATES[verb], [{**one, **(more or {})} for one in parameters]).rowcount
        if hit == len(changed):
            return True
        wanted = {str(state) for (_from, name), state in TRANSITIONS.items() if name == verb}
        found = select(files.c.id, files.c.state).where(files.c.id.in_([file.id for file in changed]))
        states = {row.id: row.state for row in self._connected().execute(found)}
        if hit == 0 and set(states.values()) == wanted and len(states) == len(changed):
            return False
        wrong = [f"{file.id} is {states.get(file.id, 'unknown')}" for file in changed[:5]]
        raise LedgerConflict(f"{verb}: {hit} of {len(changed)} rows were as expected: {', '.join(wrong)}, …")

    def _count(self, decided: Sequence[InboxFile], sign: int) -> None:
        counts: Counter[tuple[str, Outcome]] = Counter()
        sizes: Counter[tuple[str, Outcome]] = Counter()
        for file in decided:
            assert file.outcome is not None  # decided
            counts[file.inbox, file.outcome] += sign
            sizes[file.inbox, file.outcome] += sign * file.size
        for (inbox, outcome), count in counts.items():
            self._add(inbox, outcome, count, sizes[inbox, outcome])

    def _add(self, inbox: str, outcome: Outcome, count: int, size: int) -> None:
        row = self._insert(totals).values(inbox=inbox, outcome=str(outcome), files=count, bytes=size)
        more = {"files": totals.c.files + row.excluded.files, "bytes": totals.c.bytes + row.excluded.bytes}
        self._connected().execute(row.on_conflict_do_update(index_elements=["inbox", "outcome"], set_=more))

    # Reads

    def _files(self, statement: Any) -> list[InboxFile]:
        with self._reading():
            return [file_of(row) for row in self._connected().execute(statement).mappings()]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except LedgerUnavailable:
            self._drop()
            raise

    def open_files(self, *states: State) -> Iterator[InboxFile]:
        """Rows in these open states by id, a page at a time; rows may change between two pages."""
        for state in states:
            after = ("", "")
            while True:
                later = (files.c.inbox > after[0]) | ((files.c.inbox == after[0]) & (files.c.id > after[1]))
                query = select(files).where(_OPEN, files.c.state == str(state), later)
                page = self._files(query.order_by(files.c.inbox, files.c.id).limit(_PAGE))
                yield from page
                if len(page) < _PAGE:
                    break
                after = (page[-1].inbox, page[-1].id)

    def claimed(self, inbox: str, limit: int, after_id: str = "") -> list[InboxFile]:
        """CLAIMED rows of an inbox, oldest id first."""
        query = select(files).where(
            _OPEN, files.c.state == str(State.CLAIMED), files.c.inbox == inbox, files.c.id > after_id
        )
        return self._files(query.order_by(files.c.id).limit(limit))

    def waiting(self, inbox: str, now: float, limit: int) -> list[InboxFile]:
        """WAITING rows whose time has come, the longest due first. `now`: wall clock, seconds."""
        query = select(files).where(
            _OPEN, files.c.state == str(State.WAITING), files.c.inbox == inbox, files.c.not_before <= now
        )
        return self._files(query.order_by(files.c.not_before, files.c.id).limit(limit))

    def next_waiting(self, after: float) -> dict[str, float]:
        """By inbox, the earliest `not_before` later than `after` (wall clock seconds)."""
        query = (
            select(files.c.inbox, func.min(files.c.not_before))
            .where(_OPEN, files.c.state == str(State.WAITING), files.c.not_before > after)
            .group_by(files.c.inbox)
        )
        with self._reading():
            return {inbox: moment for inbox, moment in self._connected().execute(query)}

    def counts(self) -> dict[str, dict[State, int]]:
        """How many rows are in each open state, by inbox."""
        query = select(files.c.inbox, files.c.state, func.count()).where(_OPEN).group_by(files.c.state, files.c.inbox)
        counts: dict[str, dict[State, int]] = {}
        with self._reading():
            for inbox, state, count in self._connected().execute(query):
                counts.setdefault(inbox, {})[State(state)] = count
        return counts

    def get(self, file_id: str) -> InboxFile | None:
        """One row."""
        found = self._files(select(files).where(files.c.id == file_id))
        return found[0] if found else None

    def failures(self, file_id: str) -> list[Failure]:
        """A file's failed attempts, oldest first."""
        query = select(failures).where(failures.c.file_id == file_id).order_by(failures.c.at, failures.c.attempt)
        with self._reading():
            return [failure_of(row) for row in self._connected().execute(query).mappings()]

    def twin(self, inbox: str, sha256: str, since: float, not_id: str) -> InboxFile | None:
        """The last file with this content that was processed since then (wall clock)."""
        query = select(files).where(
            files.c.inbox == inbox, files.c.sha256 == sha256, files.c.outcome == str(Outcome.PROCESSED),
            files.c.finished_at >= since, files.c.id != not_id,
        )  # fmt: skip
        found = self._files(query.order_by(files.c.id.desc()).limit(1))
        return found[0] if found else None

    def prune(self, inbox: str, outcome: Outcome, before: float, limit: int) -> list[InboxFile]:
        """Delivered files that ended before `before` (wall clock), oldest id first."""
        query = select(files).where(
            files.c.inbox == inbox, files.c.state == str(State.DONE), files.c.outcome == str(outcome),
            files.c.finished_at < before,
        )  # fmt: skip
        return self._files(query.order_by(files.c.id).limit(limit))

    def identity(self) -> str:
        """What tells this ledger from every other."""
        with self._reading():
            return str(self._connected().execute(select(meta.c.value).where(meta.c.key == "identity")).scalar_one())

    def check(self) -> list[str]:
        """What is wrong with the ledger itself, in words; empty when nothing is."""
        if self._engine.dialect.name != "sqlite":
            return []
        with self._reading():
            words = self._connected().exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
        return [f"ledger: {word}" for word in words if word != "ok"]


def _parameters(changed: Iterable[InboxFile], columns: Sequence[str]) -> list[Values]:
    parameters = []
    for file in changed:
        values = file_values(file)
        parameters.append({"old_id": file.id, **{f"new_{column}": values[column] for column in columns}})
    return parameters
