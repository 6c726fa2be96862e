"""Whatever a source lists: what is let through fits the ledger, and comes back as it went in."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.fetch.names import harmless_name
from inboxd.items import Item, ItemState
from inboxd.listing import is_usable, new_listing, read_listing, write_listed
from inboxd.model import new_id
from inboxd.wire import Listed

_DENSE = st.integers(0, 2**32).flatmap(  # no database's compression makes them small
    lambda seed: st.integers(300, 1100).map(
        lambda length: "".join(map(chr, random.Random(seed).choices(range(0x4E00, 0x9FFF), k=length)))
    )
)
_WORDS = st.text(max_size=20) | st.text(st.characters(), max_size=20) | st.text("ab\0\ud800\udcff\u202e/.") | _DENSE
_SIZES = (
    st.none() | st.integers() | st.integers(0, 1 << 63) | st.sampled_from([-1, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64])
    | st.floats() | st.booleans() | st.text(max_size=5)
)  # fmt: skip
_DIGESTS = st.just("") | st.just("sha256:" + "ab" * 32) | st.just("md5:" + "0" * 32) | st.text(max_size=10)
_LISTED = st.builds(Listed, _WORDS, _WORDS, _WORDS, _SIZES, _DIGESTS, _WORDS)


def _kept(ledger: Ledger, one: Listed) -> Item:
    """As the ledger has it."""
    item = Item(
        source=f"source {new_id()}", item=one.item, version=one.version, inbox="main", id=new_id(), name=one.name,
        url=one.url, size=one.size, digest=one.digest, ack="", discovered_at=1.0,
    )  # fmt: skip
    items = Items(ledger)
    with ledger.transaction():
        assert items.discover([item]) == [item]
    (found,) = items.due(item.source, ItemState.DISCOVERED, 1.0, 5)
    assert found == item
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=_LISTED)
def test_what_is_usable_fits(ledger: Ledger, tmp_path: Path, found: Listed) -> None:
    one = found._replace(name=harmless_name(found.name))
    assert harmless_name(one.name) == one.name
    event(f"usable: {is_usable(one)}")
    path = str(tmp_path / "listing")
    with new_listing(path) as listing:
        write_listed(listing, one)
    if is_usable(one):
        assert list(read_listing(path)) == [one]
        _kept(ledger, one)
    else:
        with suppress(ValueError, TypeError):  # JSON makes one character of two surrogates, which is usable
            assert all(map(is_usable, read_listing(path)))


def test_the_longest_words_fit(ledger: Ledger) -> None:
    dice = random.Random(1)
    word = "".join(map(chr, dice.choices(range(0x4E00, 0x9FFF), k=341))) + "a"
    other = "".join(map(chr, dice.choices(range(0x4E00, 0x9FFF), k=341))) + "b"
    url = "https://p.example/" + "".join(dice.choices("0123456789abcdef%-_", k=8192 - 18))
    longest = Listed(word, "a" * 255, url, (1 << 63) - 1, "sha256:" + "0" * 64, other)
    assert is_usable(longest)
    _kept(ledger, longest)
    for more in ({"item": word + "a"}, {"version": word + "a"}, {"url": url + "a"}, {"name": "a" * 256}):
        assert not is_usable(longest._replace(**more))


@pytest.mark.parametrize(
    "wrong",
    [{"item": ""}, {"item": 5}, {"version": None}, {"url": "a\nb"}, {"name": "a/b"}, {"name": ".."}, {"name": "\udcff"},
     {"name": None}, {"size": -1}, {"size": 1 << 63}, {"size": True}, {"size": 1.0}, {"size": "1"}, {"digest": None},
     {"digest": "sha256:x"}, {"item": "a\0"}, {"version": "\ud800"}],
    ids=repr,
)  # fmt: skip
def test_what_no_ledger_takes_is_unusable(wrong: dict[str, Any]) -> None:
    fine = Listed("a", "a.csv", "/out/a", 0, "", "1")
    assert is_usable(fine)
    assert not is_usable(fine._replace(**wrong))


@pytest.mark.parametrize("line", ["[" * 100_000, '"a"', "{}", "[]", "5", '["a"]', "null", "[1, 2, 3, 4, 5, 6, 7]"])
def test_a_line_that_is_no_item_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "listing"
    path.write_text(line + "\n")
    with pytest.raises((ValueError, TypeError)):
        list(read_listing(str(path)))
