"""Every verb on every kind of ledger: what it writes, where it is refused, and that it is all or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from walks import NEWS, VERBS, after, failure_of, new_file, one, say, walk

from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerConflict
from inboxd.lifecycle import TRANSITIONS, sources
from inboxd.model import InboxFile, Outcome, State


def test_an_announced_row_reads_as_it_was_written(ledger: Ledger) -> None:
    file = new_file(
        folder="in/ner", source="partner", companions=("a.done", "a.sha256"), reason="strange", sha256="0" * 64
    )
    walk(ledger, State.CLAIMING, file)
    assert ledger.get(file.id) == file
    assert ledger.get("0" * 32) is None


def _legal() -> list[tuple[State, str]]:
    return sorted(TRANSITIONS)


def _illegal() -> list[tuple[State, str]]:
    return sorted((state, verb) for state in State for verb in VERBS if (state, verb) not in TRANSITIONS)


@pytest.mark.parametrize(("state", "verb"), _legal())
def test_a_legal_arrow_writes_its_news(ledger: Ledger, state: State, verb: str) -> None:
    before = one(ledger, state)
    (told,) = say(ledger, verb, [before])
    found = ledger.get(before.id)
    assert found is not None
    assert found.state is TRANSITIONS[state, verb]
    assert {key: getattr(found, key) for key in NEWS[verb]} == {key: getattr(told, key) for key in NEWS[verb]}
    others = {key: None for key in NEWS[verb]} | {"state": state}
    assert found._replace(**others) == before._replace(**others)


@pytest.mark.parametrize(("state", "verb"), _illegal())
def test_an_illegal_arrow_is_refused_by_name(ledger: Ledger, state: State, verb: str) -> None:
    before = one(ledger, state)
    with pytest.raises(LedgerConflict, match=f"{verb}: 0 of 1 .*{before.id} is {state}"):
        say(ledger, verb, [before])
    assert ledger.get(before.id) == before


def test_only_an_error_is_retried(ledger: Ledger) -> None:
    done = one(ledger, State.DONE, outcome=Outcome.PROCESSED)
    with pytest.raises(LedgerConflict, match=done.id):
        say(ledger, "retry", [done])
    assert ledger.get(done.id) == done


def test_a_retried_file_begins_anew_whatever_its_record_says(ledger: Ledger) -> None:
    done = one(ledger, State.DONE)
    with ledger.transaction():
        ledger.retry([done._replace(ino=77)])
    found = ledger.get(done.id)
    assert found is not None
    assert (found.state, found.attempts, found.failures, found.ino) == (State.CLAIMED, 0, 0, 77)
    assert (found.outcome, found.reason, found.message, found.destination, found.result) == (None,) * 5
    assert found.finished_at is None


def test_an_abandoned_file_ends_now(ledger: Ledger) -> None:
    (gone,) = say(ledger, "abandon", [one(ledger, State.CLAIMING)], finished_at=None)
    found = ledger.get(gone.id)
    assert found is not None and found.finished_at is not None


@pytest.mark.parametrize("verb", [*VERBS, "redirect"])
def test_one_wrong_row_among_many_takes_the_transaction_back(ledger: Ledger, verb: str) -> None:
    state = State.DECIDED if verb == "redirect" else sources(verb)[0]
    files = [one(ledger, state) for _ in range(20)]
    stranger = new_file()._replace(outcome=Outcome.ERROR)
    sound = one(ledger, State.CLAIMING)
    changed = [after(file, verb) if verb != "redirect" else file for file in [*files, stranger]]
    with pytest.raises(LedgerConflict, match=f"{verb}: 20 of 21 .*{stranger.id} is unknown"), ledger.transaction():
        ledger.claim([after(sound, "claim")])
        getattr(ledger, verb)(changed)
    assert [ledger.get(file.id) for file in [*files, sound]] == [*files, sound]


@pytest.mark.parametrize("count", [1, 3, 20, 201, 450])
def test_many_files_at_once_each_get_their_own(ledger: Ledger, count: int) -> None:
    """What is claimed as it was announced, and what many have in common, is said once for all of them."""
    files = [new_file() for _ in range(count)]
    with ledger.transaction():
        ledger.announce(files)
    found_otherwise = files[0]._replace(ino=7, reason="strange")
    files = [found_otherwise, *files[1:]]
    running = [
        file._replace(
            state=State.RUNNING, batch=f"{number % 3:032}", attempts=1 + number % 2, started_at=float(number % 2)
        )
        for number, file in enumerate(files)
    ]
    with ledger.transaction():
        ledger.claim(files)
        ledger.dispatch(running)
    assert [ledger.get(file.id) for file in running] == running
    decided = [after(file, "decide", destination=file.name, finished_at=9.0) for file in running]
    with ledger.transaction():
        ledger.decide(decided)
    with ledger.transaction():
        ledger.deliver(decided[1:])
    assert ledger.counts() == {"main": {State.DECIDED: 1}}
    assert [ledger.get(file.id) for file in decided[1:]] == [file._replace(state=State.DONE) for file in decided[1:]]


def test_what_is_adopted_keeps_the_attempt_that_it_may_have_had(ledger: Ledger) -> None:
    """Its new row says nothing of it, so that the claim has to."""
    file = new_file(attempts=1)
    with ledger.transaction():
        ledger.announce([file])
    with ledger.transaction():
        ledger.claim([file])
    assert ledger.get(file.id) == file._replace(state=State.CLAIMED)


def test_an_announced_file_that_is_no_longer_claimed_is_named(ledger: Ledger) -> None:
    files = [new_file() for _ in range(3)]
    with ledger.transaction():
        ledger.announce(files)
        ledger.abandon(files[1:2])
    with pytest.raises(LedgerConflict, match=f"claim: 2 of 3 .*{files[1].id} is ABANDONED"), ledger.transaction():
        ledger.claim(files)
    assert ledger.counts() == {"main": {State.CLAIMING: 2}}


def test_a_file_is_never_dispatched_twice(ledger: Ledger) -> None:
    running = one(ledger, State.RUNNING)
    with pytest.raises(LedgerConflict, match=running.id):
        say(ledger, "dispatch", [running], batch="c" * 32)
    assert ledger.get(running.id) == running


def test_a_file_named_twice_in_one_verb_is_a_conflict(ledger: Ledger) -> None:
    claimed = one(ledger, State.CLAIMED)
    with pytest.raises(LedgerConflict, match=claimed.id):
        say(ledger, "dispatch", [claimed, claimed])
    assert ledger.get(claimed.id) == claimed


def test_an_id_is_announced_once(ledger: Ledger) -> None:
    file = one(ledger, State.CLAIMED)
    with pytest.raises(LedgerConflict), ledger.transaction():
        ledger.announce([new_file(), file._replace(name="other")])
    assert ledger.get(file.id) == file
    assert ledger.counts() == {"main": {State.CLAIMED: 1}}


def test_nothing_is_written_outside_a_transaction(ledger: Ledger) -> None:
    with pytest.raises(LedgerConflict, match="outside a transaction"):
        ledger.announce([new_file()])
    assert ledger.counts() == {}


def test_transactions_do_not_nest(ledger: Ledger) -> None:
    file = new_file()
    with ledger.transaction():
        ledger.announce([file])
        with pytest.raises(RuntimeError, match="open already"), ledger.transaction():
            pass
    assert ledger.get(file.id) == file


def test_any_error_inside_takes_everything_back(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.announce([new_file()])
        _ = 1 // 0
    assert ledger.counts() == {}
    one(ledger, State.CLAIMING)
    assert ledger.counts() == {"main": {State.CLAIMING: 1}}


def test_empty_lists_are_nothing_to_do(ledger: Ledger) -> None:
    with ledger.transaction():
        for verb in ["announce", "redirect", "failed", "forget", *VERBS]:
            getattr(ledger, verb)([])


def test_several_verbs_in_one_transaction(ledger: Ledger, history: History) -> None:
    """As the pipeline says it of a quarantined entry."""
    file = one(ledger, State.CLAIMING)
    claimed = after(file, "claim")
    decided = after(claimed, "decide", outcome=Outcome.QUARANTINE)
    with ledger.transaction():
        ledger.claim([claimed])
        ledger.decide([decided])
    assert ledger.get(file.id) == decided._replace(companions=())
    assert history.totals() == {"main": {Outcome.QUARANTINE: (1, 2048)}}


def test_redirect_changes_the_destination_alone(ledger: Ledger) -> None:
    decided = one(ledger, State.DECIDED)
    elsewhere = decided._replace(destination="x/\udcff", reason="not written")
    with ledger.transaction():
        ledger.redirect([elsewhere])
    assert ledger.get(decided.id) == decided._replace(destination="x/\udcff")


def test_failures_are_told_oldest_first(ledger: Ledger, history: History) -> None:
    file = one(ledger, State.RUNNING)
    lines = [failure_of(file, attempt, at, charged=attempt > 1) for attempt, at in ((2, 3.5), (1, 1.5), (1, 9.5))]
    with ledger.transaction():
        ledger.failed([*lines, failure_of(new_file())])
    told = [(failure.attempt, failure.at, failure.charged) for failure in ledger.failures(file.id)]
    assert told == [(1, 1.5, False), (2, 3.5, True), (1, 9.5, False)]
    assert ledger.failures(file.id) == history.failures(file.id)


def test_only_delivered_files_are_forgotten(ledger: Ledger) -> None:
    files = [one(ledger, state) for state in State]
    with ledger.transaction():
        ledger.failed([failure_of(file) for file in files])
        ledger.forget([file.id for file in files] + [f"{number:032x}" for number in range(1200)])
    for file in files:
        kept = file.state is not State.DONE
        assert (ledger.get(file.id) is not None, len(ledger.failures(file.id))) == (kept, int(kept))


def _decided(inbox: str, outcome: Outcome, size: int) -> dict[str, Any]:
    return {"inbox": inbox, "outcome": outcome, "size": size}


def test_totals_follow_decide_and_retry(ledger: Ledger, history: History) -> None:
    plan = [
        _decided("one", Outcome.PROCESSED, 10), _decided("one", Outcome.PROCESSED, 5), _decided("one", Outcome.ERROR, 7),
        _decided("two", Outcome.ERROR, 1 << 40), _decided("two", Outcome.QUARANTINE, 0),
    ]  # fmt: skip
    done: list[InboxFile] = []
    for part in plan:
        file = new_file(inbox=part["inbox"])
        done += walk(ledger, State.DONE, file, outcome=part["outcome"], size=part["size"])
    assert history.totals() == {
        "one": {Outcome.PROCESSED: (2, 15), Outcome.ERROR: (1, 7)},
        "two": {Outcome.ERROR: (1, 1 << 40), Outcome.QUARANTINE: (1, 0)},
    }
    errors = [file for file in done if file.outcome is Outcome.ERROR]
    say(ledger, "retry", errors, size=99)  # an operator may have mended the file: it leaves as it was counted
    assert history.totals()["one"][Outcome.ERROR] == (0, 0)
    assert history.totals()["two"][Outcome.ERROR] == (0, 0)
    with ledger.transaction():
        ledger.forget([file.id for file in done])
    assert history.totals()["one"][Outcome.PROCESSED] == (2, 15)


def test_a_refused_decision_is_not_counted(ledger: Ledger, history: History) -> None:
    with pytest.raises(LedgerConflict):
        say(ledger, "decide", [one(ledger, State.CLAIMED), one(ledger, State.CLAIMING)])
    assert history.totals() == {}


def test_numbers_at_their_limits(ledger: Ledger) -> None:
    edge = new_file(dev=(1 << 64) - 1, ino=1 << 63, size=(1 << 63) - 1, mtime_ns=-1, claimed_at=4102444800.123456)
    walk(ledger, State.CLAIMING, edge)
    assert ledger.get(edge.id) == edge


def test_text_that_no_database_takes_is_escaped(ledger: Ledger) -> None:
    (file,) = walk(ledger, State.RUNNING)
    (decided,) = say(
        ledger, "decide", [file], message="nul \x00 surrogate \udc80 ünï", result={"nul": "\x00", "s": "\udc80"}
    )
    found = ledger.get(file.id)
    assert found is not None
    assert found.message == "nul \\x00 surrogate \\udc80 ünï"
    assert found.result == decided.result
