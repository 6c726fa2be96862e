"""The watch on an inbound folder."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from inboxd.intake.hints import Hints
from inboxd.intake.watch import Watch
from support.limits import no_more_threads

_MOST_OF_SELECT = 1024  # FD_SETSIZE (select(2))


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many are open as with hundreds of workers: the next one has a number that select(2) does not know."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most == resource.RLIM_INFINITY or most > 2 * _MOST_OF_SELECT
    with ExitStack() as undo:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, 2 * _MOST_OF_SELECT), most))
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (before, most))
        fd = -1
        while fd < _MOST_OF_SELECT:
            fd = os.open(os.devnull, os.O_RDONLY)
            undo.callback(os.close, fd)
        yield


@pytest.mark.usefixtures("many_descriptors")
def test_it_works_with_many_descriptors(tmp_path: Path) -> None:
    hints = Hints(lambda _name: True)
    watch = Watch(tmp_path, False, True, hints, lambda: None)
    watch.start()
    try:
        assert watch.works()
        assert watch.alive
        assert hints.pending
        assert watch.works(), "while hints wait, too"
    finally:
        watch.stop()
    assert not watch.alive


def test_it_begins_again_when_there_are_threads_again(tmp_path: Path) -> None:
    watch = Watch(tmp_path, False, True, Hints(lambda _name: True), lambda: None)
    before = os.listdir("/proc/self/fd")
    with no_more_threads(), pytest.raises(OSError, match="no thread can be started"):
        watch.start()
    assert os.listdir("/proc/self/fd") == before
    assert not watch.alive
    watch.start()
    assert watch.alive
    watch.stop()
