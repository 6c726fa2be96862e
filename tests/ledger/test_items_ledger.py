"""Items in the ledger, on each kind of database: verbs are compare-and-sets, and may be said again after a cut COMMIT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from walks import say, walk

from inboxd.custody.claim import Claims
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerConflict, LedgerUnavailable
from inboxd.items import ITEM_TRANSITIONS, Item, ItemState
from inboxd.model import Ending, Report, State, new_id
from support.cutter import Cutter

S = ItemState

#: What each verb is told in these tests.
NEWS: dict[str, dict[str, Any]] = {
    "fetch": {"inbox": "other", "attempts": 1, "ack": "processed", "message": None},
    "release": {"attempts": 1, "failures": 2, "not_before": 50.5, "message": "wrong digest"},
    "abandon": {"attempts": 5, "failures": 5, "message": "too large"},
    "hold": {"size": 4096, "attempts": 0, "failures": 0, "not_before": 0.0, "message": None, "fetched_at": 60.25},
    "tell": {"attempts": 1},
    "wait": {"attempts": 0, "failures": 3, "not_before": 70.5, "message": "500"},
    "ack": {"failures": 0, "message": None, "acked_at": 80.125},
    "renew": {"failures": 0, "not_before": 0.0, "message": None},
}
_WAYS: dict[ItemState, tuple[str, ...]] = {
    S.DISCOVERED: (),
    S.FETCHING: ("fetch",),
    S.HELD: ("fetch", "hold"),
    S.ACK_DUE: ("fetch", "hold", "owe"),
    S.ACKED: ("fetch", "hold", "owe", "ack"),
    S.ABANDONED: ("fetch", "abandon"),
}
_SAID = sorted((before, verb) for before, verb in ITEM_TRANSITIONS if verb in NEWS and verb != "hold")


@pytest.fixture
def items(ledger: Ledger) -> Items:
    return Items(ledger)


def new_item(**values: Any) -> Item:
    file_id = new_id()
    about: dict[str, Any] = {
        "source": "partner", "item": f"item {file_id}", "version": '"1"', "inbox": "main", "id": file_id,
        "name": "ä.csv", "url": "https://partner.example/x", "size": 1024, "digest": "sha256:" + "ab" * 32,
        "ack": "processed", "discovered_at": 10.5, **values,
    }  # fmt: skip
    return Item(**about)


def _discover(ledger: Ledger, found: list[Item]) -> list[Item]:
    with ledger.transaction():
        return Items(ledger).discover(found)


def _change(ledger: Ledger, verb: str, *changed: Item) -> None:
    with ledger.transaction():
        _say(Items(ledger), verb, changed)


def _say(items: Items, verb: str, changed: tuple[Item, ...]) -> None:
    if verb == "hold":
        items.hold(changed, 60.25)
    elif verb == "owe":
        items.processed([item.id for item in changed])
    else:
        items.change(verb, changed)


def _after(item: Item, verb: str) -> Item:
    state = next(target for (_before, name), target in ITEM_TRANSITIONS.items() if name == verb)
    return item._replace(state=state, **NEWS.get(verb, {}))


def _one(ledger: Ledger, state: ItemState, **values: Any) -> Item:
    """A new item, brought to `state`."""
    item = new_item(**values)
    _discover(ledger, [item])
    for verb in _WAYS[state]:
        item = _after(item, verb)
        _change(ledger, verb, item)
    return item


def _found(ledger: Ledger, item: Item) -> Item:
    return Items(ledger).by_ids([item.id])[item.id]


def test_discovered_as_it_was_listed(ledger: Ledger) -> None:
    plain = new_item()
    bare = new_item(version="", url="", size=None, digest="", ack="")
    assert _discover(ledger, [plain, bare]) == [plain, bare]
    assert [_found(ledger, item) for item in (plain, bare)] == [plain, bare]


def test_discovered_once(ledger: Ledger) -> None:
    """The same item and version is known, under whatever id and name; another version or source is another item."""
    first = new_item(item="a")
    _discover(ledger, [first])
    again = new_item(item="a", name="other")
    newer, elsewhere = new_item(item="a", version='"2"'), new_item(item="a", source="other")
    assert _discover(ledger, [again, newer]) == [newer]
    assert _discover(ledger, [elsewhere]) == [elsewhere]
    assert _found(ledger, first) == first
    assert again.id not in Items(ledger).by_ids([again.id])


def test_what_is_known_stays_as_it_is(ledger: Ledger) -> None:
    """Whatever has become of it."""
    for state in ItemState:
        item = _one(ledger, state)
        assert _discover(ledger, [item._replace(id=new_id(), state=S.DISCOVERED, attempts=0)]) == []
        assert _found(ledger, item).state is state


def test_a_listing_that_names_an_item_twice(ledger: Ledger) -> None:
    twins = [new_item(item="twin"), new_item(item="twin")]
    new = _discover(ledger, twins)
    assert len(new) == 1
    assert new[0] in twins
    assert _found(ledger, new[0]) == new[0]


def test_nothing_is_discovered_in_an_empty_listing(ledger: Ledger) -> None:
    assert _discover(ledger, []) == []


def test_many_at_once(ledger: Ledger) -> None:
    """More than one statement may name."""
    many = [new_item() for _ in range(1_201)]
    assert _discover(ledger, many) == many
    assert _discover(ledger, [*many, one := new_item()]) == [one]
    assert len(Items(ledger).by_ids([item.id for item in many])) == 1_201


def test_names_that_no_database_takes(ledger: Ledger) -> None:
    """NUL and lone surrogates are replaced, and the row is found again by what it was discovered with."""
    item = new_item(item="a\0b", name="c\udcff", message=None)
    _discover(ledger, [item])
    assert _discover(ledger, [item._replace(id=new_id())]) == []
    _change(ledger, "fetch", _after(item, "fetch"))
    assert _found(ledger, item).state is S.FETCHING


@pytest.mark.parametrize(("before", "verb"), _SAID)
def test_every_arrow(ledger: Ledger, before: ItemState, verb: str) -> None:
    item = _one(ledger, before)
    changed = _after(item, verb)
    _change(ledger, verb, changed)
    assert _found(ledger, item) == changed


@pytest.mark.parametrize(
    ("before", "verb"),
    [(state, verb) for state in ItemState for verb in sorted(NEWS) if (state, verb) not in ITEM_TRANSITIONS],
)
def test_no_other_arrow(ledger: Ledger, before: ItemState, verb: str) -> None:
    """But for the state that a verb leads to: it may have been said before."""
    item, bystander = _one(ledger, before), _one(ledger, next(one for one, name in ITEM_TRANSITIONS if name == verb))
    if _after(item, verb).state is before:
        _change(ledger, verb, _after(item, verb))
        return
    with pytest.raises(LedgerConflict, match=verb):
        _change(ledger, verb, _after(bystander, verb), _after(item, verb))
    assert _found(ledger, item) == item
    assert _found(ledger, bystander) == bystander


@pytest.mark.parametrize(("ack", "state"), [("held", S.ACK_DUE), ("processed", S.HELD), ("", S.ACKED)])
def test_held_as_its_source_wants_it(ledger: Ledger, ack: str, state: ItemState) -> None:
    item = new_item(ack="processed")
    _discover(ledger, [item])
    fetched = _after(item, "fetch")._replace(ack=ack)  # the configuration has changed since it was listed
    _change(ledger, "fetch", fetched)
    for _ in range(2):  # and said again
        _change(ledger, "hold", _after(fetched, "hold"))
        found = _found(ledger, item)
        assert (found.state, found.size, found.fetched_at) == (state, 4096, 60.25)
        assert found.acked_at == (60.25 if state is S.ACKED else None)


def test_success_is_owed_where_it_is_waited_for(ledger: Ledger) -> None:
    held, acked, due = _one(ledger, S.HELD), _one(ledger, S.ACKED), _one(ledger, S.ACK_DUE)
    for _ in range(2):
        with ledger.transaction():
            Items(ledger).processed([held.id, acked.id, due.id, new_id()])
    assert [_found(ledger, item).state for item in (held, acked, due)] == [S.ACK_DUE, S.ACKED, S.ACK_DUE]


def test_together_with_its_file_or_not_at_all(ledger: Ledger) -> None:
    """HELD and CLAIMED are one commit."""
    item = _one(ledger, S.FETCHING)
    (file,) = walk(ledger, State.CLAIMED)
    with pytest.raises(LedgerConflict), ledger.transaction():
        Items(ledger).hold([_after(item, "hold")], 60.25)
        ledger.claim([file._replace(id=new_id())])
    assert _found(ledger, item).state is S.FETCHING
    assert say(ledger, "dispatch", [file])


def test_outside_a_transaction_nothing_is_written(ledger: Ledger, items: Items) -> None:
    item = _one(ledger, S.DISCOVERED)
    with pytest.raises(LedgerConflict, match="outside"):
        items.change("fetch", [_after(item, "fetch")])
    with pytest.raises(LedgerConflict, match="outside"):
        items.discover([new_item()])
    assert _found(ledger, item) == item


def test_due_in_order(ledger: Ledger, items: Items) -> None:
    """The longest due first, then by id; only of this source, in this state, and when its time has come."""
    at = {name: new_item(not_before=moment) for name, moment in (("b", 2.0), ("a", 1.0), ("late", 9.0), ("c", 2.0))}
    other = new_item(source="other", not_before=0.5)
    _discover(ledger, [*at.values()])
    _discover(ledger, [other])
    _one(ledger, S.ABANDONED)
    order = [at["a"], *sorted((at["b"], at["c"]), key=lambda item: item.id)]
    assert items.due("partner", S.DISCOVERED, 5.0, 10) == order
    assert items.due("partner", S.DISCOVERED, 5.0, 2) == order[:2]
    assert items.due("partner", S.DISCOVERED, 0.5, 10) == []
    assert items.due("partner", S.ACK_DUE, 5.0, 10) == []
    assert items.due("other", S.DISCOVERED, 0.5, 10) == [other]
    assert items.next_due("partner", S.DISCOVERED, 2.0) == 9.0
    assert items.next_due("partner", S.DISCOVERED, 0.0) == 1.0
    assert items.next_due("partner", S.DISCOVERED, 9.0) is None
    assert items.next_due("nobody", S.DISCOVERED, 0.0) is None


def test_in_state(ledger: Ledger, items: Items) -> None:
    fetching = [_one(ledger, S.FETCHING, source=name) for name in ("one", "two")]
    for state in set(ItemState) - {S.FETCHING}:
        _one(ledger, state)
    assert sorted(items.in_state(S.FETCHING)) == sorted(fetching)


def test_what_was_taken_when(ledger: Ledger, items: Items) -> None:
    for state in ItemState:
        _one(ledger, state)
        _one(ledger, state, source="other")
    assert items.taken_between("partner", 60.0, 99.0) == (3, 3 * 4096)
    assert items.taken_between("partner", 60.5, 99.0) == (0, 0)
    assert items.taken_between("partner", 10.0, 59.5) == (0, 0)
    assert items.first_taken("partner", 50.0, 99.0) == 60.25
    assert items.first_taken("partner", 10.0, 59.5) == 10.0


# A commit whose fate is unknown


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("before", "verb"), sorted(ITEM_TRANSITIONS))
def test_what_was_cut_at_commit_can_be_said_again(
    far: Ledger, wire: Cutter, before: ItemState, verb: str, when: str
) -> None:
    """With more items than before, as the pipeline does it."""
    if verb == "close":
        return  # said by hold
    old, new = _one(far, before), _one(far, before)
    with pytest.raises(LedgerUnavailable), far.transaction():
        _say(Items(far), verb, (_after(old, verb),))
        wire.cut = when
    assert wire.cut == ""
    changed = [_after(item, verb) for item in (old, new)]
    _change(far, verb, *changed)
    assert [_found(far, item) for item in changed] == changed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_discovery_that_was_cut_off(far: Ledger, wire: Cutter, when: str) -> None:
    found = [new_item(), new_item()]
    with pytest.raises(LedgerUnavailable), far.transaction():
        Items(far).discover(found[:1])
        wire.cut = when
    _discover(far, found)
    assert Items(far).by_ids([item.id for item in found]).keys() == {item.id for item in found}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fetch_of_unknown_fate_is_given_back(far: Ledger, wire: Cutter, when: str) -> None:
    """Nothing went out; so what is said next is `release`, and it must do in both cases."""
    item = _one(far, S.DISCOVERED)
    with pytest.raises(LedgerUnavailable), far.transaction():
        Items(far).change("fetch", [_after(item, "fetch")])
        wire.cut = when
    _change(far, "release", item)
    assert Items(far).due("partner", S.DISCOVERED, 0.0, 10) == [_found(far, item)]


def test_a_part_that_has_gone_is_announced_and_not_had(ledger: Ledger, items: Items, tmp_path: Path) -> None:
    """Between its fetcher's report and its announcement: its item must not stay FETCHING."""
    for name in ("inbound", "incoming", "work"):
        (tmp_path / name).mkdir()
    claims = Claims(tmp_path / "inbound", tmp_path / "incoming", tmp_path / "work", ledger)
    item = new_item(state=S.FETCHING)
    with ledger.transaction():
        files = claims.announce_fetched([(item, Report(item.id, Ending.DONE))], 1.0)
    taken = claims.take(files)
    with ledger.transaction():
        claims.record(taken)
    claims.close()
    assert [file.id for file in taken.gone] == [item.id]
    assert not taken.claimed
