"""Programs as handlers: what they are given, what their exit says, what is kept of their output, what they leave."""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from inboxd.model import Ending
from inboxd.work.surroundings import watch_for_faults
from support.faults import fault
from support.pool_rig import alive
from support.wait import wait_until


def test_arguments_are_filled_in_and_no_shell_reads_them(handlers):
    opened = handlers.command(
        "/usr/bin/printf", "%s|", "{path}", "-{name}-", "{id}{attempt}", "{results}", "{{x}}", "$(id) *"
    )
    file = handlers.file("a; rm -rf $HOME 'b'\n.csv", attempt=3)
    report = handlers.run(opened, file)
    assert report.ending is Ending.PROCESSED
    assert report.output.split("|")[:-1] == [
        file.path, f"-{file.name}-", f"{file.id}3", file.results, "{x}", "$(id) *",
    ]  # fmt: skip


def test_a_name_that_is_no_utf8_arrives_byte_by_byte(handlers):
    name = os.fsdecode(b"caf\xe9.csv")
    opened = handlers.shell('printf "%s" "$INBOXD_NAME" > "$INBOXD_RESULTS/name"')
    file = handlers.file(name)
    assert handlers.run(opened, file).results
    assert Path(file.results, "name").read_bytes() == b"caf\xe9.csv"


def test_the_environment(handlers, monkeypatch):
    monkeypatch.setenv("HARMLESS", "1")
    monkeypatch.setenv("INBOXD_LOCK_FD", "")
    opened = handlers.command("/usr/bin/env", options={"max-size": 3, "flag": True, "list": ["a"], "Text": "t x"})
    file = handlers.file("a.csv", b"abc", attempt=2, source="api")
    found = dict(line.split("=", 1) for line in handlers.run(opened, file).output.splitlines())
    assert {name: value for name, value in found.items() if name.startswith("INBOXD_")} == {
        "INBOXD_PATH": file.path, "INBOXD_NAME": "a.csv", "INBOXD_ID": file.id, "INBOXD_RESULTS": file.results,
        "INBOXD_ATTEMPT": "2", "INBOXD_INBOX": "main", "INBOXD_SIZE": "3", "INBOXD_SOURCE": "api",
        "INBOXD_OPTION_MAX_SIZE": "3", "INBOXD_OPTION_FLAG": "true", "INBOXD_OPTION_LIST": '["a"]',
        "INBOXD_OPTION_TEXT": "t x",
    }  # fmt: skip
    assert found["HARMLESS"] == "1"


def test_standard_input_is_empty(handlers):
    assert handlers.run(handlers.shell("cat; echo end")).output == "end\n"


@pytest.mark.parametrize(
    ("script", "ending", "error_class", "message"),
    [
        ("exit 0", Ending.PROCESSED, "", ""),
        ("echo no customer >&2; exit 65", Ending.REJECTED, "Exit65", "no customer"),
        ("echo busy; exit 75", Ending.RETRY, "Exit75", "busy"),
        ("exit 65", Ending.REJECTED, "Exit65", "/bin/sh ended: exit status 65"),
        ("echo one; echo two >&2; exit 3", Ending.FAILED, "Exit3", "exit status 3: two"),
        ("exit 3", Ending.FAILED, "Exit3", "/bin/sh ended: exit status 3"),
        ("kill -9 $$", Ending.FAILED, "Signal9", "/bin/sh ended: killed by signal 9"),
        ("echo so; kill -TERM $$", Ending.FAILED, "Signal15", "killed by signal 15: so"),
    ],
)
def test_exit_codes(handlers, script, ending, error_class, message):
    report = handlers.run(handlers.shell(script))
    assert (report.ending, report.error_class, report.begun) == (ending, error_class, True)
    assert report.message == message
    assert report.result is None


@pytest.mark.parametrize("code", [126, 127])
def test_what_the_program_lacks_is_no_files_fault(handlers, code):
    report = handlers.run(handlers.shell(f"echo xyz: not found; exit {code}"))
    assert (report.ending, report.begun) == (Ending.BROKEN, False)
    assert "xyz: not found" in report.message


@pytest.mark.parametrize("deed", ["gone", "not executable", "no program", "no interpreter"])
def test_a_program_that_can_not_be_started(handlers, deed):
    program = handlers.folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    opened = handlers.command(str(program))
    if deed == "gone":
        program.unlink()
    elif deed == "not executable":
        program.chmod(0o644)
    elif deed == "no program":
        program.write_bytes(b"\x7fELF nonsense")
    else:
        program.write_text("#!/no/such/interpreter\n")
    report = handlers.run(opened)
    assert (report.ending, report.begun) == (Ending.BROKEN, False)
    assert f"{program} can't be started" in report.message


@fault(
    "Machine limits",
    "a worker has no descriptor left",
    how="RLIMIT_NOFILE",
    shows="the file is given back, nothing is charged",
)
@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("batch", [False, True])
def test_a_machine_short_of_descriptors_is_no_fault_of_the_set_up(handlers, left, batch):
    opened, file = handlers.command("true", batch=batch), handlers.file()
    run = (lambda: handlers.run_batch(opened, [file, file])[1]) if batch else lambda: handlers.run(opened, file)
    taken = []
    try:
        while True:
            taken.append(os.open("/", os.O_PATH))
    except OSError:
        [os.close(taken.pop()) for _ in range(left)]
        report = run()
    finally:
        [os.close(fd) for fd in taken]
    assert (report.ending, report.begun) == (Ending.UNAVAILABLE, False)


def test_a_program_that_can_not_be_watched_has_run(handlers, monkeypatch):
    """It has been started: whatever the machine is short of now, its exit counts, and no background process stays."""

    def none(_pid):
        raise OSError(errno.ENFILE, "Too many open files in system")

    opened = handlers.shell("echo paid; sleep 0.3; sleep 60 & exit 3")
    monkeypatch.setattr(os, "pidfd_open", none)
    report = handlers.run(opened)
    assert (report.ending, report.begun, report.output) == (Ending.FAILED, True, "paid\n")


def test_a_later_handler_still_tells_where_it_is(handlers):
    """A program has its own answer to SIGQUIT while it runs; afterwards the worker has its traceback again."""
    watch_for_faults()
    try:
        handlers.run(handlers.command("true"))
        status = Path("/proc/self/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        assert caught & 1 << signal.SIGQUIT - 1
    finally:
        faulthandler.unregister(signal.SIGQUIT)


def test_results_are_not_made_where_the_disk_has_gone(handlers):
    file = handlers.file()
    opened = handlers.command("true")
    gone = handlers.folder / "gone" / "results" / file.id
    report = handlers.run(opened, file._replace(results=str(gone)))
    assert (report.ending, (handlers.folder / "gone").exists()) == (Ending.FAILED, False)


def test_both_streams_are_kept_in_their_order(handlers):
    assert handlers.run(handlers.shell("echo 1; echo 2 >&2; echo 3")).output == "1\n2\n3\n"


def test_only_the_tail_of_a_flood_is_kept(handlers):
    report = handlers.run(handlers.shell("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end; exit 1"))
    assert report.message == "exit status 1: end"
    assert report.output.endswith("x\nend\n")
    assert len(report.output) < 66_000
    assert report.output.startswith("[19934469 bytes before this are not kept]\n")


def test_output_that_is_no_text_is_made_visible(handlers):
    assert handlers.run(handlers.shell(r"printf 'caf\351'")).output == r"caf\xe9"


def test_the_last_lines_are_logged_with_their_file(handlers):
    file = handlers.file("a.csv")
    handlers.run(handlers.shell("seq 100"), file)
    told = handlers.told("handler.output")
    assert [fields["line"] for fields in told] == [str(n) for n in range(81, 101)]
    assert {(fields["inbox"], fields["file"], fields["file_id"]) for fields in told} == {("main", "a.csv", file.id)}


def test_a_command_may_close_its_output_and_go_on(handlers):
    report = handlers.run(handlers.shell('exec >&- 2>&-; sleep 0.2; : > "$INBOXD_RESULTS/late"'))
    assert (report.ending, report.results) == (Ending.PROCESSED, True)


def test_the_results_folder_is_there_and_goes_when_it_stays_empty(handlers):
    for script, expected in (('test -d "$INBOXD_RESULTS"', False), (': > "$INBOXD_RESULTS/x"', True)):
        file, opened = handlers.file(), handlers.shell(script)
        report = handlers.run(opened, file)
        opened.tidy()
        assert (report.ending, report.results) == (Ending.PROCESSED, expected)
        assert os.path.isdir(file.results) is expected


def test_each_file_of_an_order_has_a_results_folder_that_is_empty_and_as_new(handlers):
    """Whatever the ones before have made of theirs: an empty one goes on to the next file."""
    deeds = [
        "true",
        "true",
        ': > "$INBOXD_RESULTS/x"',
        "true",
        'chmod 700 "$INBOXD_RESULTS"',
        'rmdir "$INBOXD_RESULTS"',
    ]
    seen = 'stat -c %a "$INBOXD_RESULTS"; ls -A "$INBOXD_RESULTS"; '
    script = f"{seen} case $INBOXD_NAME in " + " ".join(f"{n}) {deed};;" for n, deed in enumerate(deeds)) + " esac"
    opened = handlers.shell(script)
    files = [handlers.file(name=str(number)) for number in range(len(deeds))]
    reports = [handlers.run(opened, file) for file in [*files, handlers.file(name="last")]]
    opened.tidy()
    assert {report.output for report in reports} == {"755\n"}
    assert [report.results for report in reports] == [number == 2 for number in range(len(reports))]
    assert [str(path) for path in handlers.folder.glob("*-results")] == [files[2].results]


def test_a_command_that_removes_its_input(handlers):
    assert handlers.run(handlers.shell('rm "$1"')).ending is Ending.INPUT_CHANGED


# What it leaves running


def _pid(handlers):
    return int(
        wait_until(lambda: (handlers.folder / "pid").exists() and (handlers.folder / "pid").read_text(), "a pid")
    )


@pytest.mark.parametrize(
    "how",
    [
        "sleep 600 & echo $! > pid",
        "sleep 600 > /dev/null 2>&1 & echo $! > pid",
        "setsid sleep 600 & echo $! > pid",
        "trap '' TERM HUP; (trap '' TERM; sh -c 'echo $$ > pid; exec sleep 600' > /dev/null 2>&1 &) ; "
        "while ! test -s pid; do :; done",
        "sh -c 'sleep 600 & echo $! > pid; exec sleep 601' > /dev/null 2>&1 & while ! test -s pid; do :; done",
    ],
)
def test_background_processes_end_with_the_run(handlers, monkeypatch, how):
    monkeypatch.chdir(handlers.folder)
    before = _children()
    began = time.monotonic()
    report = handlers.run(handlers.shell(f"{how}; echo done"))
    assert (report.ending, report.output) == (Ending.PROCESSED, "done\n")
    assert time.monotonic() - began < 5
    assert not alive(_pid(handlers))
    assert _children() == before


def test_a_grandchild_that_floods_the_pipe_is_cut_off(handlers):
    report = handlers.run(handlers.shell("yes & exit 0"))
    assert (report.ending, report.seconds < 5) == (Ending.PROCESSED, True)


def test_children_that_were_there_before_are_spared(handlers):
    """A Python handler of another inbox may keep a helper."""
    helper = subprocess.Popen(["sleep", "600"])
    try:
        assert handlers.run(handlers.shell("sleep 600 > /dev/null 2>&1 &")).ending is Ending.PROCESSED
        assert helper.poll() is None
    finally:
        helper.kill()
        assert helper.wait() == -signal.SIGKILL


def test_no_descriptor_is_left_open_or_handed_on(handlers):
    opened = handlers.shell("ls /proc/self/fd")
    with open(os.devnull) as held:
        os.set_inheritable(held.fileno(), True)
        handlers.run(opened)
        before = set(os.listdir("/proc/self/fd"))
        report = handlers.run(opened)
        assert report.output.split() == ["0", "1", "2", "3"]  # 3 is the folder that ls reads
        assert set(os.listdir("/proc/self/fd")) == before


def test_the_generation_lock_is_handed_on_but_not_told(handlers, monkeypatch):
    with open(handlers.folder / "lock", "w") as lock:
        monkeypatch.setenv("INBOXD_LOCK_FD", str(lock.fileno()))
        opened = handlers.shell("readlink /proc/$$/fd/* | grep -c lock; env | grep -c LOCK_FD; true")
        assert handlers.run(opened).output == "1\n0\n"
        assert os.get_inheritable(lock.fileno())


def _children():
    return {
        int(pid)
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    }
