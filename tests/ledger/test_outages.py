"""Locked, stopped, cut off: LedgerUnavailable with its cause, nothing lost, and the next transaction works."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from walks import after, failure_of, new_file, one, say

from inboxd.clock import SystemClock
from inboxd.custody import engine
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerConflict, LedgerRefused, LedgerUnavailable
from inboxd.model import InboxFile, Outcome, State
from support.cutter import Cutter
from support.faults import fault
from support.postgres import Postgres
from support.wait import wait_until


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


# SQLite

_HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@fault(
    "Ledger",
    "locked by another process",
    how="SQLite, BEGIN IMMEDIATE",
    shows="away, with its cause; reads go on, and the next transaction works",
)
def test_another_process_holds_the_lock(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BUSY", 0.05)
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    file = one(ledger, State.CLAIMED)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, _path(sqlite_url)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="locked") as caught:
                say(ledger, "dispatch", [file])
            assert isinstance(caught.value.__cause__, DBAPIError)
        assert ledger.get(file.id) == file  # reads go on
        holder.stdin.close()
    (running,) = say(ledger, "dispatch", [file])
    assert ledger.get(file.id) == running
    ledger.close()


def test_two_ledgers_on_one_file(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BUSY", 0.05)
    first, second = (Ledger.open(sqlite_url, "process", SystemClock()) for _ in range(2))
    file = one(first, State.CLAIMED)
    with first.transaction():
        first.dispatch([after(file, "dispatch")])
        # A third one is opened in the middle: its opening must not drop the lock that the first one holds.
        Ledger.open(sqlite_url, "process", SystemClock()).close()
        with pytest.raises(LedgerUnavailable, match="locked"):
            say(second, "dispatch", [file])
    with pytest.raises(LedgerConflict, match=f"{file.id} is RUNNING"):
        say(second, "dispatch", [file])
    assert second.get(file.id) == first.get(file.id)
    first.close()
    second.close()


@fault("Ledger", "its disk is full", how="SQLite, max_page_count", shows="away, nothing half; a new connection works")
def test_the_disk_is_full(sqlite_url: str) -> None:
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    kept = one(ledger, State.CLAIMED)
    connection = ledger._connected()
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerUnavailable, match="full"), ledger.transaction():
        ledger.announce([new_file(name="x" * 200) for _ in range(1000)])
    assert ledger.counts() == {"main": {State.CLAIMED: 1}}  # a new connection, which has room
    assert say(ledger, "dispatch", [kept])
    ledger.close()


@fault("Ledger", "a writer is killed in a transaction", how="SIGKILL, SQLite", shows="nothing of it is there")
def test_a_killed_writer_leaves_no_half(sqlite_url: str) -> None:
    Ledger.open(sqlite_url, "full", SystemClock()).close()
    program = _HOLD.replace('print("held"', 'db.execute("DELETE FROM meta"); print("held"')
    with subprocess.Popen(
        [sys.executable, "-c", program, _path(sqlite_url)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline()
        writer.kill()
    ledger = Ledger.open(sqlite_url, "full", SystemClock())
    assert ledger.identity()
    ledger.refuse_damage()
    ledger.close()


def test_a_long_reader_does_not_stop_the_writer(sqlite_url: str) -> None:
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    with closing(sqlite3.connect(_path(sqlite_url), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM files").fetchone() == (0,)
        one(ledger, State.DONE)
        assert reader.execute("SELECT count(*) FROM files").fetchone() == (0,)
    ledger.close()


@fault(
    "Ledger",
    "a long reader keeps SQLite's log from being written back",
    how="a read transaction, 80 MiB of changes",
    shows="the log grows, and is cut as soon as the reader is gone",
)
def test_the_log_behind_a_long_reader(sqlite_url: str) -> None:
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    log = Path(_path(sqlite_url) + "-wal")
    with closing(sqlite3.connect(_path(sqlite_url), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM files").fetchone() == (0,)
        while log.stat().st_size < 80 << 20:
            with ledger.transaction():
                ledger.announce([new_file(reason="x" * 100_000) for _ in range(50)])
    for _ in range(3):  # one writes it back, the next begins it anew
        one(ledger, State.CLAIMED)
    assert log.stat().st_size <= 16 << 20
    ledger.close()


# PostgreSQL


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that may be stopped."""
    own = Postgres()
    try:
        own.start()
        yield own
    finally:
        own.remove()


@fault(
    "Ledger",
    "its server is stopped and started",
    how="PostgreSQL, SIGQUIT",
    shows="away for each that asks; the next transaction works",
)
def test_the_server_is_stopped_and_started(server: Postgres) -> None:
    url = server.url(server.create())
    ledger, history = Ledger.open(url, "full", SystemClock()), History(url)
    file = one(ledger, State.CLAIMED)
    server.stop()
    asked: list[Callable[[], object]] = [
        lambda: say(ledger, "dispatch", [file]), lambda: ledger.get(file.id), history.totals,
        lambda: Ledger.open(url, "full", SystemClock()),
    ]  # fmt: skip
    for ask in [*asked, *asked]:
        with pytest.raises(LedgerUnavailable) as caught:
            ask()
        assert isinstance(caught.value.__cause__, DBAPIError)
    server.start()
    (running,) = say(ledger, "dispatch", [file])
    assert history.get(file.id) == running
    ledger.close()


def _backend(ledger: Ledger) -> int:
    return int(str(ledger._connected().exec_driver_sql("SELECT pg_backend_pid()").scalar()))


def _kill(postgres: Postgres, pid: int) -> None:
    with postgres.connect() as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s)", [pid])
        gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: administrator.execute(gone, [pid]).fetchone() == (0,), "the backend's end")


@fault(
    "Ledger",
    "the connection is cut in a transaction",
    how="PostgreSQL, pg_terminate_backend",
    shows="nothing of it is there; it can be said again",
)
def test_the_connection_is_cut_in_a_transaction(postgres: Postgres) -> None:
    ledger = Ledger.open(postgres.url(postgres.create()), "full", SystemClock())
    first, second = one(ledger, State.CLAIMED), one(ledger, State.CLAIMED)
    with pytest.raises(LedgerUnavailable), ledger.transaction():
        ledger.dispatch([after(first, "dispatch")])
        _kill(postgres, _backend(ledger))
        ledger.dispatch([after(second, "dispatch")])
    assert ledger.counts() == {"main": {State.CLAIMED: 2}}
    assert say(ledger, "dispatch", [first, second])
    ledger.close()


def test_a_caught_error_does_not_let_the_rest_through(postgres: Postgres) -> None:
    """Whoever goes on after a lost connection writes nothing: neither outside a transaction nor in a new one."""
    ledger = Ledger.open(postgres.url(postgres.create()), "full", SystemClock())
    file = one(ledger, State.CLAIMED)
    with pytest.raises(LedgerUnavailable, match="in a transaction"), ledger.transaction():
        _kill(postgres, _backend(ledger))
        with pytest.raises(LedgerUnavailable):
            ledger.get(file.id)
        assert ledger.get(file.id) == file  # reads come back by themselves
        with pytest.raises(LedgerConflict, match="outside a transaction"):
            ledger.dispatch([after(file, "dispatch")])
    assert ledger.counts() == {"main": {State.CLAIMED: 1}}
    ledger.close()


@fault(
    "Ledger",
    "a row is locked by somebody else",
    how="PostgreSQL, SELECT FOR UPDATE",
    shows="away after lock_timeout; the next transaction works",
)
def test_a_row_locked_by_somebody_else(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LIMITS", "-c lock_timeout=50ms")
    name = postgres.create()
    ledger = Ledger.open(postgres.url(name), "full", SystemClock())
    file = one(ledger, State.CLAIMED)
    with postgres.connect(name) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM files FOR UPDATE")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            say(ledger, "dispatch", [file])
    assert say(ledger, "dispatch", [file])
    ledger.close()


def test_a_server_that_became_read_only_is_away(postgres: Postgres) -> None:
    """As after a failover to a standby."""
    name = postgres.create()
    ledger = Ledger.open(postgres.url(name), "full", SystemClock())
    file = one(ledger, State.CLAIMED)
    with postgres.connect() as administrator:
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ledger.close()
        with pytest.raises(LedgerUnavailable, match="read-only"):
            say(ledger, "dispatch", [file])
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    assert say(ledger, "dispatch", [file])
    ledger.close()


def test_missing_rights_are_refused(postgres: Postgres) -> None:
    name = postgres.create()
    Ledger.open(postgres.url(name), "full", SystemClock()).close()
    with postgres.connect(name) as administrator:
        administrator.execute("DROP ROLE IF EXISTS guest")
        administrator.execute("CREATE ROLE guest LOGIN")
    guest = Ledger(postgres.url(name).replace("inboxd@", "guest@"), "full", SystemClock())
    with pytest.raises(LedgerRefused, match="permission denied"):
        one(guest, State.CLAIMED)
    guest.close()


# A commit whose fate is unknown


@pytest.fixture
def totals(far: Ledger) -> Callable[[], dict[str, dict[Outcome, tuple[int, int]]]]:
    return History(far._engine.url.render_as_string(hide_password=False)).totals


def _cut(wire: Cutter, when: str, ledger: Ledger, verb: str, files: list[InboxFile]) -> None:
    with pytest.raises(LedgerUnavailable), ledger.transaction():
        getattr(ledger, verb)(files)
        wire.cut = when
    assert wire.cut == ""


@fault(
    "Ledger",
    "the answer to a COMMIT is lost",
    how="PostgreSQL, for each verb, before or after it",
    shows="said again, it counts once",
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("state", "verb"),
    [(State.CLAIMING, "claim"), (State.CLAIMING, "abandon"), (State.CLAIMED, "dispatch"), (State.RUNNING, "release"),
     (State.RUNNING, "wait"), (State.RUNNING, "decide"), (State.DECIDED, "deliver"), (State.DECIDED, "lose"),
     (State.DONE, "retry")],
)  # fmt: skip
def test_what_was_cut_at_commit_can_be_said_again(
    far: Ledger, wire: Cutter, state: State, verb: str, when: str
) -> None:
    """With more files than before, as the pipeline does it."""
    old, new = one(far, state), one(far, state)
    _cut(wire, when, far, verb, [after(old, verb)])
    changed = [after(old, verb), after(new, verb)]
    with far.transaction():
        getattr(far, verb)(changed)
    found = [far.get(file.id) for file in changed]
    assert [file.state for file in found if file] == [changed[0].state] * 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_said_last_counts(
    far: Ledger, wire: Cutter, totals: Callable[[], dict[str, dict[Outcome, tuple[int, int]]]], when: str
) -> None:
    """A decision taken again may end elsewhere; it is counted once."""
    running = one(far, State.RUNNING)
    decided = after(running, "decide")
    with pytest.raises(LedgerUnavailable), far.transaction():
        far.decide([decided])
        far.failed([failure_of(running, at=1.0), failure_of(running, attempt=7, at=1.0)])
        wire.cut = when
    again = decided._replace(outcome=Outcome.PROCESSED, destination="2026-01-03/a.csv", finished_at=20.5)
    with far.transaction():
        far.decide([again])
        far.failed([failure_of(running, at=2.0)])
    assert far.get(running.id) == again
    expected = {Outcome.PROCESSED: (1, 2048)}
    assert {outcome: count for outcome, count in totals()["main"].items() if count != (0, 0)} == expected
    told = [(failure.attempt, failure.at) for failure in far.failures(running.id)]
    assert told == ([(1, 2.0)] if when == "before" else [(7, 1.0), (1, 2.0)])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["dispatch", "decide"])
def test_a_claim_that_goes_on_in_its_own_commit_can_be_said_again(
    far: Ledger, wire: Cutter, totals: Callable[[], dict[str, dict[Outcome, tuple[int, int]]]], verb: str, when: str
) -> None:
    """As the pipeline does it: to a worker at once, or to quarantine."""
    claimed = after(one(far, State.CLAIMING), "claim")
    gone_on = after(claimed, verb)
    with pytest.raises(LedgerUnavailable), far.transaction():
        far.claim([claimed])
        getattr(far, verb)([gone_on])
        wire.cut = when
    with far.transaction():
        far.claim([claimed])
        getattr(far, verb)([gone_on])
    assert far.get(claimed.id) == gone_on
    assert [count for count, _bytes in totals().get("main", {}).values()] == ([1] if verb == "decide" else [])


def test_a_claim_said_again_takes_back_the_run_that_never_began(far: Ledger, wire: Cutter) -> None:
    claimed = after(one(far, State.CLAIMING), "claim")
    with pytest.raises(LedgerUnavailable), far.transaction():
        far.claim([claimed])
        far.dispatch([after(claimed, "dispatch")])
        wire.cut = "after"
    (found,) = say(far, "claim", [claimed])
    assert (found.state, found.attempts) == (State.CLAIMED, 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_announcement_cut_off_can_be_said_again(far: Ledger, wire: Cutter, when: str) -> None:
    files = [new_file(), new_file()]
    _cut(wire, when, far, "announce", files[:1])
    with far.transaction():
        far.announce(files)
    assert far.counts() == {"main": {State.CLAIMING: 2}}


def test_a_retry_cut_off_leaves_the_totals_once(
    far: Ledger, wire: Cutter, totals: Callable[[], dict[str, dict[Outcome, tuple[int, int]]]]
) -> None:
    done = one(far, State.DONE)
    _cut(wire, "after", far, "retry", [after(done, "retry")])
    say(far, "retry", [done])
    assert totals() == {"main": {Outcome.ERROR: (0, 0)}}


def test_the_doubt_ends_with_the_next_commit(far: Ledger, wire: Cutter) -> None:
    """Once it is known, the same verb is a conflict again, as it always is for other rows."""
    doubtful, known = one(far, State.CLAIMED), one(far, State.RUNNING)
    _cut(wire, "after", far, "dispatch", [after(doubtful, "dispatch")])
    with pytest.raises(LedgerConflict, match=known.id):
        say(far, "dispatch", [doubtful, known])
    say(far, "dispatch", [doubtful], batch="d" * 32)
    with pytest.raises(LedgerConflict, match=doubtful.id):
        say(far, "dispatch", [doubtful], batch="e" * 32)
    found = far.get(doubtful.id)
    assert found is not None and found.batch == "d" * 32
