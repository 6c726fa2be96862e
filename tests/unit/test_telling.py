"""Reports on their way: in whole messages, none of them longer than the daemon takes."""

from __future__ import annotations

import pytest

from inboxd.model import Ending, Report
from inboxd.wire import LARGEST, OrderedFile, Reports, encode
from inboxd.work.command import _report
from inboxd.work.program import TAIL
from inboxd.work.telling import _MOST_TOGETHER, Telling
from inboxd.work.verdict import batch_failed, judge, succeeded

LONG = "\N{GRINNING FACE}" * 100_000  # twelve bytes each, as JSON
FILE = OrderedFile("f" * 32, "/x", "x", 1, 1)


def told(reports, *, last=True):
    """The messages in which these leave."""
    said: list[Reports] = []
    telling = Telling(said.append)
    telling.begin("batch")
    telling._reports += reports  # by `add` the other thread would tell of some
    telling.tell(last=last)
    return said


@pytest.mark.parametrize("count", [0, 1, _MOST_TOGETHER, _MOST_TOGETHER + 1, 10_000])
def test_each_report_leaves_once_in_its_order_and_the_last_message_says_so(count):
    reports = [Report(f"{number:032}", Ending.PROCESSED) for number in range(count)]
    said = told(reports)
    assert [report for message in said for report in message.reports] == reports
    assert [message.last for message in said] == [False] * (len(said) - 1) + [True]
    assert told(reports, last=False) == [message._replace(last=False) for message in said if message.reports]


@pytest.mark.parametrize(
    "longest",
    [
        judge(FILE.id, ValueError(LONG)),
        batch_failed([FILE, FILE], ValueError(LONG))[0],
        succeeded(FILE.id, {"\0": "\0" * 10_900}),
        _report(1, f"[{1 << 63} bytes before this are not kept]\n" + "\0" * TAIL, "/bin/sh"),
        _report(65, "\n" + LONG[: TAIL // 4], "/bin/sh"),
    ],
    ids=["failed", "failed together", "a result", "a program", "a rejection"],
)
def test_a_message_of_the_longest_reports_is_no_longer_than_the_daemon_takes(longest):
    assert longest.ending in (Ending.FAILED, Ending.RELEASED, Ending.PROCESSED, Ending.REJECTED)
    said = told([longest._replace(file_id=FILE.id)] * 10_000)
    assert 1_000_000 < len(encode(max(said, key=lambda message: len(message.reports)))) <= LARGEST
