"""What uploaders, handlers and operators may say, however odd, is kept or answered, and never raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from walks import failure_of, new_file, one, say, walk

from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.model import InboxFile, State

_SECOND = 10**9
_ODD = "nul \x00 surrogate \udc80 ünï"
_TAMED = "nul \\x00 surrogate \\udc80 ünï"


@pytest.mark.parametrize(
    "moment", [-(1 << 31) * _SECOND, -1, 0, (1 << 63) - 1, 1 << 63, 15_032_385_535 * _SECOND, 16_299_260_425 * _SECOND]
)
def test_a_file_may_be_of_any_time_that_ext4_and_xfs_know(ledger: Ledger, moment: int) -> None:
    (file,) = walk(ledger, State.CLAIMED, new_file(mtime_ns=5), mtime_ns=moment)
    assert ledger.get(file.id) == file


@pytest.mark.parametrize("moment", [1 << 64, 1 << 93, -(1 << 93)])
def test_a_time_beyond_all_bounds_is_brought_to_them(ledger: Ledger, moment: int) -> None:
    """As a tmpfs, btrfs or a network's file system may have it."""
    (file,) = walk(ledger, State.CLAIMING, new_file(mtime_ns=moment))
    found = ledger.get(file.id)
    assert found is not None
    assert (found.mtime_ns > 0) == (moment > 0)
    assert found._replace(mtime_ns=moment) == file


def test_all_texts_are_tamed(ledger: Ledger) -> None:
    (file,) = walk(ledger, State.RUNNING, new_file(source=_ODD))
    with ledger.transaction():
        ledger.failed([failure_of(file)._replace(error_class=_ODD, message=_ODD, detail=_ODD)])
    say(ledger, "wait", [file], reason=_ODD, message=_ODD)
    (failure,) = ledger.failures(file.id)
    assert (failure.error_class, failure.message, failure.detail) == (_TAMED,) * 3
    found = ledger.get(file.id)
    assert found is not None
    assert (found.source, found.reason, found.message) == (_TAMED,) * 3


_QUESTIONS: dict[str, Callable[[Ledger, History, str], InboxFile | list[InboxFile] | None]] = {
    "ledger.get": lambda ledger, _history, word: ledger.get(word),
    "history.get": lambda _ledger, history, word: history.get(word),
    "find": lambda _ledger, history, word: history.find(inbox=word),
    "find before": lambda _ledger, history, word: history.find(inbox="none", before_id=word),
    "by_name": lambda _ledger, history, word: history.by_name(word, "", "a.csv"),
}


@pytest.mark.parametrize("word", ["\udcff" * 9, "\x00" * 9, "%" * 9, "_" * 9, "'" * 9, "z" * 99])
@pytest.mark.parametrize("question", _QUESTIONS)
def test_an_odd_question_finds_nothing(ledger: Ledger, history: History, question: str, word: str) -> None:
    one(ledger, State.CLAIMED)
    assert not _QUESTIONS[question](ledger, history, word)
