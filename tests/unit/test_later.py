"""What is put aside comes back as it was, foremost first, whatever it is called and whenever it was written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inboxd.intake.later import Before, Later, Rank, identity
from inboxd.model import Sighting

_BYTES = st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name and b"/" not in name)
_NAMES = (_BYTES | st.text(min_size=1, max_size=4).map(lambda text: text.encode("utf-8", "ignore") or b"x")).map(
    lambda name: name.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape") or "x"
)
_SIGHTINGS = st.builds(
    Sighting,
    inbox=st.just("main"),
    folder=st.lists(_NAMES, max_size=2).map("/".join),
    name=_NAMES,
    dev=st.just(1),
    ino=st.integers(0, (1 << 64) - 1),
    size=st.integers(0, (1 << 63) - 1),
    mtime_ns=st.integers(-3, 3) | st.integers(-(1 << 63) * 10**9, (1 << 63) * 10**9 - 1),
)


def _rank(sighting: Sighting, *, by_time: bool) -> Rank:
    return (sighting.mtime_ns, *sighting.key) if by_time else sighting.key


@given(st.lists(_SIGHTINGS, max_size=12, unique_by=lambda one: one.key), st.booleans(), st.integers(1, 12))
def test_all_comes_back_in_order(sightings: list[Sighting], by_time: bool, most: int) -> None:
    later = Later(12, by_time=by_time)
    for number, sighting in enumerate(sightings):
        later.add(sighting, float(number))
    known = {identity(one.key, one) for one in sightings}
    assert later.identities() == known
    expected = sorted(sightings, key=lambda one: _rank(one, by_time=by_time))
    while expected:
        assert later.foremost() == _rank(expected[0], by_time=by_time)
        taken = later.take(most)
        assert list(taken) == [one.key for one in expected[:most]]
        for one in expected[:most]:
            since = float(sightings.index(one))
            assert taken[one.key] == Before(since, one.ino, one.size, one.mtime_ns)
        del expected[:most]
    assert later.foremost() is None


@given(st.lists(_SIGHTINGS, min_size=1, max_size=12, unique_by=lambda one: one.key), st.booleans())
def test_the_hindmost_leave(sightings: list[Sighting], by_time: bool) -> None:
    later = Later(len(sightings), by_time=by_time)
    for sighting in sightings:
        later.add(sighting, 0.0)
    assert later.is_full
    ranks = sorted(_rank(one, by_time=by_time) for one in sightings)
    kept = len(sightings) - max(1, len(sightings) // 4)
    assert later.leave() == ranks[kept]
    assert list(later.take(99)) == [rank[-2:] for rank in ranks[:kept]]
