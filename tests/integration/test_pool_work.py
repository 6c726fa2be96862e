"""The pool at work: orders, reports, look-ahead, recycling, reload, output."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from inboxd.model import Ending
from inboxd.pool.terms import FetchTerms
from inboxd.wire import Errand, HandlerSpec, OrderedItem, Setup, SourceSetup, SourceSpec
from support.pool_rig import Rig, rig
from support.wait import wait_until


def endings(reports):
    return [report.ending for report in reports]


def test_each_file_of_each_order_is_reported_once(tmp_path):
    with rig(tmp_path, processes=2) as pool:
        orders = [pool.dispatch("noop", *(f"{n}" for n in range(size))) for size in (1, 7, 100, 1, 3)]
        for order in orders:
            assert set(endings(pool.outcome(order))) == {Ending.PROCESSED}
        assert pool.pool.reports() == []


def test_a_handler_that_leaves_no_descriptor_has_done_its_work(tmp_path):
    """And so has each before it: nothing that comes after the runs may cost their reports."""
    with rig(tmp_path) as pool:
        assert endings(pool.run("greedy", "a", "b", "c")) == [Ending.PROCESSED] * 3
        assert "child.died" not in pool.names()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (9, 10), (19, 1)])
def test_nobody_waits_for_a_long_neighbour(tmp_path, before, after):
    """Quick files' reports travel together, but not behind one that never ends; and its end is not their end."""
    with rig(tmp_path) as pool:
        quick, never = (f"quick-{n}" for n in range(before)), ("never" for _ in range(after))
        order = pool.dispatch("by_name", *quick, "sleep", *never)
        wait_until(lambda: (pool.collect(), len(pool.reports[order.batch]))[1] >= before, "the quick files' reports")
        assert [(r.file_id, r.ending) for r in pool.reports[order.batch]] == [
            (file.id, Ending.PROCESSED) for file in order.files[:before]
        ]
        pool.stop(grace=0.05)


def test_reports_leave_whatever_handlers_do_meanwhile(tmp_path, monkeypatch):
    """Another thread of the worker sends them: forks, signals and working folders are the handler's own business."""
    (tmp_path / "busy.py").write_text(BUSY)
    monkeypatch.setattr(Rig, "setup", lambda self: Setup({"busy": HandlerSpec("busy:handle")}, {}, (str(tmp_path),)))
    with rig(tmp_path) as pool:
        reports = pool.run("busy", *map(str, range(40)))
        assert [report.result for report in reports] == [{"alarms": 1, "exit": 7}] * 40


BUSY = """
import os, signal, time

def handle(file):
    alarms = []
    signal.signal(signal.SIGALRM, lambda number, frame: alarms.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    os.chdir("/")
    child = os.fork()
    if child == 0:
        os._exit(7)
    status = os.waitpid(child, 0)[1]
    while not alarms:
        time.sleep(0.001)
    return {"alarms": len(alarms), "exit": os.waitstatus_to_exitcode(status)}
"""


def test_look_ahead_is_bounded_and_released_by_a_drain(tmp_path):
    with rig(tmp_path) as pool:
        assert (pool.pool.idle(), pool.pool.free()) == (1, 2)
        running = pool.dispatch("wait_for_go", "a", "b")
        pool.wait_begun(running)
        assert (pool.pool.idle(), pool.pool.free()) == (0, 1)
        waiting = pool.dispatch("noop", "c")
        assert pool.pool.free() == 0
        pool.pool.drain(20)
        assert [(r.ending, r.begun) for r in pool.outcome(waiting)] == [(Ending.RELEASED, False)]
        (tmp_path / "go").touch()
        first, second = pool.outcome(running)
        assert first.ending is Ending.PROCESSED
        assert (second.ending, second.begun) == (Ending.RELEASED, False)
        late = pool.dispatch("noop", "d")
        assert [(r.ending, r.begun) for r in pool.outcome(late)] == [(Ending.RELEASED, False)]
        assert pool.pool.free() == 0


def test_a_drain_without_grace_cuts_the_file_in_progress_off(tmp_path):
    with rig(tmp_path) as pool:
        order = pool.dispatch("by_name", "fine", "sleep", "never")
        wait_until(lambda: (pool.collect(), pool.pool.snapshot()[0]["file_id"])[1] == order.files[1].id, "the sleeper")
        pool.stop(grace=0.05)
        fine, cut, never = pool.outcome(order)
        assert (cut.ending, cut.begun) == (Ending.RELEASED, True)
        assert (never.ending, never.begun) == (Ending.RELEASED, False)
        assert fine.ending in (Ending.PROCESSED, Ending.RELEASED)


def test_the_surroundings_of_a_handler(tmp_path, monkeypatch):
    for name in (
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "CREDENTIALS_DIRECTORY",
        "LISTEN_FDS",
        "PGPASSWORD",
        "MY_TOKEN",
        "NAMED",
    ):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WAREHOUSE", "postgresql://me:secret@host/db")
    monkeypatch.setenv("HARMLESS", "1")
    with rig(tmp_path) as pool:
        (report,) = pool.run("tell", "a")
        assert report.result is not None
        seen = set(report.result["environment"])
        assert "HARMLESS" in seen
        assert not seen & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "PGPASSWORD"}
        assert not seen & {"MY_TOKEN", "NAMED", "WAREHOUSE"}
        assert report.result["group"] == report.result["pid"] == report.pid != os.getpid()
        assert report.result["frozen"]


def test_what_a_handler_changes_is_put_back(tmp_path):
    with rig(tmp_path) as pool:
        (before,) = pool.run("tell", "a")
        pool.run("disturb", "b")
        (after,) = pool.run("tell", "c")
        assert before.result == after.result


def test_recycled_after_so_many_files(tmp_path):
    with rig(tmp_path, max_files=10) as pool:
        (old,) = pool.pids()
        assert set(endings(pool.run("noop", *"abcdefghijklmno"))) == {Ending.PROCESSED}
        wait_until(lambda: pool.pids() not in ([], [old]), "another worker")
        assert endings(pool.run("noop", "a")) == [Ending.PROCESSED]
        assert "child.died" not in pool.names()


def test_recycled_above_its_memory_after_the_file_in_progress(tmp_path):
    with rig(tmp_path, max_memory="60MiB") as pool:
        (first, *rest) = pool.run("grow", "a", "b", "c")
        assert first.ending is Ending.PROCESSED
        assert {(r.ending, r.begun) for r in rest} <= {(Ending.RELEASED, False), (Ending.PROCESSED, True)}
        wait_until(lambda: "child.stopped" in pool.names(), "the worker to end in good order")
        assert endings(pool.run("noop", "a")) == [Ending.PROCESSED]


def test_memory_is_noticed_during_a_long_file(tmp_path):
    with rig(tmp_path, max_memory="60MiB") as pool:
        order = pool.dispatch("grow_slowly", "a", "b")
        wait_until(lambda: "child.recycled" in pool.names(), "the memory to be seen")
        (tmp_path / "go").touch()
        assert [(r.ending, r.begun) for r in pool.outcome(order)] == [
            (Ending.PROCESSED, True),
            (Ending.RELEASED, False),
        ]


def test_garbage_in_cycles_is_collected(tmp_path):
    with rig(tmp_path, max_memory="120MiB") as pool:
        for _ in range(12):
            assert endings(pool.run("litter", "a")) == [Ending.PROCESSED]
        assert "child.recycled" not in pool.names()


def test_reload_recycles_and_changes_options(tmp_path):
    with rig(tmp_path, processes=2) as pool:
        old = set(pool.pids())
        pool.pool.renew(pool.setup(colour="blue"))
        order = pool.dispatch("options", "a")
        (report,) = pool.outcome(order)
        assert report.result == {"colour": "blue"}
        wait_until(lambda: len(pool.pids()) == 2 and not old & set(pool.pids()), "two new workers")
        assert "child.died" not in pool.names()


def test_a_reload_changes_what_workers_see_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NAMED", "1")
    monkeypatch.setenv("ALSO", "1")
    with rig(tmp_path) as pool:
        for secrets, seen in [({"ALSO", "NAMED"}, set()), ({"ALSO"}, {"NAMED"}), (None, {"NAMED"})]:
            pool.pool.renew(pool.setup(), secrets=None if secrets is None else frozenset(secrets))
            (report,) = pool.run("tell", "a")
            assert set(report.result["environment"]) & {"ALSO", "NAMED"} == seen


def test_what_is_dispatched_after_a_reload_no_old_worker_runs(tmp_path):
    """Though the set-up is the same, and whether the workers are idle, starting or busy."""
    with rig(tmp_path, processes=3) as pool:
        for _ in range(10):
            pool.dispatch("noop", "before")
            old = set(pool.pids())
            pool.pool.renew(pool.setup())
            after = [pool.dispatch("tell", "after") for _ in range(3)]
            assert not old & {report.pid for order in after for report in pool.outcome(order)}
        assert "child.died" not in pool.names()


def test_after_a_reload_all_idle_workers_make_room_at_once_and_a_busy_one_finishes(tmp_path):
    with rig(tmp_path, processes=3) as pool:
        busy = pool.dispatch("wait_for_go", "old")
        pool.wait_begun(busy)
        (old,) = [row["pid"] for row in pool.pool.snapshot() if row["file_id"]]
        pool.pool.renew(pool.setup())
        orders = [pool.dispatch("wait_for_go", "new") for _ in range(2)]
        for order in orders:
            pool.wait_begun(order)
        waiting = pool.dispatch("tell", "later")
        (tmp_path / "go").touch()
        assert [(report.ending, report.pid) for report in pool.outcome(busy)] == [(Ending.PROCESSED, old)]
        assert pool.outcome(waiting)[0].pid != old
        wait_until(lambda: pool.pool.idle() == 3 and old not in pool.pids(), "three new workers")
        assert pool.names().count("child.recycled") == 3


def test_a_limit_that_a_reload_shortens_is_for_what_is_handed_over_later(tmp_path):
    with rig(tmp_path, processes=2, timeout=60.0) as pool:
        busy = pool.dispatch("wait_for_go", "old")
        pool.wait_begun(busy)
        pool.pool.renew(pool.setup(), pool.workers.model_copy(update={"timeout": 0.2}))
        for _ in range(3):  # until the busy one has been looked at, and would have been killed
            (hung,) = pool.run("by_name", "sleep")
            assert (hung.ending, hung.message) == (Ending.TIMED_OUT, "ran longer than 0.2 s")
        (tmp_path / "go").touch()
        assert endings(pool.outcome(busy)) == [Ending.PROCESSED]


def test_a_limit_that_a_reload_lengthens_helps_at_once(tmp_path):
    with rig(tmp_path, processes=1, timeout=3.0) as pool:
        busy = pool.dispatch("wait_for_go", "old")
        began = time.monotonic()
        pool.wait_begun(busy)
        pool.pool.renew(pool.setup(), pool.workers.model_copy(update={"timeout": 60.0}))
        wait_until(lambda: time.monotonic() > began + 4.0, "the end of the old limit")
        (tmp_path / "go").touch()
        assert endings(pool.outcome(busy)) == [Ending.PROCESSED]


@pytest.mark.parametrize("count", [1, 3])
def test_reload_changes_the_number_of_workers(tmp_path, count):
    with rig(tmp_path, processes=2) as pool:
        pool.pool.renew(pool.setup(), pool.workers.model_copy(update={"processes": count}))
        wait_until(lambda: len(pool.pool.snapshot()) == count == pool.pool.idle(), f"{count} idle workers")
        assert endings(pool.run("noop", "a")) == [Ending.PROCESSED]


def test_sources_that_come_and_go_leave_no_descriptors(tmp_path):
    """Whether they are just kept, have an errand waiting, or one in progress; and each item is reported."""
    spec = SourceSpec("ftp", {"host": "127.0.0.1", "port": 9}, connect=1.0, idle=1.0, total=1.0)
    sources = {"acme": (SourceSetup("acme", spec), FetchTerms(1, 60.0))}
    with rig(tmp_path) as pool:
        before = len(os.listdir("/proc/self/fd"))
        fetchers = pool.pool.fetchers
        reported: list[str] = []
        for number in range(20):
            fetchers.keep(sources)
            if number % 4:
                batch = f"batch-{number}"
                errand = Errand(batch, "inbox", "acme", "ack", (OrderedItem("a"), OrderedItem("b")))
                assert fetchers.dispatch(errand) == []
                pool.pool.wakeup()
            if number % 4 == 3:
                wait_until(pool.pool.errands, "a fetcher")
            fetchers.keep({})
            pool.pool.wakeup()
        wait_until(lambda: reported.extend(batch for batch, _ in fetchers.reports()) or len(reported) >= 30, "reports")
        assert len(reported) == 30
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "descriptors to be closed")
        assert fetchers.reports() == []


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_hash_orders_read_and_run_nothing(tmp_path, kind):
    with rig(tmp_path) as pool:
        order = pool.order("by_name", "kill", "gone", "fifo", hash=kind)
        os.unlink(order.files[1].path)
        os.unlink(order.files[2].path)
        os.mkfifo(order.files[2].path)
        pool.pool.dispatch(order)
        good, gone, fifo = pool.outcome(order)
        assert good.result == {kind: hashlib.new(kind, b"kill").hexdigest()}
        assert gone.ending is Ending.MISSING
        assert (fifo.ending, "no regular file" in fifo.message) == (Ending.FAILED, True)


def test_output_is_told_with_its_file(tmp_path):
    with rig(tmp_path) as pool:
        pool.run("speak", "name.csv")
        wait_until(lambda: len(pool.texts("handler.output")) == 2, "two lines")
        lines = [fields["line"] for name, fields in pool.told if name == "handler.output"]
        assert lines == ["out of name.csv", "\x1b[31merr\x00 of name.csv"]


def test_marks_that_can_not_be_read(tmp_path):
    """Their disk has gone, or fails. It is the ledger's, which says so; the supervisor must not end for want of a name."""
    with rig(tmp_path) as pool:
        pool.run("speak", "a")
        (slot,) = pool.pool._supervisor.crews[""].slots
        marks, slot.child.mark_fd = slot.child.mark_fd, os.open(tmp_path, os.O_RDONLY)
        try:
            assert [r.ending for r in pool.run("mutter", "b", "c")] == [Ending.PROCESSED] * 2
            told = ("handler.output", "child.output")  # by where it is met in the pipe, its file is known or not
            wait_until(lambda: "about c" in str([pool.texts(event) for event in told]), "the last one's words")
        finally:
            os.close(slot.child.mark_fd)
            slot.child.mark_fd = marks


def test_a_line_that_no_newline_ends_is_told_when_its_order_is_done(tmp_path):
    """Not only when the worker prints something else, which may be tomorrow."""
    with rig(tmp_path) as pool:
        pool.run("mutter", "a", "b")
        wait_until(lambda: len(pool.texts("handler.output")) == 2, "two lines")
        told = [fields for name, fields in pool.told if name == "handler.output"]
        assert [(fields["file"], fields["line"]) for fields in told] == [("a", "about a"), ("b", "about b")]


def test_output_of_quick_files_is_told_with_the_file_that_printed_it(tmp_path):
    with rig(tmp_path) as pool:
        pool.run("speak", *(f"{n}.csv" for n in range(45)))
        wait_until(lambda: len(pool.texts("handler.output")) == 90, "all lines")
        told = [fields for name, fields in pool.told if name == "handler.output"]
        assert [str(fields["line"]).rpartition(" ")[2] for fields in told] == [fields["file"] for fields in told]


def test_a_flood_without_a_line_end_is_bounded(tmp_path):
    with rig(tmp_path) as pool:
        assert endings(pool.run("flood", "a")) == [Ending.PROCESSED]
        wait_until(lambda: any("'after'" in text for text in pool.texts("handler.output")), "the line after the flood")
        assert max(map(len, pool.texts("handler.output"))) < 5000
        assert "bytes more" in pool.texts("handler.output")[0]


def test_broken_handlers_are_told_at_start_and_charge_nobody(tmp_path):
    made = Rig(tmp_path)
    setup = made.setup()
    setup.handlers["bad"] = type(setup.handlers["noop"])(python="no_such_module:f")
    made.pool._setup = setup
    try:
        broken = made.pool.start()
        assert set(broken) == {"bad"}
        assert "no_such_module" in broken["bad"]
        made._loop.start()
        assert [(r.ending, r.begun) for r in made.run("bad", "a")] == [(Ending.BROKEN, False)]
        assert [(r.ending, r.begun) for r in made.run("unheard_of", "a")] == [(Ending.BROKEN, False)]
        assert endings(made.run("noop", "a")) == [Ending.PROCESSED]
    finally:
        made.stop()
