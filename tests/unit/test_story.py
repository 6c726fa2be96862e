"""What the journal is told of files: a record for each, or one by which each is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from inboxd import events
from inboxd.logs import fields_of
from inboxd.model import InboxFile, Outcome, State
from inboxd.story import Story


class _Frozen:
    """Time stands still: the budget of lines does not come back."""

    def time(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 1_000.0


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


def _lines(story: Story, told: list[tuple[str, dict[str, Any]]], count: int) -> list[str]:
    story.delivered("main", _files(count))
    lines = [name for name, _fields in told]
    told.clear()
    return lines


def test_a_file_alone_keeps_its_name_whatever_the_rate(told: list[tuple[str, dict[str, Any]]]) -> None:
    story = Story(_Frozen())
    assert _lines(story, told, 20) == ["file.processed"] * 20
    assert _lines(story, told, 2) == ["batch.processed"]
    assert _lines(story, told, 1) == ["file.processed"]
    assert _lines(story, told, 0) == []


def test_files_that_share_a_line_are_all_found_by_their_ids(told: list[tuple[str, dict[str, Any]]]) -> None:
    """journald takes no record of more than 1024 fields."""
    files = _files(1_201)
    Story(_Frozen()).delivered("main", files)
    assert [name for name, _fields in told] == ["batch.processed"] * 3 + ["file.processed"]
    assert [fields.get("count", 1) for _name, fields in told] == [400, 400, 400, 1]
    records = [fields_of(events.FILES_PROCESSED, "", fields) for _name, fields in told]
    assert all(len(record) < 1024 for record in records)
    ids = [line for record in records for line in record if line.startswith("INBOXD_FILE_ID=")]
    assert ids == [f"INBOXD_FILE_ID={file.id}" for file in files]
    assert [line for line in records[0] if "_BATCH=" in line] == [f"INBOXD_BATCH=b{number}" for number in range(4)]
