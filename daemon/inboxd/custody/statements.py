"""What the verbs say to the database: compiled once by SQLAlchemy, run with plain tuples by the driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Table, and_, bindparam, literal_column, null, or_

from inboxd.custody.engine import Driver
from inboxd.custody.rows import Rows
from inboxd.custody.schema import failures, files, totals
from inboxd.lifecycle import FINAL, TRANSITIONS, sources
from inboxd.model import InboxFile, Outcome, State

#: The columns that a new row has values for; the others have defaults.
_ANNOUNCED = (
    "id", "inbox", "folder", "name", "dev", "ino", "size", "mtime_ns", "claimed_at", "reason", "sha256", "source",
    "companions",
)  # fmt: skip

#: The columns that each verb writes, besides the state.
_WRITES: dict[str, tuple[str, ...]] = {
    "claim": ("dev", "ino", "size", "mtime_ns", "claimed_at", "sha256", "reason", "attempts"),
    "abandon": ("reason", "finished_at"),
    "dispatch": ("batch", "attempts", "started_at"),
    "release": ("attempts", "failures"),
    "wait": ("attempts", "failures", "not_before", "reason", "message"),
    "decide": (
        "attempts", "failures", "outcome", "reason", "message", "destination", "result", "sha256", "started_at",
        "finished_at", "dev", "ino", "size", "mtime_ns",  # of a copy whose commit failed
    ),
    "deliver": (),
    "lose": ("reason", "finished_at"),
    "retry": ("dev", "ino", "size", "mtime_ns"),
    "reopen": ("dev", "ino", "mtime_ns"),  # its size is counted in the totals
    "find": ("dev", "ino", "size", "mtime_ns", "attempts", "reason"),
}  # fmt: skip

#: Verbs by which many rows at a time get the same values.
_ALIKE = frozenset({"abandon", "dispatch", "release", "deliver"})
#: So many ids stand in one statement, the first of them more than once where there are fewer: drivers keep what they
#: have prepared by its text, and there must not be too many.
_NUMBERS = (1, 2, 5, 10, 20, 50, 100, 200)

#: Where a row may come in the same commit, after a verb: what is ours goes to a worker at once, or to quarantine.
_FOLLOWS: dict[str, tuple[State, ...]] = {"claim": (State.RUNNING, State.DECIDED), "retry": (State.RUNNING,)}

#: Columns that a verb clears, whatever the record says: a retried file begins anew.
_FORGOTTEN: dict[str, tuple[str, ...]] = {
    "retry": ("outcome", "reason", "message", "destination", "result", "started_at", "finished_at", "sha256"),
    "find": ("finished_at",),
}


def literal(word: str) -> ColumnElement[Any]:
    """A word of ours in the statement itself: a partial index is only found where its condition stands as text."""
    return literal_column(f"'{word}'")


@cache
def target(verb: str) -> State:
    """The state that `verb` leads to."""
    return next(state for (_from, name), state in TRANSITIONS.items() if name == verb)


class Statement:
    """Text and the order of its parameters, for one kind of database."""

    def __init__(self, core: Any, dialect: Dialect) -> None:
        compiled = core.compile(dialect=dialect)
        self.text: str = compiled.string
        self._columns = [name.removeprefix("new_") for name in compiled.positiontup]

    def run(self, driver: Driver, records: Sequence[InboxFile]) -> int:
        """Once for each record. Returns how many rows it hit."""
        return driver.run(self.text, self._rows.of(records)) if records else 0

    @cached_property
    def _rows(self) -> Rows:
        """Only for those that write records of files; some write others."""
        return Rows(self._columns)

    def run_plain(self, driver: Driver, parameters: list[tuple[Any, ...]]) -> int:
        """Once for each tuple, in the order of its parameters."""
        return driver.run(self.text, parameters) if parameters else 0


class Together(Statement):
    """For many rows that get the same values: SQLite takes 5 µs to begin an UPDATE, and 2 for each row in it."""

    def __init__(self, core: Any, dialect: Dialect) -> None:
        """`core` names one id, as IN (one)."""
        super().__init__(core, dialect)
        before, mark, after = re.split(r"(?<=\bIN \()(.*?)(?=\))", self.text, maxsplit=1)
        self._texts = {number: before + ", ".join([mark] * number) + after for number in _NUMBERS}

    def run(self, driver: Driver, records: Sequence[InboxFile]) -> int:
        """Once for all that get the same values. Returns how many rows it hit."""
        ids: dict[tuple[Any, ...], list[str]] = {}
        for *values, file_id in self._rows.of(records):
            ids.setdefault(tuple(values), []).append(file_id)
        return sum(
            self._run_for(driver, values, some[start : start + _NUMBERS[-1]])
            for values, some in ids.items()
            for start in range(0, len(some), _NUMBERS[-1])
        )

    def _run_for(self, driver: Driver, values: tuple[Any, ...], ids: list[str]) -> int:
        number = next(one for one in _NUMBERS if one >= len(ids))
        return driver.run(self._texts[number], [(*values, *ids, *ids[:1] * (number - len(ids)))])


class Statements:
    """All statements that write. `again`: for rows of a commit whose fate is unknown; see Ledger."""

    def __init__(self, dialect: Dialect) -> None:
        if not dialect.positional:
            dialect = _kind(dialect)(paramstyle="format")
        self.insert = import_module(f"sqlalchemy.dialects.{dialect.name}").insert
        self._dialect = dialect
        self.change = {
            verb: self._together(verb, columns) if verb in _ALIKE else self._compiled(_change(verb, columns))
            for verb, columns in _WRITES.items()
        }
        self.again = {verb: self._compiled(_change(verb, columns, again=True)) for verb, columns in _WRITES.items()}
        self.accept = self._together("claim", ())  # what is claimed as it was announced
        self.redirect = self._compiled(_update(files.c.state == literal(State.DECIDED), ["destination"], {}))
        # A twin's is decided by the first commit after one that failed, and delivered by the next, which may be unsure
        ours = (State.CLAIMED, State.RUNNING, State.WAITING, State.DECIDED, State.DONE)
        held = or_(*(files.c.state == literal(state) for state in ours))
        self.identify = self._compiled(_update(held, ["dev", "ino", "size", "mtime_ns", "sha256"], {}))
        announce = self.insert(files).values(
            state=literal(State.CLAIMING), open=literal_column("1"), **_parameters(_ANNOUNCED)
        )
        self.announce = self._compiled(announce)
        self.announce_again = self._compiled(announce.on_conflict_do_nothing(index_elements=["id"]))
        self.failed = self._compiled(self._whole(failures).on_conflict_do_nothing())
        key = [column == bindparam(f"new_{column.name}") for column in failures.primary_key]
        self.unfailed = self._compiled(failures.delete().where(*key))
        self.count = self._compiled(self._add())

    def _compiled(self, core: Any) -> Statement:
        return Statement(core, self._dialect)

    def _together(self, verb: str, columns: Sequence[str]) -> Statement:
        return Together(_change(verb, columns, together=True), self._dialect)

    def _whole(self, table: Table) -> Any:
        return self.insert(table).values(_parameters([column.name for column in table.columns]))

    def _add(self) -> Any:
        row = self._whole(totals)
        more = {"files": totals.c.files + row.excluded.files, "bytes": totals.c.bytes + row.excluded.bytes}
        return row.on_conflict_do_update(index_elements=["inbox", "outcome"], set_=more)


def _kind(dialect: Dialect) -> Any:
    return type(dialect)


def _parameters(columns: Sequence[str]) -> dict[str, Any]:
    return {column: bindparam(f"new_{column}") for column in columns}


def _update(
    where: ColumnElement[bool], columns: Sequence[str], fixed: dict[str, Any], *, together: bool = False
) -> Any:
    file_id: Any = bindparam("new_id")
    named = files.c.id.in_([file_id]) if together else files.c.id == file_id
    return files.update().where(named, where).values(**_parameters(columns), **fixed)


def _change(verb: str, columns: Sequence[str], *, again: bool = False, together: bool = False) -> Any:
    """UPDATE … WHERE the row is in a state that `verb` may leave; `again`: or in one that it was led to by the commit
    whose fate is unknown, by this verb or by one after it.
    """
    state = target(verb)
    leaves: list[ColumnElement[bool]] = [files.c.state == literal(source) for source in sources(verb)]
    if verb == "retry":
        leaves = [and_(*leaves, files.c.outcome == literal(Outcome.ERROR))]
    if again:
        leaves += [files.c.state == literal(one) for one in (state, *_FOLLOWS.get(verb, ()))]
    fixed: dict[str, Any] = {"state": literal(state), "open": literal_column("0" if state in FINAL else "1")}
    fixed |= {column: null() for column in _FORGOTTEN.get(verb, ())}
    if verb == "retry":
        fixed |= {column: literal_column("0") for column in ("attempts", "failures")}
    return _update(or_(*leaves), columns, fixed, together=together)
