"""Items of sources, read beside their writer."""

from __future__ import annotations

from typing import Any

import pytest

from inboxd.custody.history import History
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.items import Item, ItemState
from inboxd.model import new_id

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
