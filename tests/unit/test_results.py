"""Where results go: what waits for destinations stays, what is for none does not wait, nothing is removed unsent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.clock import SystemClock
from inboxd.custody.results import Results
from inboxd.model import new_id, results_name
from inboxd.sends import Send, SendState


class Place:
    """work/ and outbound/ of an inbox."""

    def __init__(self, base: Path, *, keep: bool = True, suffix: str = ".xml") -> None:
        self.work, self.outbound = base / "work", base / "outbound"
        self.work.mkdir(exist_ok=True)
        self.outbound.mkdir(exist_ok=True)
        self.fd = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
        self.file_id = new_id()
        self.results = Results(
            "main", self.outbound, self.fd, lambda name: ["customer"] if name.endswith(suffix) else [], SystemClock(),
            keep=keep,
        )  # fmt: skip

    def left(self, *names: str) -> Path:
        """The handler left these."""
        folder = self.work / results_name(self.file_id)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{name} of {self.file_id}")
        return folder

    def place(self) -> list[Send]:
        """As a delivery does."""
        placed = self.results.place(self.file_id)
        assert placed is not None
        return placed

    def finish(self, sends: list[Send], state: SendState = SendState.SENT) -> None:
        """All of them have come to an end."""
        self.results.finish(self.file_id, [send._replace(state=state) for send in sends])

    def seen(self) -> list[str]:
        """What is in outbound/."""
        return sorted(str(path.relative_to(self.outbound)) for path in self.outbound.rglob("*") if not path.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    os.close(place.fd)


@pytest.fixture
def deleting(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, keep=False)
    yield place
    os.close(place.fd)


def test_what_is_for_a_destination_stays_until_it_is_sent(place: Place) -> None:
    place.left("a.xml", "b.txt", "day/c.xml", "day/d.txt")
    sends = place.place()
    assert sorted(send.name for send in sends) == ["a.xml", "day/c.xml"]
    assert place.seen() == ["b.txt"]
    place.finish(sends)
    assert place.seen() == ["a.xml", "b.txt", "day/c.xml", "day/d.txt"]
    assert list((place.work / "results").iterdir()) == []


def test_what_was_never_to_be_sent_is_never_removed(deleting: Place) -> None:
    folder = deleting.left("a.xml", "day/c.xml", "day/d.txt")
    os.symlink("/etc/passwd", folder / "day" / "link")
    (folder / "day" / "empty").mkdir()
    deleting.finish(deleting.place())
    assert deleting.seen() == ["day/d.txt", "day/link"]
    assert list((deleting.work / "results").iterdir()) == []


def test_what_was_dropped_is_not_removed(deleting: Place) -> None:
    deleting.left("a.xml", "b.xml")
    first, second = deleting.place()
    deleting.results.finish(
        deleting.file_id, [first._replace(state=SendState.SENT), second._replace(state=SendState.DROPPED)]
    )
    assert deleting.seen() == ["b.xml"]


def test_it_may_be_done_again(place: Place) -> None:
    place.left("a.xml")
    sends = place.place()
    assert [send.name for send in place.place()] == [send.name for send in sends]
    place.finish(sends)
    place.finish(sends)
    assert place.seen() == ["a.xml"]


def test_folders_of_results_are_merged_and_only_a_file_is_renamed(tmp_path: Path) -> None:
    for number in range(3):
        place = Place(tmp_path, suffix="nothing")
        place.left(f"day/{number}.txt", "day/deep/same.txt", "both")
        place.place()
        os.close(place.fd)
    tagged = [name for name in place.seen() if name.startswith("day/deep/same.")]
    assert len(tagged) == 3
    assert {"day/0.txt", "day/1.txt", "day/2.txt", "day/deep/same.txt", "both"} < set(place.seen())
    assert len(place.seen()) == 9
    assert sorted(path.name for path in place.outbound.iterdir() if path.is_dir()) == ["day"]


def test_a_file_in_the_place_of_a_folder(place: Place) -> None:
    (place.outbound / "day").write_text("a file")
    place.left("day/a.txt")
    place.place()
    assert place.seen() == ["day", f"day.{place.file_id[-8:]}/a.txt"]


def test_what_nobody_may_read_is_made_readable(place: Place) -> None:
    """A fetcher has to, and it runs as we do."""
    folder = place.left("day/a.xml")
    (folder / "day" / "a.xml").chmod(0o200)
    (folder / "day").chmod(0)
    [send] = place.place()
    assert (folder / "day" / "a.xml").stat().st_mode & 0o777 == 0o600
    assert (folder / "day").stat().st_mode & 0o700 == 0o700
    assert send.size == len(f"day/a.xml of {place.file_id}")


def test_a_file_without_results(place: Place) -> None:
    assert place.results.place(place.file_id) is None
