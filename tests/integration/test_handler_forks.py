"""Processes that a handler makes: none comes back out of it, and none outlives its run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inboxd.model import Ending
from inboxd.wire import HandlerSpec, Setup, encode
from support.faults import fault
from support.pool_rig import Rig, rig
from support.wait import wait_until

#: How the child ends: its exit status, and what is told of it.
ENDS = {
    "none": (0, ""),
    "number": (7, ""),
    "text": (1, "what the child had to say"),
    "raise": (70, "ValueError: raised in the child"),
    "return": (70, "came back out of it"),
}


@pytest.mark.parametrize("inbox", ["fork", "batch_fork"])
def test_a_forked_process_does_not_come_back_out_of_its_handler(tmp_path, inbox):
    with rig(tmp_path) as pool:
        pids = pool.pids()
        reports = pool.run(inbox, *ENDS)
        assert [r.result for r in reports] == [{"status": status, "pid": pids[0]} for status, _ in ENDS.values()]
        wait_until(lambda: "printed by the child" in str(pool.texts("handler.output")), "what the last one printed")
        told = str(pool.texts("handler.output"))
        assert all(words in told for _, words in ENDS.values()), told
        assert [r.ending for r in pool.run("noop", "a", "b")] == [Ending.PROCESSED] * 2
        assert pool.pids() == pids


def test_a_handler_can_terminate_what_it_has_forked(tmp_path):
    """At any moment: also before it has left our own answer to that signal."""
    with rig(tmp_path, timeout=10) as pool:
        reports = pool.run("terminate", *map(str, range(100)))
        assert [(r.ending, r.result) for r in reports] == [(Ending.PROCESSED, {"exit": -signal.SIGTERM})] * 100


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "raise ValueError('in the child')"])
def test_a_process_that_a_module_forks_does_not_load_it_too(handlers, end):
    source = f"import os, sys\nif os.fork() == 0:\n    {end}\nelse:\n    os.wait()\ndef handle(file): ..."
    setup = Setup({"main": HandlerSpec(handlers.module(source) + ":handle")}, {}, (str(handlers.folder),))
    probe = [sys.executable, "-P", "-m", "inboxd.work.probe"]
    assert subprocess.run(probe, input=encode(setup), stdout=subprocess.PIPE, check=True).stdout == b"{}"


@fault(
    "Workers and handlers",
    "a handler leaves processes behind",
    how="a daemon of its own, in a worker that runs programs, too",
    shows="it is killed and reaped; the worker keeps no zombie",
)
def test_what_a_python_handler_leaves_ends_in_a_worker_that_runs_programs_too(tmp_path, monkeypatch):
    """The worker ends what its programs leave, and adopts nothing between them."""
    both = Rig.setup

    def setup(self):
        found = both(self)
        return found._replace(handlers={**found.handlers, "program": HandlerSpec(command=("true",))})

    monkeypatch.setattr(Rig, "setup", setup)
    monkeypatch.setattr("inboxd.pool.slot._SWEEP", 0.1)
    with rig(tmp_path) as pool:
        for inbox in ("program", "leave"):
            assert [r.ending for r in pool.run(inbox, "a")] == [Ending.PROCESSED]
        left = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{left}").exists(), "what it left to be killed and reaped")
