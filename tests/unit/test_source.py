"""A source's listing is taken in slice by slice; one that can't be read is given up, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from inboxd.clock import SystemClock
from inboxd.config.models import Inbox
from inboxd.config.sources import Source as Rules
from inboxd.lane import Lane
from inboxd.listing import new_listing, write_listed
from inboxd.source import Source
from inboxd.wire import Listed


class Stub:
    """What a source needs of its lane."""

    name = "main"

    def __init__(self, root: Path) -> None:
        handler = {"command": ["true", "{path}"]}
        self.rules = Inbox.model_validate({"root": root, "handler": handler})


@pytest.fixture
def source(tmp_path: Path) -> Source:
    place = {"host": "127.0.0.1", "user": "acme", "password": "x", "known_hosts": "/etc/hosts", "path": "/out"}
    rules = Rules.model_validate({"sftp": place, "every": "60s"})
    (tmp_path / "incoming").mkdir()
    return Source("acme", rules, cast("Lane", Stub(tmp_path)), SystemClock())


def polled(source: Source, count: int) -> Path:
    """A poll has listed so many files."""
    path = Path(source.new_poll().path)
    with new_listing(str(path)) as listing:
        for number in range(count):
            write_listed(listing, Listed(f"{number}.csv", f"{number}.csv", f"/out/{number}.csv", 5, "", "5-1"))
    source.polled(count, 0.1, 1.8e9)
    return path


def taken(source: Source) -> list[str]:
    """All of it that may be fetched."""
    names = []
    while source.has_found:
        names += [item.name for item in source.found(1.8e9)]
        source.took(0)
    return names


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def cut_at_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def scribble(path: Path) -> None:
    path.write_text('{"no": "listing"}\n[[[\n')


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("count", [3, 700, 1000])
@pytest.mark.parametrize("harm", [cut, cut_at_a_line, scribble, Path.unlink, replace_by_a_folder])
def test_a_listing_that_cannot_be_read_is_given_up(source: Source, harm: Callable[[Path], None], count: int) -> None:
    """What an earlier one has shown is still known: the next whole one completes it."""
    polled(source, count)
    assert taken(source) == [], "seen once"
    harm(polled(source, count))
    with pytest.raises((OSError, ValueError, TypeError)):
        taken(source)
    source.listing_lost()
    assert not source.has_found and source.is_quiet
    path = polled(source, count)
    assert len(taken(source)) == count
    assert not path.exists()
