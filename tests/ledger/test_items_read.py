"""Items of sources, read beside their writer."""

from __future__ import annotations

from typing import Any

import pytest
from walks import new_file, walk

from inboxd.custody.history import History
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.items import Item, ItemState
from inboxd.model import Outcome, State, new_id

_WAYS: dict[ItemState, tuple[str, ...]] = {
    ItemState.DISCOVERED: (),
    ItemState.FETCHING: ("fetch",),
    ItemState.ABANDONED: ("fetch", "abandon"),
    ItemState.HELD: ("fetch", "hold"),
    ItemState.ACK_DUE: ("fetch", "hold"),
    ItemState.ACKED: ("fetch", "hold"),
}
_ACKS = {ItemState.HELD: "processed", ItemState.ACK_DUE: "held"}


@pytest.fixture
def items(ledger: Ledger) -> Items:
    return Items(ledger)


def bring(ledger: Ledger, state: ItemState, word: str, **values: Any) -> Item:
    """An item in this state."""
    about: dict[str, Any] = {"source": "acme", "version": "1", "inbox": "main", "id": new_id(), "name": f"{word}.csv"}
    item = Item(item=word, **{**about, "ack": _ACKS.get(state, ""), **values})
    written = Items(ledger)
    with ledger.transaction():
        written.discover([item])
        for verb in _WAYS[state]:
            if verb == "hold":
                written.hold([item], 12.0)
            else:
                written.change(verb, [item])
    return item._replace(state=state)


def test_counts_leave_out_what_is_acknowledged(ledger: Ledger, history: History) -> None:
    for number, state in enumerate(ItemState):
        for copy in range(number + 1):
            bring(ledger, state, f"{state}-{copy}")
    bring(ledger, ItemState.ABANDONED, "x", source="other")
    states = [state for state in ItemState if state is not ItemState.ACKED]
    expected = {state: number + 1 for number, state in enumerate(ItemState) if state in states}
    assert history.item_counts() == {"acme": expected, "other": {ItemState.ABANDONED: 1}}


def test_items_are_found_by_what_anybody_calls_them(ledger: Ledger, history: History) -> None:
    old = bring(ledger, ItemState.ACKED, "a", version="1", id="0193abcd" + "0" * 24, name="x.csv")
    new = bring(ledger, ItemState.DISCOVERED, "a", version="2", id="0193abcd" + "1" * 24, name="x.csv")
    other = bring(ledger, ItemState.ACKED, "b", source="other", id="0193abce" + "0" * 24, name="y.csv")
    sources = ["acme", "other"]

    def ids(word: str, among: list[str] = sources) -> list[str]:
        return [item.id for item in history.items_called(among, word, 5)]

    assert ids("a") == [new.id, old.id]
    assert ids("a", ["other"]) == []
    assert ids("0193abcd") == [new.id, old.id]
    assert ids(old.id) == [old.id]
    assert ids("x.csv") == [new.id], "those that are not acknowledged are more likely to be meant"
    assert ids("y.csv", []) == [other.id]
    assert ids("nosuch\0") == ids("0193abcd%") == ids("") == []
    assert len(history.items_called(sources, "a", 1)) == 1
    found = history.item_of_file(other.id)
    assert found is not None and (found.item, found.state) == ("b", ItemState.ACKED)
    assert history.item_of_file("f" * 32) is None


def test_those_in_trouble(ledger: Ledger, history: History) -> None:
    failed = bring(ledger, ItemState.ABANDONED, "a", message="404")
    bring(ledger, ItemState.ABANDONED, "b")
    bring(ledger, ItemState.ABANDONED, "c", source="other", message="404")
    found = history.items_in_trouble("acme", ItemState.ABANDONED, 5)
    assert [(item.id, item.message) for item in found] == [(failed.id, "404")]
    assert history.items_in_trouble("acme", ItemState.DISCOVERED, 5) == []


def test_what_waits_is_due_at_once_when_somebody_says_so(ledger: Ledger, items: Items) -> None:
    later = bring(ledger, ItemState.DISCOVERED, "later", not_before=2000.0)
    bring(ledger, ItemState.DISCOVERED, "due", not_before=500.0)
    bring(ledger, ItemState.ABANDONED, "given up", not_before=2000.0)
    bring(ledger, ItemState.DISCOVERED, "other's", source="other", not_before=2000.0)
    with ledger.transaction():
        assert items.hurry("acme", 1000.0) == 1
    assert [item.id for item in items.due("acme", ItemState.DISCOVERED, 0.0, 5)] == [later.id]
    assert items.next_due("other", ItemState.DISCOVERED, 0.0) == 2000.0


def test_what_was_given_up_is_listed_and_renewed(ledger: Ledger, items: Items) -> None:
    first, second = (bring(ledger, ItemState.ABANDONED, word, failures=5) for word in "ab")
    bring(ledger, ItemState.ABANDONED, "c", source="other")
    assert [item.id for item in items.abandoned("acme", 5)] == [first.id, second.id]
    with ledger.transaction():
        items.change("renew", [first._replace(failures=0)])
    assert [item.id for item in items.abandoned("acme", 5)] == [second.id]
    (renewed,) = items.due("acme", ItemState.DISCOVERED, 0.0, 5)
    assert (renewed.id, renewed.failures) == (first.id, 0)


def test_arrivals_are_counted_by_the_hour_of_their_claim(ledger: Ledger, history: History) -> None:
    walk(ledger, State.DONE, new_file(id=new_id(1000.0)), claimed_at=1000.0)
    walk(ledger, State.CLAIMED, new_file(id=new_id(1001.0)), claimed_at=1001.0)
    walk(ledger, State.CLAIMED, new_file(id=new_id(1002.0), inbox="other"), claimed_at=1002.0)
    walk(ledger, State.ABANDONED, new_file(id=new_id(1002.0), claimed_at=1002.0))
    late = new_file(id=new_id(400.0), source="acme")  # discovered then
    walk(ledger, State.CLAIMED, late, claimed_at=1003.0)

    def count(begin: float, until: float, source: str | None = None, has_items: bool = True) -> int:
        return history.arrivals("main", source, begin, until, has_items=has_items)

    assert count(999.0, 1003.0) == 3
    assert count(1000.0, 1001.0) == 1, "after the first instant, up to and with the second"
    assert count(999.0, 1003.0, "acme") == 1
    assert count(999.0, 1003.0, "nosuch") == 0
    assert count(999.0, 1003.0, has_items=False) == 2


def test_acknowledgements_that_fail_often(ledger: Ledger, history: History) -> None:
    for failures in (2, 3, 4):
        told = bring(ledger, ItemState.ACK_DUE, f"late-{failures}")
        with ledger.transaction():
            Items(ledger).change("wait", [told._replace(failures=failures, message=f"status 50{failures}")])
    assert history.unheard(3) == {"acme": (2, "status 504")}
    assert history.unheard(5) == {}


def test_items_that_wait_for_what_ended_in_errors(ledger: Ledger, history: History) -> None:
    held = [bring(ledger, ItemState.HELD, f"held-{number}") for number in range(4)]
    walk(ledger, State.DONE, *(new_file(id=item.id, source="acme") for item in held[:2]))
    walk(ledger, State.DONE, new_file(id=held[2].id, source="acme"), outcome=Outcome.PROCESSED)
    walk(ledger, State.RUNNING, new_file(id=held[3].id, source="acme"))
    walk(ledger, State.DONE, new_file(id=bring(ledger, ItemState.ACKED, "told").id, source="acme"))
    assert history.held_by_errors() == {"acme": 2}
