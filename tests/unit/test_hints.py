"""What threads that watch leave for the pipeline."""

from __future__ import annotations

from inboxd.intake.hints import Hints
from inboxd.intake.match import OWN_PREFIX, Matcher


def _hints() -> Hints:
    return Hints(Matcher(["*.csv"], [], ignore_temporary=True).takes)


def test_names_that_the_inbox_does_not_take_wake_nobody() -> None:
    hints = _hints()
    assert not hints.name("", ".upload-1")
    assert not hints.name("", "notes.txt")
    assert not hints.pending
    assert hints.name("", "a.csv")
    assert hints.pending
    assert hints.take().names == {("", "a.csv")}
    assert not hints.pending


def test_a_probe_is_heard() -> None:
    hints = _hints()
    assert hints.name("", f"{OWN_PREFIX}probe-1")


def test_too_many_names_are_one_folder() -> None:
    hints = _hints()
    for number in range(20_001):
        assert hints.name("sub", f"{number}.csv")
    heard = hints.take()
    assert len(heard.names) == 20_000
    assert heard.folders == {"sub"}
