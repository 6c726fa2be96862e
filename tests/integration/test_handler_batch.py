"""Handlers that take a whole batch: an answer per file, and no file pays for another."""

from __future__ import annotations

import os

import pytest

from inboxd.model import Ending
from inboxd.wire import LARGEST, Reports, encode
from support.pool_rig import rig


@pytest.fixture
def answer(handlers):
    """Run a batch handler with this body on files of these names."""

    def run(body, *names):
        opened = handlers.python(f"from inboxd import Reject, Retry\ndef handle(files):\n    {body}", batch=True)
        return handlers.run_batch(opened, [handlers.file(name) for name in names])

    return run


def endings(reports):
    return [report.ending for report in reports]


@pytest.mark.parametrize(
    ("body", "result"), [("return None", None), ("return {'n': len(files)}", {"n": 3}), ("files[0].results", None)]
)
def test_one_answer_for_all(answer, body, result):
    reports = answer(body, *"abc")
    assert [(report.ending, report.result) for report in reports] == [(Ending.PROCESSED, result)] * 3


@pytest.mark.parametrize("form", ["[say(f) for f in files]", "{f.id: say(f) for f in files}"])
def test_an_answer_per_file(answer, form):
    body = (
        "answers = {'a': None, 'b': {'x': 1}, 'c': Reject('no'), 'd': Retry('later', after=2), 'e': ValueError('bad')}\n"
        f"    say = lambda file: answers[file.name]\n    return {form}"
    )
    a, b, c, d, e = answer(body, *"abcde")
    assert endings([a, b, c, d, e]) == [
        Ending.PROCESSED, Ending.PROCESSED, Ending.REJECTED, Ending.RETRY, Ending.FAILED,
    ]  # fmt: skip
    assert (b.result, c.message, d.after, e.message) == ({"x": 1}, "no", 2.0, "ValueError: bad")


def test_answers_that_do_not_fit_the_files(answer):
    for reports in (answer("return [None]", *"ab"), answer("return [None] * 3", *"ab")):
        assert endings(reports) == [Ending.FAILED] * 2
        assert "answers for 2 files" in reports[0].message
    first, second = answer("return {files[0].id: None}", *"ab")
    assert (first.ending, second.ending) == (Ending.PROCESSED, Ending.FAILED)
    assert "no answer for this file" in second.message


@pytest.mark.parametrize(
    ("raised", "ending"), [("Reject('no')", Ending.REJECTED), ("Retry('later', after=1)", Ending.RETRY)]
)
def test_reject_and_retry_are_meant_for_all(answer, raised, ending):
    assert endings(answer(f"raise {raised}", *"abc")) == [ending] * 3


@pytest.mark.parametrize("raised", ["ValueError('bad')", "SystemExit", "MemoryError"])
def test_a_failure_of_the_whole_asks_for_its_halves(answer, raised):
    reports = answer(f"raise {raised}", *"abc")
    assert {(report.ending, report.begun, report.bisect) for report in reports} == {(Ending.RELEASED, False, True)}
    assert reports[0].message.startswith(raised.partition("(")[0])
    (alone,) = answer(f"raise {raised}", "a")
    assert (alone.ending, alone.begun, alone.bisect) == (Ending.FAILED, True, False)


def test_halves_find_the_culprit(handlers):
    opened = handlers.python(
        "def handle(files):\n    assert 'bad' not in [file.name for file in files], 'bad file'", batch=True
    )
    waiting = [[handlers.file(name) for name in ("a", "b", "bad", "d", "e", "f", "g")]]
    ended = {}
    while waiting:
        files = waiting.pop()
        reports = handlers.run_batch(opened, files)
        if reports[0].bisect:
            waiting += [files[: len(files) // 2], files[len(files) // 2 :]]
        else:
            ended.update({file.name: report.ending for file, report in zip(files, reports, strict=True)})
    assert {name for name, ending in ended.items() if ending is not Ending.PROCESSED} == {"bad"}
    assert len(ended) == 7


def test_a_removed_input_is_that_files_end_even_when_the_whole_failed(answer):
    a, b = answer("import os; os.unlink(files[0].path); raise ValueError", *"ab")
    assert (a.ending, a.begun, a.bisect) == (Ending.INPUT_CHANGED, True, False)
    assert (b.ending, b.begun, b.bisect) == (Ending.RELEASED, False, True)


@pytest.mark.parametrize("missing", [{0}, {1}, {0, 1}, {0, 1, 2}])
def test_the_others_run_where_some_are_gone(handlers, missing):
    opened = handlers.python("def handle(files): return {file.id: {} for file in files}", batch=True)
    files = [handlers.file() for _ in range(3)]
    for number in missing:
        os.unlink(files[number].path)
    reports = {report.file_id: report for report in opened.run_batch("main", files, lambda _index: None)}
    gone = {files[number].id for number in missing}
    assert {file.id: reports[file.id].ending is Ending.MISSING for file in files} == {
        file.id: file.id in gone for file in files
    }
    assert all(report.ending in (Ending.MISSING, Ending.PROCESSED) for report in reports.values())


def test_results_per_file(handlers):
    opened = handlers.python(
        "def handle(files):\n    for file in files[:2]: (file.results / file.name).touch()\n    files[2].results",
        batch=True,
    )
    files = [handlers.file(name) for name in "abcd"]
    assert [report.results for report in handlers.run_batch(opened, files)] == [True, True, False, False]
    opened.tidy()
    assert [os.path.exists(file.results) for file in files] == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "count", "told"),
    [("raise", 320, {(Ending.RELEASED, False, True)}), ("return", 1100, {(Ending.PROCESSED, True, False)})],
)
def test_more_is_reported_of_one_call_than_a_message_holds(tmp_path, name, count, told):
    with rig(tmp_path) as pool:
        reports = pool.run("batch_wordy", *(name for _ in range(count)))
        assert {(report.ending, report.begun, report.bisect) for report in reports} == told
        assert "child.killed" not in pool.names()
        assert len(encode(Reports("batch", tuple(reports), last=True))) > LARGEST
