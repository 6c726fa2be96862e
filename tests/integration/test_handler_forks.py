"""What a handler forks stays in the handler: a worker is one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inboxd.model import Ending
from inboxd.wire import HandlerSpec, Setup, encode
from support.pool_rig import rig
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


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "raise ValueError('in the child')"])
def test_a_process_that_a_module_forks_does_not_load_it_too(handlers, end):
    source = f"import os, sys\nif os.fork() == 0:\n    {end}\nelse:\n    os.wait()\ndef handle(file): ..."
    setup = Setup({"main": HandlerSpec(handlers.module(source) + ":handle")}, {}, (str(handlers.folder),))
    probe = [sys.executable, "-P", "-m", "inboxd.work.probe"]
    assert subprocess.run(probe, input=encode(setup), stdout=subprocess.PIPE, check=True).stdout == b"{}"
