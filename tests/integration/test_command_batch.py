"""Programs that take a whole batch: how they learn of the files, and whom their exit speaks of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from inboxd.model import Ending
from support.faults import fault

_LONGEST_ARGUMENTS = 6 << 20  # bytes: execve(2) takes 3/4 of that at most, whatever the stack's limit


@pytest.fixture
def shell(handlers):
    """A batch handler that is a shell script, which gets the files as its arguments."""
    return lambda script, **spec: handlers.command("/bin/sh", "-c", script, "sh", "{files}", batch=True, **spec)


def test_each_file_is_an_argument(handlers):
    opened = handlers.command("/usr/bin/printf", "%s\\n", "{{x}}", "{files}", "end", batch=True)
    files = [handlers.file(name) for name in ("a b", "$(id)", "c")]
    assert [report.ending for report in handlers.run_batch(opened, files)] == [Ending.PROCESSED] * 3
    assert [note["line"] for note in handlers.told("handler.output")] == ["{x}", *(file.path for file in files), "end"]


def test_standard_input_lists_them(handlers, tmp_path):
    opened = handlers.command("tee", str(tmp_path / "listed"), batch=True)
    names = ("a.csv", os.fsdecode(b"caf\xe9"), "line\nbreak")
    files = [handlers.file(name, b"abc", attempt=2, folder="sub", source="api") for name in names]
    handlers.run_batch(opened, files)
    assert [json.loads(line) for line in (tmp_path / "listed").read_text().splitlines()] == [
        {
            "id": file.id, "path": file.path, "name": file.name, "folder": "sub", "size": 3, "attempt": 2,
            "source": "api", "results": file.results,
        }
        for file in files
    ]  # fmt: skip


def test_nobody_has_to_read_the_list(handlers):
    """It is longer than any pipe would take."""
    files = [handlers.file("x" * 200)] * 2_000
    assert handlers.run_batch(handlers.command("true", batch=True), files)[-1].ending is Ending.PROCESSED


def test_the_environment_is_that_of_the_inbox(handlers, shell):
    opened = shell('env | grep ^INBOXD_ | sort > "$(dirname "$1")/env"', options={"region": "north"})
    handlers.run_batch(opened, [handlers.file(), handlers.file()])
    found = (handlers.folder / "env").read_text().split()
    assert found == ["INBOXD_COUNT=2", "INBOXD_INBOX=main", "INBOXD_OPTION_REGION=north"]


def test_results_per_file(handlers, tmp_path):
    script = """import json, sys
for line in sys.stdin:
    file = json.loads(line)
    if file["name"] != "b":
        open(file["results"] + "/" + file["name"], "w").close()
"""
    program = tmp_path / "program.py"
    program.write_text(script)
    files = [handlers.file(name) for name in "abc"]
    opened = handlers.command("python3", str(program), batch=True)
    reports = handlers.run_batch(opened, files)
    opened.tidy()
    assert [report.results for report in reports] == [True, False, True]
    assert [os.path.exists(file.results) for file in files] == [True, False, True]
    assert os.listdir(files[2].results) == ["c"]


@pytest.mark.parametrize("script", ["exit 3", "exit 65", "kill -9 $$"])
def test_a_failure_or_a_rejection_asks_for_halves_until_a_file_is_alone(handlers, shell, script):
    """A program can't say which of them it means, so it is not taken to mean all."""
    opened = shell(f"echo why; {script}")
    for report in handlers.run_batch(opened, [handlers.file() for _ in range(3)]):
        assert (report.ending, report.begun, report.bisect) == (Ending.RELEASED, False, True)
        said = {"exit 3": "exit status 3", "exit 65": "exit status 65"}.get(script, "killed by signal 9")
        assert (report.message, report.detail) == (f"{said}: why", "why\n")
    (alone,) = handlers.run_batch(opened, [handlers.file()])
    assert (alone.ending, alone.begun, alone.bisect) == (
        Ending.REJECTED if "65" in script else Ending.FAILED, True, False,
    )  # fmt: skip


def test_retry_is_meant_for_all(handlers, shell):
    reports = handlers.run_batch(shell("echo busy; exit 75"), [handlers.file() for _ in range(3)])
    assert [(report.ending, report.message, report.bisect) for report in reports] == [(Ending.RETRY, "busy", False)] * 3


@pytest.mark.parametrize("code", [126, 127])
def test_what_the_program_lacks_is_no_files_fault(handlers, shell, code):
    reports = handlers.run_batch(shell(f"exit {code}"), [handlers.file() for _ in range(2)])
    assert [(report.ending, report.begun, report.bisect) for report in reports] == [(Ending.BROKEN, False, False)] * 2


@fault(
    "Workers and handlers",
    "a batch is too long for the arguments of a program",
    how="6 MiB of paths",
    shows="its halves run apart",
)
def test_more_than_the_arguments_of_a_program_can_hold(handlers):
    one = handlers.file()
    padded = one._replace(path="/" * 3_000 + one.path)
    files = [padded] * (_LONGEST_ARGUMENTS // 3_000)
    opened = handlers.command("true", "{files}", batch=True)
    reports = handlers.run_batch(opened, files)
    assert {(report.ending, report.bisect) for report in reports} == {(Ending.RELEASED, True)}
    assert "Argument list too long" in reports[0].message
    assert {report.ending for report in handlers.run_batch(opened, files[:100])} == {Ending.PROCESSED}


def test_what_it_says_stays_small_however_many_files_there_are(handlers, shell):
    reports = handlers.run_batch(shell("head -c 100000 /dev/zero | tr '\\0' x; exit 75"), [handlers.file()] * 50)
    assert sum(len(report.output) for report in reports) < 120_000


def test_what_it_prints_is_told_of_the_batch(handlers, shell):
    opened = shell("echo hello")
    handlers.run_batch(opened, [handlers.file(), handlers.file()])
    handlers.run_batch(opened, [handlers.file("alone.csv")])
    assert [(fields["file"], fields["line"]) for fields in handlers.told("handler.output")] == [
        ("(a batch of 2 files)", "hello"), ("alone.csv", "hello"),
    ]  # fmt: skip


def test_a_file_that_it_removes_is_that_files_end(handlers, shell):
    a, b = handlers.run_batch(shell('rm "$1"'), [handlers.file("a"), handlers.file("b")])
    assert (a.ending, b.ending) == (Ending.INPUT_CHANGED, Ending.PROCESSED)


def test_the_folder_of_results_is_empty_at_the_start_of_each_run(handlers, shell):
    file = handlers.file()
    Path(file.results).mkdir()
    Path(file.results, "old").touch()
    assert handlers.run_batch(shell("true"), [file])[0].results is False
