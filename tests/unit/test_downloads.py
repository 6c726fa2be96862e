"""How far items are, and how fast they come."""

from __future__ import annotations

from typing import Any

from inboxd.downloads import Download, Downloads

MIB = 1 << 20


def errand(here: int, **values: Any) -> dict[str, Any]:
    """As the pool tells of a fetch that has brought `here` bytes and began at 100.0."""
    usual = {
        "source": "acme", "inbox": "orders", "verb": "fetch", "file_id": "f1", "file": "a.csv", "since": 100.0,
        "bytes": here, "size": 100 * MIB,
    }  # fmt: skip
    return {**usual, **values}


def one(downloads: Downloads, now: float, here: int, **values: Any) -> Download:
    (found,) = downloads.look([errand(here, **values)], now)
    return found


def test_a_rate_needs_two_looks() -> None:
    downloads = Downloads()
    first = one(downloads, 101.0, 10 * MIB)
    assert (first.rate, first.eta, first.since, first.percent) == (None, None, 1.0, 10.0)
    assert first.text() == "10MiB of 100MiB (10.0 %)"
    second = one(downloads, 111.0, 30 * MIB)
    assert (second.rate, second.eta) == (2.0 * MIB, 35.0)
    assert second.text() == "30MiB of 100MiB (30.0 %), 2MiB/s, 35 s left"
    assert second.row()["eta"] == 35.0


def test_a_rate_is_of_late() -> None:
    """A stall shows, whatever went before."""
    downloads = Downloads()
    for second in range(11):
        one(downloads, 100.0 + second, (1 + second) * MIB)
    assert one(downloads, 139.0, 11 * MIB).rate == MIB / 30.0, "since the look at 109"
    assert one(downloads, 170.0, 11 * MIB).rate is None  # nobody has looked for so long
    stalled = one(downloads, 180.0, 11 * MIB)
    assert (stalled.rate, stalled.eta) == (0.0, None)


def test_what_an_earlier_try_has_left_is_no_speed() -> None:
    downloads = Downloads()
    assert one(downloads, 100.1, 0).rate is None
    assert one(downloads, 101.1, 90 * MIB).rate is None, "the first word of its fetcher, after a resumption"
    assert one(downloads, 102.1, 91 * MIB).rate == float(MIB)
    assert one(downloads, 103.1, 1 * MIB).rate is None, "it begins anew"


def test_looks_at_once_tell_no_rate_and_take_no_room() -> None:
    downloads = Downloads()
    for number in range(1000):
        assert one(downloads, 100.0 + number / 10_000, 1 + number).rate is None
    assert len(downloads._looks["f1"]) <= 3


def test_an_unknown_size_has_no_end() -> None:
    downloads = Downloads()
    one(downloads, 101.0, MIB, size=None)
    found = one(downloads, 102.0, 2 * MIB, size=None)
    assert (found.percent, found.eta, found.text()) == (None, None, "2MiB, 1MiB/s")


def test_only_fetches_are_downloads_and_what_has_ended_is_forgotten() -> None:
    downloads = Downloads()
    assert downloads.look([errand(0, verb="poll"), errand(0, verb="ack"), errand(0, file_id=None)], 100.0) == []
    one(downloads, 101.0, MIB)
    assert downloads.look([], 102.0) == []
    assert one(downloads, 103.0, 2 * MIB).rate is None


def test_what_takes_long_is_told_of_now_and_then() -> None:
    downloads = Downloads()

    def told(now: float, **values: Any) -> list[str]:
        return [found.file_id for found in downloads.news(downloads.look([errand(MIB, **values)], now), now)]

    moments = [now for now in range(100, 230) if told(float(now))]
    assert moments == [130, 160, 190, 220]
    assert told(231.0, file_id="f2", since=230.0) == []
    assert told(259.0, file_id="f2", since=230.0) == []
    assert told(260.0, file_id="f2", since=230.0) == ["f2"]
    assert downloads.news([], 300.0) == []
    assert downloads._told == {}
