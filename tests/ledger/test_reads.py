"""What the writer's thread asks: in which order, within which bounds, at what price."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from walks import after, new_file, one, say, walk

from inboxd.clock import SystemClock
from inboxd.custody import reading
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.custody.statements import Together
from inboxd.model import Outcome, State, called_twin, new_id


def test_waiting_files_come_longest_due_first(ledger: Ledger) -> None:
    files = {due: one(ledger, State.WAITING, not_before=due) for due in (30.0, 10.0, 20.0, 40.0)}
    tie = one(ledger, State.WAITING, not_before=10.0)
    (other,) = walk(ledger, State.WAITING, new_file(inbox="other"), not_before=5.0)
    due = [file.id for file in ledger.waiting("main", 30.0, 10)]
    assert due == [*sorted([files[10.0].id, tie.id]), files[20.0].id, files[30.0].id]
    assert [file.not_before for file in ledger.waiting("main", 30.0, 2)] == [10.0, 10.0]
    assert ledger.waiting("main", 9.9, 10) == []
    assert ledger.waiting("other", 5.0, 10) == [other]


def test_the_next_moment_of_each_inbox(ledger: Ledger) -> None:
    for due in (30.0, 10.0):
        one(ledger, State.WAITING, not_before=due)
    walk(ledger, State.WAITING, new_file(inbox="other"), not_before=25.0)
    one(ledger, State.CLAIMED)
    assert ledger.next_waiting(0.0) == {"main": 10.0, "other": 25.0}
    assert ledger.next_waiting(10.0) == {"main": 30.0, "other": 25.0}
    assert ledger.next_waiting(30.0) == {}


def test_claimed_files_come_oldest_first_and_in_pages(ledger: Ledger) -> None:
    files = walk(ledger, State.CLAIMED, *(new_file(id=new_id(now)) for now in (5, 1, 3, 2, 4)))
    walk(ledger, State.CLAIMED, new_file(inbox="other"))
    one(ledger, State.RUNNING)
    oldest = sorted(files, key=lambda file: file.id)
    assert ledger.claimed("main", 3) == oldest[:3]
    assert ledger.claimed("main", 3, after_id=oldest[2].id) == oldest[3:]


def test_open_files_are_streamed_while_they_change(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two pages, several inboxes, and each row leaves its state as soon as it has been given."""
    monkeypatch.setattr(reading, "_PAGE", 7)
    files = walk(ledger, State.CLAIMED, *(new_file(inbox=f"in{number % 3}") for number in range(30)))
    one(ledger, State.DONE)
    given = []
    for file in ledger.open_files(State.CLAIMED):
        given.append(file)
        say(ledger, "dispatch", [file])
    assert given == sorted(files, key=lambda file: (file.inbox, file.id))
    assert list(ledger.open_files(State.CLAIMED)) == []
    assert [file.id for file in ledger.open_files(State.WAITING, State.RUNNING)] == [file.id for file in given]


def test_exactly_one_page_is_no_special_case(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAGE", 5)
    files = walk(ledger, State.CLAIMED, *(new_file() for _ in range(10)))
    assert {file.id for file in ledger.open_files(State.CLAIMED)} == {file.id for file in files}


def test_open_rows_are_counted_by_inbox_and_state(ledger: Ledger) -> None:
    for state in State:
        one(ledger, state)
    walk(ledger, State.WAITING, new_file(inbox="other"), new_file(inbox="other"))
    opened = (State.CLAIMING, State.CLAIMED, State.RUNNING, State.WAITING, State.DECIDED)
    assert ledger.counts() == {"main": dict.fromkeys(opened, 1), "other": {State.WAITING: 2}}


def test_a_twin_is_the_last_processed_within_the_window(ledger: Ledger) -> None:
    digest = "cd" * 32
    common = {"sha256": digest, "outcome": Outcome.PROCESSED}
    (old,) = walk(ledger, State.DONE, new_file(id=new_id(1)), **common, finished_at=100.0)
    (young,) = walk(ledger, State.DECIDED, new_file(id=new_id(2)), **common, finished_at=200.0)
    walk(ledger, State.DONE, new_file(id=new_id(3)), **{**common, "outcome": Outcome.ERROR}, finished_at=300.0)
    walk(ledger, State.DONE, new_file(id=new_id(4), inbox="other"), **common, finished_at=300.0)
    walk(ledger, State.CLAIMED, new_file(id=new_id(5)), sha256=digest)
    asker = new_id()
    assert ledger.twin("main", digest, 0.0, asker) == young
    assert ledger.twin("main", digest, 200.0, asker) == young
    assert ledger.twin("main", digest, 0.0, young.id) == old
    assert ledger.twin("main", digest, 200.5, asker) is None
    assert ledger.twin("main", "ef" * 32, 0.0, asker) is None
    (skipped,) = walk(ledger, State.DONE, new_file(id=new_id(6)), **common, reason="duplicate", finished_at=400.0)
    assert ledger.twin("main", digest, 150.0, asker) == young
    assert ledger.twin("main", digest, 200.5, asker) is None
    assert ledger.twin("main", digest, 0.0, asker) == skipped
    again = {**common, "reason": "duplicate", "message": called_twin(young), "finished_at": 500.0}
    walk(ledger, State.DONE, new_file(id=new_id(7)), **again)
    assert ledger.twin("main", digest, 150.0, asker) == young
    assert ledger.twin("main", digest, 200.5, asker) is None


def test_prune_gives_what_is_old_and_delivered(ledger: Ledger) -> None:
    def ended(state: State, at: float, **values: object) -> str:
        return walk(ledger, state, new_file(id=new_id(at - 1)), finished_at=at, **values)[0].id

    first, second = ended(State.DONE, 1000.0), ended(State.DONE, 1001.0)
    ended(State.DONE, 2000.0)
    ended(State.DECIDED, 1000.0)
    processed = ended(State.DONE, 1000.0, outcome=Outcome.PROCESSED)
    walk(ledger, State.DONE, new_file(id=new_id(999), inbox="other"), finished_at=1000.0)
    assert [file.id for file in ledger.prune("main", Outcome.ERROR, 1999.0, 10)] == [first, second]
    assert [file.id for file in ledger.prune("main", Outcome.ERROR, 1999.0, 1)] == [first]
    assert [file.id for file in ledger.prune("main", Outcome.PROCESSED, 1999.0, 10)] == [processed]
    assert [file.id for file in ledger.prune("main", Outcome.ERROR, 1999.0, 10, first)] == [second]
    assert ledger.prune("main", Outcome.ERROR, 1000.0, 10) == []
    assert ledger.prune("main", Outcome.ERROR, -5.0, 10) == []


def test_a_sound_ledger_has_nothing_to_say(ledger: Ledger) -> None:
    ledger.refuse_damage()
    assert len(ledger.identity()) == 32


def test_a_read_inside_a_transaction_sees_its_writes(ledger: Ledger) -> None:
    file = one(ledger, State.CLAIMING)
    with ledger.transaction():
        ledger.claim([after(file, "claim")])
        assert ledger.claimed("main", 5) == [after(file, "claim")]


_HOT = {
    "waiting": (lambda ledger: ledger.waiting("main", 1.0, 10), "files_waiting"),
    "next_waiting": (lambda ledger: ledger.next_waiting(0.0), "files_waiting"),
    "claimed": (lambda ledger: ledger.claimed("main", 10), "files_open"),
    "open_files": (lambda ledger: list(ledger.open_files(State.DECIDED)), "files_open"),
    "counts": (lambda ledger: ledger.counts(), "files_open"),
    "twin": (lambda ledger: ledger.twin("main", "0" * 64, 0.0, ""), "files_content"),
    "prune": (lambda ledger: ledger.prune("main", Outcome.PROCESSED, 1.0, 10), "PRIMARY KEY (id>? AND id<?)"),
}


@pytest.mark.parametrize("question", _HOT)
def test_no_question_of_the_pipeline_reads_all_rows(sqlite_url: str, question: str) -> None:
    """SQLite tells its plan; ten million rows must not matter."""
    ask, index = _HOT[question]
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    said: list[tuple[str, object]] = []
    connection = ledger._connected()
    spy = SimpleNamespace(
        execute=lambda statement: (said.append(_text(statement, connection)), connection.execute(statement))[1]
    )
    ledger._connected = lambda: spy  # type: ignore[method-assign, return-value, assignment]
    ask(ledger)
    text, parameters = said[0]
    plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)]  # type: ignore[arg-type]
    ledger.close()
    assert any(
        (index in line and "SEARCH" in line) or (question in ("counts", "next_waiting") and index in line)
        for line in plan
    ), plan
    assert not any("TEMP B-TREE FOR ORDER" in line for line in plan), plan


def test_no_change_of_many_rows_reads_all(sqlite_url: str) -> None:
    """However many ids stand in it, each is looked up."""
    ledger = Ledger.open(sqlite_url, "process", SystemClock())
    statements = [ledger._statements.accept, *ledger._statements.change.values()]
    texts = [text for one in statements if isinstance(one, Together) for text in one._texts.values()]
    assert len(texts) == 5 * 8
    for text in texts:
        nothing = (None,) * text.count("?")
        plan = [row[3] for row in ledger._connected().exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", nothing)]
        assert plan[0] == "SEARCH files USING PRIMARY KEY (id=?)", (text, plan)
    ledger.close()


def _text(statement: object, connection: object) -> tuple[str, object]:
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return compiled.string, tuple(compiled.params[name] for name in compiled.positiontup)


def test_pages_do_not_begin_at_the_beginning(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAGE", 2)
    files = walk(ledger, State.DECIDED, *(new_file()._replace(inbox=inbox) for inbox in ("b", "a", "c", "a")))
    assert len(list(ledger.open_files(State.DECIDED))) == len(files)


def test_an_old_file_is_found_among_any_number(ledger: Ledger, history: History) -> None:
    (old,) = walk(ledger, State.DONE, new_file(id=new_id(1), name="old.csv"), destination="day/old.csv")
    with ledger.transaction():
        ledger.announce([new_file() for _ in range(21_000)])
    assert history.by_place("main", "day/old.csv", 9e9) == old
    assert history.by_place("main", "day/old.csv", 9e9, Outcome.ERROR) == old
    assert history.by_name("main", "", "old.csv") == [old]


def test_two_folders_may_hold_the_same_name(ledger: Ledger, history: History) -> None:
    made = {
        outcome: walk(ledger, State.DONE, new_file(id=new_id(moment)), outcome=outcome, destination="a.csv")[0]
        for moment, outcome in enumerate(Outcome, 1)
    }
    assert {outcome: history.by_place("main", "a.csv", 9e9, outcome) for outcome in Outcome} == made
