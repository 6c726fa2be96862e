"""A new ledger from what the folders tell, and from what can still be read of the old one. The daemon is stopped.

1. `take over`  rows of the old ledger, as far as they can be read (wreck.py)
2. `look`       what lies in processed/, errors/ and quarantine/ gets a row, if none knows it (relics.py)
3. `count`      the totals
4. `switch`     the old file is set aside, never removed; the new one takes its place

Up to the last step nothing but a draft is written. Cut off in the last step, the next call goes on there. What lies in
work/ is left to recovery, which adopts at the next start what no row knows; so is what runs came to while the ledger
was away (outcomes.py).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, cast, func, select

from inboxd.clock import Clock
from inboxd.custody import disk
from inboxd.custody.deliver import is_as_delivered, is_what_we_delivered
from inboxd.custody.engine import make_reader, place_of, sqlite_path, translated
from inboxd.custody.failpoints import failpoint
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.relics import Likeness, Place, Relic, ended, likeness, relics
from inboxd.custody.rows import Rows, failure_values, kept_moment
from inboxd.custody.schema import REVISION, failures, files, items, meta, sends, totals
from inboxd.custody.statements import literal
from inboxd.custody.wreck import Wreck
from inboxd.errors import LedgerRefused, LedgerUnavailable
from inboxd.items import ItemState
from inboxd.model import Failure, InboxFile, Outcome, State, is_beside, new_id

_PAGE = 500
_SECOND = 10**9  # nanoseconds
_ALL = 1 << 31
_COLUMNS = [column.name for column in files.columns if column.name != "open"]
_KNOWN = (State.DONE, State.DECIDED)


@dataclass(slots=True)
class Summary:
    """What a rebuild has done. Rows by table, files by outcome."""

    taken: Counter[str] = field(default_factory=Counter)  # rows that could be read
    unreadable: Counter[str] = field(default_factory=Counter)  # rows that made no sense
    broken: list[str] = field(default_factory=list)  # tables of which a part can't be read
    found: Counter[str] = field(default_factory=Counter)  # files that no row knew, at their ends
    moved_on: int = 0  # rows of files that had come to their ends since
    to_adopt: int = 0  # files in work/ that no row knows
    to_fetch: int = 0  # items whose files are nowhere, and whose sources have not been told
    missing: int = 0  # open rows whose files are nowhere
    aside: str = ""  # where the old file is now


class Rebuild:
    """Of one ledger; the state folder and every work/ are ours alone. `state` holds ledger.id."""

    def __init__(self, url: str, state: Path, places: Sequence[Place], clock: Clock) -> None:
        self._url = url
        self._known = state / "ledger.id"
        self._places = places
        self._clock = clock
        self._path = Path(sqlite_path(url)) if sqlite_path(url) else None
        self.summary = Summary()

    def run(self) -> Summary:
        """All of it. Raises LedgerRefused, LedgerUnavailable, OSError: then the old ledger is as it was."""
        if self._path is None:
            self._refuse_rows()
            self._fill(self._url, None)
            return self.summary
        draft, made = _beside(self._path, ".part"), _beside(self._path, ".rebuilt")
        if self._path.exists() or not made.exists():
            wreck = Wreck(self._path)
            self._refuse_other(wreck)
            for path in (draft, _beside(draft, "-wal"), _beside(draft, "-shm"), made):
                path.unlink(missing_ok=True)
            self._fill(f"sqlite:///{draft}", wreck if self._path.exists() else None)
            self._refuse_half(draft)
            draft.rename(made)
        failpoint("rebuild.filled")
        self._switch(self._path, made)
        return self.summary

    def _refuse_rows(self) -> None:
        engine = make_reader(self._url)
        with translated(place_of(self._url)), engine.connect() as connection:
            tables = connection.dialect.get_table_names(connection)
        if tables:
            raise LedgerRefused(
                f"{place_of(self._url)} holds tables, and is not overwritten: {', '.join(sorted(tables)[:5])}",
                hint="keep a copy of what is there, give inboxd an empty database, and say it again",
            )

    def _refuse_other(self, wreck: Wreck) -> None:
        """What is not ours says nothing of our files."""
        identity = wreck.word("SELECT value FROM meta WHERE key = 'identity'")
        ours = self._identity()
        if identity and ours and identity != ours:
            raise LedgerRefused(
                f"the ledger {self._path} is another one: {self._known} says that ours has the identity {ours}",
                hint=f"move it away first, with {self._path}-wal and {self._path}-shm",
            )
        revision = wreck.word("SELECT version_num FROM alembic_version")
        if revision and revision.isdigit() and revision > REVISION:
            raise LedgerRefused(
                f"the ledger {self._path} has schema {revision}, this inboxd knows {REVISION}",
                hint="install the newer inboxd again",
            )

    def _refuse_half(self, draft: Path) -> None:
        """Closing it, SQLite says nothing when it can't bring its log into it, as on a full disk."""
        log = _beside(draft, "-wal")
        if log.exists() and log.stat().st_size > 0:
            raise LedgerUnavailable(
                f"{draft} is not whole: its log could not be written back into it; the ledger is as it was",
                hint="make room on the disk, then say it again",
            )

    def _identity(self) -> str:
        return disk.read_noted(self._known).strip()

    def _fill(self, url: str, wreck: Wreck | None) -> None:
        provisional = self._known.with_name("ledger.id.rebuilt")
        provisional.unlink(missing_ok=True)
        ledger = Ledger.open(url, "full", self._clock, provisional)
        try:
            if wreck is not None:
                self._take_over(ledger, wreck)
            for place in self._places:
                self._look(ledger, place, any_known=bool(self.summary.taken["files"]))
            self._count(ledger)
            if identity := self._identity():  # last of all: an unfinished ledger is refused as another one
                with ledger.transaction():
                    ledger.writer().execute(meta.update().where(meta.c.key == "identity").values(value=identity))
        finally:
            ledger.close()
            provisional.unlink(missing_ok=True)

    # Take over

    def _take_over(self, ledger: Ledger, wreck: Wreck) -> None:
        for table in (files, failures, items, sends):
            for page in _pages(wreck.rows(table)):
                statement = ledger.dialect_insert(table).on_conflict_do_nothing()
                with ledger.transaction():
                    ledger.writer().execute(statement, page)
                self.summary.taken[table.name] += len(page)
        with ledger.transaction():
            ledger.writer().exec_driver_sql("CREATE INDEX rebuilt_places ON files (inbox, destination)")
        self.summary.unreadable = +wreck.unreadable
        self.summary.broken = sorted(wreck.broken)

    # Look

    def _look(self, ledger: Ledger, place: Place, *, any_known: bool) -> None:
        assert place.work is not None
        present = os.listdir(place.work)
        gone = self._gone(ledger, place, set(present)) if any_known else {}
        for page in _pages(relics(place)):
            unknown = [one for one in page if not any_known or not _knows(ledger, place, one)]
            with ledger.transaction():
                for relic in unknown:
                    self._add(ledger, place, relic, gone.pop(relic.likeness, None))
        self.summary.missing += sum(row.state in (State.CLAIMED, State.RUNNING, State.WAITING) for row in gone.values())
        ids = {name[:32] for name in present if not is_beside(name)}
        self.summary.to_adopt += sum(ledger.get(file_id) is None for file_id in ids)
        self._give_back(ledger, place, ids)

    def _gone(self, ledger: Ledger, place: Place, present: set[str]) -> dict[Likeness, InboxFile]:
        """Open rows whose files are not in work/ any more, and errors that have left errors/ by a retry: they may have
        come to their ends since.
        """
        rows = ledger.open_files(State.CLAIMING, State.CLAIMED, State.RUNNING, State.WAITING, State.DECIDED)
        errors, now = place.finals[Outcome.ERROR], self._clock.time()
        ended_before = ledger.prune(place.inbox, Outcome.ERROR, now, _ALL)
        left = (row for row in ended_before if not os.path.lexists(errors / (row.destination or "")))
        mine = (row for row in (*rows, *left) if row.inbox == place.inbox and row.work_name not in present)
        return {likeness(row): row for row in mine}

    def _add(self, ledger: Ledger, place: Place, relic: Relic, row: InboxFile | None) -> None:
        """In the open transaction."""
        told = relic.story["id"] if relic.story else None
        known = row or (ledger.get(told) if told else None)
        if known is None:
            self.summary.found[str(relic.outcome)] += 1
            _insert(ledger, *ended(place, relic, None, told))
        elif row is None and known.state in _KNOWN:  # its sidecar's id is another file's, which lies elsewhere
            self.summary.found[str(relic.outcome)] += 1
            _insert(ledger, *ended(place, relic, None, None))
        else:
            self.summary.moved_on += 1
            ledger.writer().execute(files.delete().where(files.c.id == known.id))
            _insert(ledger, *ended(place, relic, known, None))
            if relic.outcome is Outcome.PROCESSED:
                Items(ledger).processed([known.id])

    def _give_back(self, ledger: Ledger, place: Place, held: set[str]) -> None:
        """Items whose files are gone with their rows, and whose sources have not been told: they are fetched again."""
        for item in Items(ledger).in_state(ItemState.HELD):
            if item.inbox != place.inbox or item.id in held or ledger.get(item.id) is not None:
                continue
            values = {"id": new_id(), "state": str(ItemState.DISCOVERED), "fetched_at": None, "not_before": 0.0}
            with ledger.transaction():
                ledger.writer().execute(items.update().where(items.c.id == item.id).values(**values))
            self.summary.to_fetch += 1

    # Count

    def _count(self, ledger: Ledger) -> None:
        ended_rows = (
            select(files.c.inbox, files.c.outcome, func.count(), cast(func.sum(files.c.size), BigInteger))
            .where(files.c.state.in_([literal(state) for state in _KNOWN]))
            .group_by(files.c.inbox, files.c.outcome)
        )
        with ledger.transaction():
            ledger.writer().execute(totals.insert().from_select(["inbox", "outcome", "files", "bytes"], ended_rows))
            if self._path is not None:
                ledger.writer().exec_driver_sql("DROP INDEX IF EXISTS rebuilt_places")

    # Switch

    def _switch(self, path: Path, made: Path) -> None:
        """The old file first: while there is none, the daemon refuses to start.

        Its log must follow under its name, whichever call moves it: so that tells when the new one was made.
        """
        when = time.strftime("%Y-%m-%dT%H%M%S", time.localtime(made.stat().st_mtime))
        aside = _beside(path, f".{when}.damaged")
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                _beside(path, ending).rename(_beside(aside, ending))
                self.summary.aside = str(aside)
        failpoint("rebuild.aside")
        made.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _knows(ledger: Ledger, place: Place, relic: Relic) -> bool:
    """A row says that this very file lies here. Those that were taken from here before it have their rows, too."""
    told = relic.story["id"] if relic.story else None
    rows = ledger.ended_at(place.inbox, relic.outcome, relic.destination)
    return any(
        row.id == told  # perhaps mended since
        or is_as_delivered(relic.found, row)
        or (told is None and (is_what_we_delivered(relic.found, row) or _may_be_restored(relic.found, row)))
        for row in rows
    )


def _may_be_restored(found: os.stat_result, row: InboxFile) -> bool:
    """Its size and its time are the row's, and only its inode is not: a backup has made it anew.

    When a whole disk has been restored, this holds for every file, and a second row for each would help nobody. What
    its handler has written to gets one there: two rows of a file do less harm than none.
    """
    moment = kept_moment(row.mtime_ns)
    kept = (moment, moment // _SECOND * _SECOND)  # GNU tar leaves out the fraction
    return found.st_size == row.size and kept_moment(found.st_mtime_ns) in kept


def _insert(ledger: Ledger, record: InboxFile, lines: Iterable[Failure]) -> None:
    (values,) = Rows(_COLUMNS).of([record])
    ledger.writer().execute(files.insert(), {**dict(zip(_COLUMNS, values, strict=True)), "open": 0})
    told = {(failure.attempt, int(failure.at)) for failure in ledger.failures(record.id)}
    for line in lines:
        if (line.attempt, int(line.at)) in told:  # a sidecar tells whole seconds
            continue
        row = dict(zip([column.name for column in failures.columns], failure_values(line), strict=True))
        ledger.writer().execute(ledger.dialect_insert(failures).on_conflict_do_nothing(), row)


def _pages(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(rows)
    while page := list(islice(rest, _PAGE)):
        yield page


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
