"""What a Python handler finds, and what becomes of what it returns, raises and leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from inboxd.custody.rows import _moment, _stored_moment
from inboxd.model import Ending
from inboxd.wire import Reports, decode, encode
from inboxd.work import results


def test_what_it_finds(handlers):
    opened = handlers.python(
        """
        def handle(file):
            return {
                "path": str(file.path), "name": file.name, "id": file.id, "inbox": file.inbox, "size": file.size,
                "attempt": file.attempt, "source": file.source, "folder": file.folder, "options": file.options,
                "content": file.path.read_text(), "word": repr(file),
            }
        """,
        options={"colour": "blue"},
    )
    file = handlers.file("x.csv", b"abc", attempt=2, folder="a/b")
    report = handlers.run(opened, file)
    assert report.ending is Ending.PROCESSED
    assert report.result == {
        "path": file.path, "name": "x.csv", "id": file.id, "inbox": "main", "size": 3, "attempt": 2, "source": None,
        "folder": "a/b", "options": {"colour": "blue"}, "content": "abc", "word": f"<File 'x.csv' {file.id} attempt 2>",
    }  # fmt: skip
    assert (report.pid, report.begun, report.seconds > 0) == (os.getpid(), True, True)


def test_options_are_its_own(handlers):
    opened = handlers.python("def handle(file): return {'n': file.options.setdefault('n', file.size)}")
    assert [handlers.run(opened, handlers.file(content=text)).result for text in (b"a", b"bb")] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("raised", "ending", "error_class", "message"),
    [
        ("Reject('not ours')", Ending.REJECTED, "Reject", "not ours"),
        ("Retry('busy')", Ending.RETRY, "Retry", "busy"),
        ("ValueError('bad')", Ending.FAILED, "ValueError", "bad"),
        ("KeyError", Ending.FAILED, "KeyError", "KeyError"),
        ("KeyError('amount')", Ending.FAILED, "KeyError", "KeyError: 'amount'"),
        ("SystemExit(0)", Ending.FAILED, "SystemExit", "0"),
        ("SystemExit(3)", Ending.FAILED, "SystemExit", "the handler called sys.exit(3)"),
        ("SystemExit", Ending.FAILED, "SystemExit", "the handler called sys.exit()"),
        ("KeyboardInterrupt", Ending.FAILED, "KeyboardInterrupt", "KeyboardInterrupt"),
        ("MemoryError", Ending.FAILED, "MemoryError", "MemoryError"),
        ("GeneratorExit", Ending.FAILED, "GeneratorExit", "GeneratorExit"),
        ("ExceptionGroup('two', [ValueError(1), KeyError(2)])", Ending.FAILED, "ExceptionGroup", "two"),
    ],
)
def test_what_it_raises(handlers, raised, ending, error_class, message):
    report = handlers.run_python(
        f"from inboxd import Reject, Retry\ndef handle(file):\n    secret = 'hidden'\n    raise {raised}"
    )
    assert (report.ending, report.error_class, report.begun) == (ending, error_class, True)
    assert message in report.message
    assert ("handle" in report.detail) == (ending in (Ending.FAILED, Ending.REJECTED))
    assert "hidden" not in report.detail.replace("secret = 'hidden'", "")


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("", None), (", after=3", 3.0), (", after='250ms'", 0.25), (", after='1.5h'", 5400.0), (", after='2d'", 172800.0)],
)
def test_when_to_retry(handlers, after, seconds):
    report = handlers.run_python(f"from inboxd import Retry\ndef handle(file): raise Retry('busy'{after})")
    assert (report.ending, report.after) == (Ending.RETRY, seconds)


@pytest.mark.parametrize("after", ["'soon'", "-1", "float('nan')", "float('inf')", "'1.2.3s'", "'10'", "'s'", "[1]"])
def test_a_span_that_is_none(handlers, after):
    report = handlers.run_python(f"from inboxd import Retry\ndef handle(file): raise Retry('busy', after={after})")
    assert (report.ending, report.error_class) == (Ending.FAILED, "ValueError")
    assert "write seconds" in report.message


def test_a_retry_of_its_own_kind(handlers):
    report = handlers.run_python("""
        from inboxd import Retry
        class Busy(Retry):
            def __init__(self): pass
        def handle(file): raise Busy
    """)
    assert (report.ending, report.error_class, report.after) == (Ending.RETRY, "Busy", None)


@pytest.mark.parametrize("answer", ["Reject('no')", "Retry('later')", "ValueError('bad')"])
def test_an_exception_may_be_returned(handlers, answer):
    report = handlers.run_python(f"from inboxd import Reject, Retry\ndef handle(file): return {answer}")
    assert report.ending in (Ending.REJECTED, Ending.RETRY, Ending.FAILED)
    said = answer.partition("'")[2].partition("'")[0]
    assert report.message == (f"ValueError: {said}" if report.ending is Ending.FAILED else said)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("[1]", "returned a list"),
        ("'text'", "returned a str"),
        ("{'a': object()}", "no JSON"),
        ("{'a': float('nan')}", "no JSON"),
        ("{(1, 2): 3}", "no JSON"),
        ("{'a': 'x' * 70000}", "70009 bytes"),
        ("cycle()", "no JSON"),
        ("deep(900)", "levels deep"),
        ("deep(100000)", "its result"),
        ("(x for x in ())", "returned a generator"),
    ],
)
def test_results_that_are_no_small_json(handlers, returned, words):
    report = handlers.run_python(f"""
        def cycle():
            found = {{}}
            found["self"] = found
            return found
        def deep(levels):
            found = {{}}
            for _ in range(levels):
                found = {{"in": found}}
            return found
        def handle(file): return {returned}
    """)
    assert (report.ending, report.error_class) == (Ending.FAILED, "BadResult")
    assert words in report.message
    assert "small JSON" in report.message
    assert decode(encode(Reports("b", (report,), True))[4:])


def test_a_result_is_a_copy(handlers):
    opened = handlers.python("KEPT = {'n': 0}\ndef handle(file):\n    KEPT['n'] += 1\n    return KEPT")
    assert [handlers.run(opened).result for _ in range(3)] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_an_error_that_can_not_even_be_printed(handlers):
    report = handlers.run_python("""
        class Bad(Exception):
            def __str__(self): raise SystemExit
        def handle(file): raise Bad
    """)
    assert (report.ending, report.message) == (Ending.FAILED, "Bad, whose text raised SystemExit")


@pytest.mark.parametrize("value", ["'soon'", "-5", "float('nan')", "[]"])
def test_a_span_that_is_none_set_by_other_ways(handlers, value):
    report = handlers.run_python(
        f"from inboxd import Retry\nclass Busy(Retry):\n    after = {value}\n    def __init__(self): pass\n"
        "def handle(file): raise Busy"
    )
    assert (report.ending, report.error_class) == (Ending.FAILED, "ValueError")
    assert decode(encode(Reports("b", (report,), True))[4:])


def test_an_error_that_has_not_even_a_traceback(handlers):
    report = handlers.run_python("""
        class Bad(Exception):
            @property
            def __cause__(self): raise SystemExit
        def handle(file): raise Bad("text")
    """)
    assert (report.ending, report.message) == (Ending.FAILED, "Bad: text")
    assert report.detail == "no traceback: to make one raised SystemExit\n"


def test_a_result_that_raises_while_it_is_read(handlers):
    report = handlers.run_python("""
        class Lazy(dict):
            def items(self): raise OSError("gone")
        def handle(file): return Lazy(a=1)
    """)
    assert (report.ending, report.message) == (
        Ending.FAILED, "its result is no JSON: gone; a handler returns None or a dict that is small JSON (at most 64 KiB)"
    )  # fmt: skip


def test_messages_and_tracebacks_are_bounded_and_end_with_what_matters(handlers):
    report = handlers.run_python("""
        def dive(n): return dive(n - 1) if n else fail()
        def fail(): raise ValueError("x" * 100_000 + "end")
        def handle(file):
            try: dive(500)
            except ValueError as error: raise KeyError("outer") from error
    """)
    assert report.error_class == "KeyError"
    assert len(report.detail) <= 16 * 1024
    assert report.detail.endswith("KeyError: 'outer'\n")
    assert len(handlers.run_python("def handle(file): raise ValueError('x' * 10**6)").message) == 2000


def test_an_endless_recursion(handlers):
    assert handlers.run_python("def handle(file): handle(file)").error_class == "RecursionError"


# Results


def test_results_are_noted_when_there_are_some(handlers):
    opened = handlers.python("""
        def handle(file):
            if file.name != "none":
                file.results
            if file.name == "some":
                (file.results / "out.txt").write_text("x")
    """)
    for name, expected in (("none", False), ("empty", False), ("some", True)):
        file = handlers.file(name)
        assert handlers.run(opened, file).results is expected
        opened.tidy()
        assert os.path.isdir(file.results) is expected  # an empty folder is not left behind


@pytest.mark.parametrize("failure", ["1 / 0", "raise Reject('no')", "raise Retry('later')"])
def test_results_of_a_failed_run_are_nobodys(handlers, failure):
    file = handlers.file()
    report = handlers.run_python(
        f"from inboxd import Reject, Retry\ndef handle(file):\n    (file.results / 'x').touch()\n    {failure}", file
    )
    assert report.results is False
    assert not os.path.exists(file.results)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_run_begins_without_results(handlers, attempt):
    """Even the first: a batch that was bisected, or a death, gives the attempt back."""
    file = handlers.file(attempt=attempt)
    os.makedirs(f"{file.results}/old")
    report = handlers.run_python("def handle(file): return {'found': sorted(map(str, file.results.iterdir()))}", file)
    assert (report.result, report.results) == ({"found": []}, False)


@pytest.mark.parametrize("deed", ["open(place, 'w').close()", "os.symlink('/etc', place)", "os.mkfifo(place)"])
def test_something_else_where_the_results_folder_should_be(handlers, deed):
    opened = handlers.python(f"""
        import os
        def handle(file):
            place = file._ordered.results
            if file.attempt == 1: {deed}
            else: (file.results / "x").touch()
    """)
    file = handlers.file()
    report = handlers.run(opened, file)
    assert (report.ending, report.error_class) == (Ending.FAILED, "NotADirectoryError")
    assert not os.path.lexists(file.results)
    os.symlink("/etc", file.results)  # left by a run that was killed
    assert handlers.run(opened, handlers.repeated(file)).results is True
    assert os.listdir(file.results) == ["x"]


# The input


@pytest.mark.parametrize("then", ["return {}", "raise ValueError", "raise Retry('later', after=3)"])
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("os.unlink(file.path)", "removed its input"),
        ("os.rename(file.path, str(file.path) + '.moved')", "removed its input"),
        ("shutil.copy(file.path, 'other'); os.rename('other', file.path)", "replaced its input"),
        ("os.unlink(file.path); os.mkdir(file.path)", "replaced its input"),
        ("os.unlink(file.path); os.symlink('/etc/passwd', file.path)", "replaced its input"),
    ],
)
def test_an_input_that_is_gone_or_replaced_ends_it(handlers, monkeypatch, deed, words, then):
    monkeypatch.chdir(handlers.folder)
    report = handlers.run_python(
        f"import os, shutil\nfrom inboxd import Retry\ndef handle(file):\n    {deed}\n    {then}"
    )
    assert (report.ending, report.error_class, report.begun) == (Ending.INPUT_CHANGED, "InputChanged", True)
    assert words in report.message
    assert (report.result, report.after) == (None, None)


def test_an_input_that_is_gone_before_is_not_the_handlers_deed(handlers):
    opened = handlers.python("def handle(file): open(f'{file.id}.run', 'w').close()")
    file = handlers.file()
    os.unlink(file.path)
    report = handlers.run(opened, file)
    assert (report.ending, report.begun) == (Ending.MISSING, False)
    assert report.message == f"{file.path} is not there any more"
    assert not os.path.exists(f"{file.id}.run")


def test_an_input_changed_in_place_is_processed_with_a_remark(handlers):
    report = handlers.run_python("def handle(file): file.path.write_text('other, and longer')")
    assert report.ending is Ending.PROCESSED
    assert report.message == "the file was changed between its claim and the end of its run"


@pytest.mark.parametrize("moment", [10**20, -(10**19)])
@pytest.mark.parametrize(("deed", "words"), [("pass", ""), ("os.utime(file.path)", "the file was changed")])
def test_a_time_that_no_column_holds(handlers, moment, deed, words):
    """tmpfs keeps any. A file that comes from the ledger has the nearest that a column holds."""
    opened = handlers.python(f"import os\ndef handle(file): {deed}")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        handlers.folder = Path(folder)
        for kept in (moment, _moment(_stored_moment(moment))):
            file = handlers.file(mtime_ns=kept)
            os.utime(file.path, ns=(moment, moment))
            assert os.lstat(file.path).st_mtime_ns == moment
            report = handlers.run(opened, file)
            assert (report.ending, report.message[: len(words) or None]) == (Ending.PROCESSED, words)


def test_a_lean_start():
    """No library that a worker without a database or a command has no use for."""
    script = (
        "import sys, inboxd.work.worker; "
        "print(*({'asyncio', 'sqlalchemy', 'subprocess', 'pydantic', 'loguru', 'yaml', 'shutil', 'random', "
        "'hashlib', 'ctypes', 'traceback', 'difflib', 'pathlib', 'socket', 'locale', "
        "'dataclasses', 'inspect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def no_descriptors():
    """As many as a run needs are free when it is called; none from there on."""
    taken = []

    def take():
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/", os.O_PATH))

    yield take
    for fd in taken:
        os.close(fd)


def test_what_an_earlier_run_left_waits_for_a_descriptor(handlers, no_descriptors):
    opened, file = handlers.python("def handle(file): pass"), handlers.file()
    os.makedirs(file.results + "/left")
    no_descriptors()
    report = handlers.run(opened, file)
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)


def test_a_batch_of_which_one_has_leftovers_waits_whole_for_a_descriptor(handlers, no_descriptors):
    opened, files = handlers.python("def handle(files): pass", batch=True), [handlers.file() for _ in range(3)]
    os.makedirs(files[1].results + "/left")
    no_descriptors()
    assert {(one.ending, one.begun) for one in handlers.run_batch(opened, files)} == {(Ending.UNAVAILABLE, False)}


def test_leftovers_that_can_not_be_removed_are_the_trouble_of_one_file(handlers, monkeypatch):
    """Its batch is halved, until it is alone."""
    opened, files = handlers.python("def handle(files): pass", batch=True), [handlers.file() for _ in range(3)]

    def refused(_folder_fd, _name):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    os.makedirs(files[1].results + "/left")
    monkeypatch.setattr(results, "remove_tree", refused)
    assert {(one.ending, one.bisect) for one in handlers.run_batch(opened, files)} == {(Ending.RELEASED, True)}
    assert [one.ending for one in handlers.run_batch(opened, files[1:2])] == [Ending.FAILED]


def test_without_a_descriptor_a_failure_is_what_it_was(handlers, no_descriptors):
    opened = handlers.python(
        """
        def handle(file):
            (file.results / "x").touch()
            file.options["take"]()
            raise KeyError("mine")
        """,
        options={"take": no_descriptors},
    )
    report = handlers.run(opened)
    assert (report.ending, report.error_class) == (Ending.FAILED, "KeyError")
