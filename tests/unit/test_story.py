"""What the journal is told of files: a record for each, or one by which each is found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from inboxd import events
from inboxd.logs import fields_of, wording
from inboxd.model import InboxFile, Outcome, State
from inboxd.story import Story


class _Stopped:
    """Time goes on when it is told to: else the budget of lines does not come back."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    heard: list[tuple[str, dict[str, Any]]] = []
    events.send_to(lambda event, fields: heard.append((event.name, fields)))
    yield heard
    events.send_to(events.nowhere)


def _files(count: int, first: int = 0) -> list[InboxFile]:
    return [
        InboxFile(
            f"{number:032x}", "main", "", f"{number}.csv", 1, number, 10, 0, State.DONE, f"b{number // 100}",
            outcome=Outcome.PROCESSED, reason="processed", destination=f"{number}.csv",
        )
        for number in range(first, first + count)
    ]  # fmt: skip


def _names(told: list[tuple[str, dict[str, Any]]]) -> list[str]:
    lines = [name for name, _fields in told]
    told.clear()
    return lines


def test_a_line_for_each_up_to_a_rate(told: list[tuple[str, dict[str, Any]]]) -> None:
    clock = _Stopped()
    story = Story(clock)
    story.delivered("main", _files(20))
    story.tell()
    assert (_names(told), story.due) == (["file.processed"] * 20, math.inf)
    clock.now += 1.0
    story.delivered("main", _files(20))
    assert _names(told) == ["file.processed"] * 20


def test_above_it_they_wait_a_moment_for_others_and_share_one(told: list[tuple[str, dict[str, Any]]]) -> None:
    clock = _Stopped()
    story = Story(clock)
    story.delivered("main", _files(21))
    story.delivered("other", _files(21, 50))
    story.delivered("main", _files(21, 30))
    story.tell()
    assert (told, story.due) == ([], clock.now + 0.25)
    clock.now = story.due
    story.tell()
    assert [(fields["inbox"], fields["count"]) for _name, fields in told] == [("main", 42), ("other", 21)]
    assert _names(told) == ["files.processed"] * 2
    story.tell(all_of_it=True)
    assert (told, story.due) == ([], math.inf)


def test_one_that_nobody_joins_keeps_its_name(told: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story(_Stopped())
    story.delivered("main", _files(20))
    story.delivered("main", _files(1, 20))
    story.tell(all_of_it=True)
    assert _names(told) == ["file.processed"] * 21


def test_a_full_line_waits_for_nobody(told: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story(_Stopped())
    story.delivered("main", _files(300))
    story.tell()
    assert _names(told) == []
    story.delivered("main", _files(300, 300))
    story.tell()
    assert _names(told) == ["files.processed"] * 2


def test_trouble_waits_for_nobody(told: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story(_Stopped())
    story.delivered("main", [*_files(30), *(one._replace(outcome=Outcome.ERROR) for one in _files(2, 30))])
    assert _names(told) == ["file.error"] * 2


@pytest.mark.usefixtures("told")
def test_what_never_ran_ends_in_no_attempt() -> None:
    """A duplicate, for one."""
    lines: list[str] = []
    events.send_to(lambda one, fields: lines.append(wording(one, fields)))
    (file,) = _files(1)
    file = file._replace(outcome=Outcome.ERROR, reason="duplicate", message="it is a.csv once more")
    Story(_Stopped()).delivered("main", [file._replace(attempts=0), file._replace(attempts=2)])
    never, failed = lines
    assert never.endswith(" goes to errors/ (duplicate): it is a.csv once more")
    assert failed.endswith(" goes to errors/ (duplicate) in attempt 2: it is a.csv once more")


def test_files_that_share_a_line_are_all_found_by_their_ids(told: list[tuple[str, dict[str, Any]]]) -> None:
    """journald takes no record of more than 1024 fields."""
    files = _files(1_201)
    story = Story(_Stopped())
    story.delivered("main", files)
    story.tell()
    assert [name for name, _fields in told] == ["files.processed"] * 3 + ["file.processed"]
    assert [fields.get("count", 1) for _name, fields in told] == [400, 400, 400, 1]
    records = [fields_of(events.FILES_PROCESSED, "", fields) for _name, fields in told]
    assert all(len(record) < 1024 for record in records)
    ids = [line for record in records for line in record if line.startswith("INBOXD_FILE_ID=")]
    assert ids == [f"INBOXD_FILE_ID={file.id}" for file in files]
    assert [line for line in records[0] if "_BATCH=" in line] == [f"INBOXD_BATCH=b{number}" for number in range(4)]
