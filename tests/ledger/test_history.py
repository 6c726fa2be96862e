"""Reading beside the writer."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from walks import after, new_file, one, say, walk

from inboxd.clock import SystemClock
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerRefused
from inboxd.model import InboxFile, Outcome, State, new_id


def test_a_reader_sees_what_is_committed_and_never_waits(ledger: Ledger, history: History) -> None:
    kept = one(ledger, State.CLAIMED)
    coming = new_file()
    with ledger.transaction():
        ledger.announce([coming])
        ledger.dispatch([after(kept, "dispatch")])
        seen: list[InboxFile | None] = []
        reader = threading.Thread(target=lambda: seen.extend([history.get(kept.id), history.get(coming.id)]))
        reader.start()
        reader.join(10)
        assert seen == [kept, None]
    assert history.get(coming.id) == coming
    assert history.counts() == ledger.counts()


def test_an_id_may_be_cut_short_while_it_is_unique(ledger: Ledger, history: History) -> None:
    ids = ["0193abcd" + digit * 24 for digit in ("0", "9", "a", "f")] + ["0193abce" + "f" * 24]
    files = {file.id: file for file in walk(ledger, State.CLAIMED, *(new_file(id=one_id) for one_id in ids))}
    for one_id in ids[:4]:
        assert history.get(one_id[:9]) == files[one_id]
    assert history.get("0193abce") == files[ids[4]]
    assert history.get("0193abcd") is None  # four of them
    assert [file.id for file in history.like("0193abcd", 3)] == ids[:3]
    assert history.get("0193abc") is None  # too short
    assert history.get("0193abcf") is None
    assert history.get("0193abcd%") is None


@pytest.fixture
def rows(ledger: Ledger) -> dict[str, InboxFile]:
    """Five files of two inboxes, claimed a second apart from 1000 on."""
    plan = {
        "waiting": ("main", State.WAITING, Outcome.ERROR), "error": ("main", State.DONE, Outcome.ERROR),
        "good": ("main", State.DONE, Outcome.PROCESSED), "bad": ("other", State.DECIDED, Outcome.QUARANTINE),
        "running": ("other", State.RUNNING, Outcome.ERROR),
    }  # fmt: skip
    return {
        word: walk(
            ledger, state, new_file(id=new_id(moment), inbox=inbox, name=word), outcome=outcome, claimed_at=moment
        )[0]
        for moment, (word, (inbox, state, outcome)) in enumerate(plan.items(), 1000)
    }


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, ["running", "bad", "good", "error", "waiting"]),
        ({"limit": 2}, ["running", "bad"]),
        ({"inbox": "main"}, ["good", "error", "waiting"]),
        ({"states": [State.WAITING, State.RUNNING]}, ["running", "waiting"]),
        ({"states": [State.DONE]}, ["good", "error"]),
        ({"states": []}, []),
        ({"states": [State.WAITING, State.DONE], "inbox": "main"}, ["good", "error", "waiting"]),
        ({"outcome": Outcome.ERROR}, ["error"]),
        ({"outcome": Outcome.QUARANTINE}, ["bad"]),
        ({"outcome": Outcome.PROCESSED, "inbox": "main"}, ["good"]),
        ({"since": 1002.0}, ["running", "bad", "good"]),
        ({"since": -5.0}, ["running", "bad", "good", "error", "waiting"]),
        ({"inbox": "'"}, []),
    ],
)
def test_find(rows: dict[str, InboxFile], history: History, question: dict[str, object], expected: list[str]) -> None:
    assert history.find(**question) == [rows[word] for word in expected]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/in/deep/er/x", ["x", "deep/er/x"]), ("/deep/er/x", ["x", "deep/er/x"]), ("/in/er/../x", ["x"]),
        ("/in/er/x", ["x"]), ("/x", ["x"]), ("/out/2026/y", ["x"]), ("/out/y", []), ("/in/\udcff", []),
    ],
)  # fmt: skip
def test_ends_of_paths(ledger: Ledger, history: History, path: str, found: list[str]) -> None:
    walk(ledger, State.DONE, new_file(name="x", folder="deep/er"), destination="elsewhere")
    walk(ledger, State.DONE, new_file(name="x"), destination="2026/y")
    assert [file.below for file in history.ending_in(["main", "'"], path, 5)] == found
    assert not history.ending_in(["other"], path, 5)


def test_find_goes_on_where_it_ended(rows: dict[str, InboxFile], history: History) -> None:
    first = history.find(limit=3)
    assert [file.name for file in history.find(limit=3, before_id=first[-1].id)] == ["error", "waiting"]


def test_by_name_newest_first(ledger: Ledger, history: History) -> None:
    made = [new_file(id=new_id(moment), folder="in", name="\udcff") for moment in (1, 2, 3)]
    walk(ledger, State.CLAIMED, *made, new_file(name="\udcff"), new_file(inbox="other", folder="in", name="\udcff"))
    assert [file.id for file in history.by_name("main", "in", "\udcff", 2)] == [made[2].id, made[1].id]
    assert history.by_name("main", "in", "else") == []


def test_by_place_among_those_claimed_before(ledger: Ledger, history: History) -> None:
    made = [new_file(id=new_id(moment), claimed_at=moment) for moment in (1000.0, 2000.0, 3000.0)]
    walk(ledger, State.DONE, *made, destination="day/\udcff")
    walk(ledger, State.DONE, new_file(inbox="other", id=new_id(1500.0)), destination="day/\udcff")
    found = [history.by_place("main", "day/\udcff", at) for at in (500.0, 1000.0, 1999.0, 9e9)]
    assert [file.id if file else None for file in found] == [None, made[0].id, made[0].id, made[2].id]
    assert history.by_place("main", "else", 9e9) is None


def test_the_oldest_that_is_open(rows: dict[str, InboxFile], history: History) -> None:
    assert history.oldest() == {"main": 1000.0, "other": 1003.0}


def test_a_reader_can_not_write(ledger: Ledger, history: History) -> None:
    with history._engine.connect() as connection, pytest.raises(DBAPIError):
        connection.exec_driver_sql("DELETE FROM files")


def test_a_reader_never_makes_a_ledger(tmp_path: Path) -> None:
    history = History(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with pytest.raises(LedgerRefused, match=r"ledger\.sqlite is missing"):
        history.totals()
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_daemons_ledger_is_read(url: str) -> None:
    ledger = Ledger.open(url, "full", SystemClock())
    file = one(ledger, State.DONE)
    ledger.close()
    assert History(url).get(file.id) == file
    reopened = Ledger.open(url, "full", SystemClock())
    assert say(reopened, "retry", [file])
    reopened.close()


def test_strange_characters_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "a#b c'ü"
    folder.mkdir()
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    ledger = Ledger.open(url, "process", SystemClock())
    file = one(ledger, State.CLAIMED)
    assert History(url).get(file.id) == file
    assert all(stat.S_IMODE(os.stat(entry).st_mode) == 0o600 for entry in folder.iterdir())
    ledger.close()
