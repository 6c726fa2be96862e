"""Sends in the ledger, on each kind of database: verbs are compare-and-sets, and may be said again."""

from __future__ import annotations

from typing import Any

import pytest
from walks import new_file, walk

from inboxd.custody.ledger import Ledger
from inboxd.custody.sends import Sends
from inboxd.errors import LedgerConflict
from inboxd.model import Outcome, State, new_id
from inboxd.sends import SEND_TRANSITIONS, Send, SendState

S = SendState
NEWS: dict[str, dict[str, Any]] = {
    "send": {"attempts": 1},
    "wait": {"attempts": 3, "failures": 1, "not_before": 50.5, "message": "400"},
    "finish": {"failures": 0, "message": None, "ended_at": 60.25},
    "abandon": {"failures": 5, "message": "refused"},
    "drop": {"ended_at": 70.5},
    "renew": {"failures": 0, "not_before": 0.0},
}
_WAYS: dict[SendState, tuple[str, ...]] = {
    S.DUE: (),
    S.SENT: ("finish",),
    S.ABANDONED: ("abandon",),
    S.DROPPED: ("drop",),
}


@pytest.fixture
def sends(ledger: Ledger) -> Sends:
    return Sends(ledger)


def new_send(**values: Any) -> Send:
    about: dict[str, Any] = {
        "id": new_id(), "file_id": new_id(), "destination": "customer", "name": "sub/\udcff ä.csv", "inbox": "main",
        "size": 1024, "due_at": 10.5, **values,
    }  # fmt: skip
    return Send(**about)


def test_counts_leave_out_what_has_come_to_an_end(ledger: Ledger, sends: Sends) -> None:
    due, lost, sent, other = new_send(), new_send(), new_send(), new_send(destination="archive")
    _queue(ledger, due, lost, sent, other)
    with ledger.transaction():
        sends.change("abandon", [lost])
        sends.change("finish", [sent._replace(ended_at=60.25)])
    assert sends.counts() == {"customer": {S.DUE: 1, S.ABANDONED: 1}, "archive": {S.DUE: 1}}


def _queue(ledger: Ledger, *due: Send) -> None:
    with ledger.transaction():
        Sends(ledger).queue(due)


def _change(ledger: Ledger, verb: str, *changed: Send) -> None:
    with ledger.transaction():
        Sends(ledger).change(verb, changed)


def _after(send: Send, verb: str) -> Send:
    state = next(target for (_before, name), target in SEND_TRANSITIONS.items() if name == verb)
    return send._replace(state=state, **NEWS[verb])


def _one(ledger: Ledger, state: SendState, **values: Any) -> Send:
    send = new_send(**values)
    _queue(ledger, send)
    for verb in _WAYS[state]:
        send = _after(send, verb)
        _change(ledger, verb, send)
    return send


def _found(ledger: Ledger, send: Send) -> Send:
    return next(one for one in Sends(ledger).of_files([send.file_id])[send.file_id] if one.id == send.id)


def test_queued_as_it_is(ledger: Ledger) -> None:
    send = new_send()
    _queue(ledger, send)
    assert _found(ledger, send) == send


def test_queued_once(ledger: Ledger) -> None:
    """A delivery that was cut off is done again: the first id is what the destination may have heard."""
    send = _one(ledger, S.SENT)
    _queue(ledger, send._replace(id=new_id(), state=S.DUE), new_send(file_id=send.file_id, destination="other"))
    assert _found(ledger, send) == send
    assert len(Sends(ledger).of_files([send.file_id])[send.file_id]) == 2


@pytest.mark.parametrize(("before", "verb"), sorted(SEND_TRANSITIONS))
def test_each_arrow(ledger: Ledger, before: SendState, verb: str) -> None:
    send = _one(ledger, before)
    _change(ledger, verb, _after(send, verb))
    assert _found(ledger, send) == _after(send, verb)
    _change(ledger, verb, _after(send, verb))
    assert _found(ledger, send) == _after(send, verb), "said again after a COMMIT that was cut off"


@pytest.mark.parametrize("before", list(SendState))
@pytest.mark.parametrize("verb", list(NEWS))
def test_no_other_arrow(ledger: Ledger, before: SendState, verb: str) -> None:
    target = next(state for (_before, name), state in SEND_TRANSITIONS.items() if name == verb)
    if (before, verb) in SEND_TRANSITIONS or before is target:
        return
    send = _one(ledger, before)
    with pytest.raises(LedgerConflict, match=verb):
        _change(ledger, verb, _after(send, verb))
    assert _found(ledger, send) == send


def test_what_is_due(ledger: Ledger, sends: Sends) -> None:
    late = _one(ledger, S.DUE, not_before=20.0)
    soon = _one(ledger, S.DUE, not_before=10.0)
    for state in (S.SENT, S.ABANDONED, S.DROPPED):
        _one(ledger, state)
    _one(ledger, S.DUE, destination="other")
    assert sends.due("customer", 15.0, 10) == [soon]
    assert sends.due("customer", 20.0, 10) == [soon, late]
    assert sends.due("customer", 20.0, 1) == [soon]
    assert sends.next_due("customer", 10.0) == 20.0
    assert sends.next_due("customer", 20.0) is None
    with ledger.transaction():
        assert sends.hurry("customer", 15.0) == 1
    assert sends.next_due("customer", 0.0) == 10.0


def test_what_is_open(ledger: Ledger, sends: Sends) -> None:
    assert not sends.waits_in("main")
    _one(ledger, S.SENT)
    assert not sends.waits_in("main")
    given_up = _one(ledger, S.ABANDONED)
    assert sends.waits_in("main")
    assert not sends.waits_in("other")
    due = _one(ledger, S.DUE)
    assert sends.open_to("customer") == sorted([given_up, due])


def test_retention_waits_for_what_is_unsent(ledger: Ledger, sends: Sends) -> None:
    """And what was sent is forgotten together with its file."""
    files = walk(ledger, State.DONE, new_file(), new_file(), outcome=Outcome.PROCESSED)
    open_one, sent = (new_send(file_id=file.id) for file in files)
    _queue(ledger, open_one, sent)
    _change(ledger, "finish", _after(sent, "finish"))
    old = ledger.prune(files[0].inbox, Outcome.PROCESSED, 1e12, 10)
    assert [file.id for file in old] == [files[1].id]
    with ledger.transaction():
        ledger.forget([file.id for file in old])
    assert list(sends.of_files([file.id for file in files])) == [files[0].id]
