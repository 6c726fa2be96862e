"""SIGHUP: all or nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from support.daemon import AS_ANY_USER, inboxd, inboxd_anywhere, inboxd_json, run_daemon
from support.faults import fault
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def test_a_new_inbox(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(files(20))
        site.inbox("second")
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        site.drop_all(files(20, seed=2), inbox="second")
        wait_finished(site, 20, "second")
        wait_finished(site, 20, "main")
    assert_sound(site, calm=True, finished=True)


def test_files_of_an_inbox_that_has_left_are_explained(site: Site) -> None:
    site.inbox("left", layout="%Y", recursive=True)
    with run_daemon(site.config) as daemon:
        site.drop("ok-1.dat", b"1", inbox="left")
        site.drop("ok-2.dat", b"2", inbox="left", folder="deep")
        wait_finished(site, 2, "left")
        places = {path.name: path for path in (site.root("left") / "processed").rglob("*.dat")}
        del site.settings["inboxes"]["left"]
        site.write()
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        inbound = site.root("left") / "inbound"
        words = ["ok-1.dat", "deep/ok-2.dat", *map(str, places.values()), str(inbound / "ok-1.dat")]
        for word in words:
            answer = inboxd(site.config, "explain", "--json", word)
            told = json.loads(answer.stdout) if not answer.returncode else {"why": [answer.stderr], "file": None}
            assert "inbox left, which is not in the configuration any more" in told["why"][0], word
            assert told["file"]["name"] == os.path.basename(word)
        stranger = site.base / "ok-1.dat"
        stranger.write_bytes(b"another")
        assert "is no file of an inbox" in inboxd(site.config, "explain", str(stranger)).stderr


def test_one_during_the_start_is_done_after_it(site: Site) -> None:
    site.state.mkdir()
    with (site.state / "generation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with run_daemon(site.config, ready=False) as daemon:
            daemon.wait_event("daemon.waiting")  # for the workers of an earlier one
            site.inbox("second")
            daemon.signal(signal.SIGHUP)
            fcntl.flock(lock, fcntl.LOCK_UN)
            daemon.wait_event("daemon.reloaded")
            site.drop_all(files(20), inbox="second")
            wait_finished(site, 20, "second")
            ignored = [_ignores(worker, signal.SIGHUP) for worker in daemon.ready_workers()]
            assert ignored and not any(ignored)
    assert_sound(site, calm=True, finished=True)


def _ignores(pid: int, number: signal.Signals) -> bool:
    (mask,) = (line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigIgn" in line)
    return bool(int(mask, 16) >> (number - 1) & 1)


def _threads(site: Site) -> int:
    return int(inboxd_json(site.config, "status")["resources"]["threads"])


def test_many_in_a_row_have_one_thread_and_the_last_one_counts(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        before = _threads(site)
        most = 0
        for _ in range(100):
            daemon.signal(signal.SIGHUP)
            most = max(most, _threads(site))
        site.inbox("second")
        daemon.signal(signal.SIGHUP)
        site.drop_all(files(20), inbox="second")
        wait_finished(site, 20, "second")
        assert most <= before + 2, "and those that answer us"
        assert len(daemon.events("daemon.reloaded")) < 50
    assert_sound(site, calm=True, finished=True)


@fault(
    "Process death",
    "a reload of a bad configuration",
    how="unknown keys, wrong types, broken handlers",
    shows="refused whole, the old one goes on",
)
def test_a_bad_file_changes_nothing_and_says_why(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        good = site.config.read_text()
        site.config.write_text(good + "colour: blue\nshape: round\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reload-refused")
        refused = wait_until(lambda: daemon.events("daemon.reload-refused")[1:2], "a record for each problem")
        assert "colour" in daemon.events("daemon.reload-refused")[0]["error"]
        assert "shape" in refused[0]["error"] and "colour" not in refused[0]["error"]
        by_verb = inboxd(site.config, "reload")
        assert by_verb.returncode == 78
        assert "colour" in by_verb.stderr
        site.drop_all(files(20))
        wait_finished(site, 20)
        assert daemon.stop() == 0
    site.config.write_text(good)
    assert_sound(site, calm=True, finished=True)


def test_a_file_that_it_may_not_get_to_is_refused_with_its_line(site: Site) -> None:
    """As everything below /home is, under the unit (ProtectHome=)."""
    closed = site.base / "closed"
    closed.mkdir()
    (closed / "known_hosts").touch()
    closed.chmod(0)
    with run_daemon(site.config, under=AS_ANY_USER) as daemon:
        server = {"host": "h", "user": "u", "password": "p", "known_hosts": "closed/known_hosts"}
        site.inbox("main", sources={"bank": {"sftp": server}})
        told = f"{closed}/known_hosts can't be read: Permission denied; name a file that the daemon's user can get to"
        for verb in ("check", "reload"):
            refused = inboxd_anywhere(site.base, verb, under=AS_ANY_USER)
            assert (refused.returncode, refused.stderr.count(told)) == (78, 1), refused.stderr
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: daemon.events("daemon.reload-refused")[1:], "the second refusal")
        assert all(told in event["error"] for event in daemon.events("daemon.reload-refused"))


def test_a_fault_in_a_reload_is_told_and_changes_nothing(site: Site) -> None:
    """A library that is broken on this machine, and is asked for the first time: no ImportError, anything it raises."""
    library = site.base / "library"
    library.mkdir()
    (library / "cronsim.py").write_text('raise RuntimeError("out of order")\n')
    with run_daemon(site.config, {"PYTHONPATH": str(library)}) as daemon:
        source = {"ftp": {"host": "h"}, "cron": "* * * * *", "zone": "UTC"}
        site.inbox("main", sources={"bank": source})
        daemon.signal(signal.SIGHUP)
        refused = daemon.wait_event("daemon.reload-refused")
        assert refused["error"] == "a fault of inboxd: RuntimeError('out of order')"
        assert "cronsim" in refused["detail"] and "Exception in thread" not in daemon.output()
        site.drop("after.dat", b"x")
        wait_finished(site, 1)


def test_an_inbox_that_a_dead_daemon_was_at_comes_back_by_a_restart(site: Site) -> None:
    """Its file was running; nothing but a start takes it up, and nobody would have said so."""
    site.inbox("other")
    with run_daemon(site.config) as daemon:
        site.drop("sleep-2-x.dat", b"x", inbox="other")
        wait_until(lambda: site.witnessed("start"), "its run")
        daemon.kill()
    both = dict(site.settings["inboxes"])
    site.write(inboxes={"main": both["main"]})
    with run_daemon(site.config) as daemon:
        assert "I2: inbox other, with 1 unfinished file, is not in the" in inboxd(site.config, "doctor").stdout
        site.write(inboxes=both)
        refused = inboxd(site.config, "reload")
        assert refused.returncode == 78
        assert "inboxes.other: a daemon that died has left a file of it unfinished" in refused.stderr
        assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.listed("processed", inbox="other"), "its success")
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


def test_a_broken_handler_is_refused(site: Site) -> None:
    (site.base / "unfit.py").write_text("def handle(file):\n    yield\n")
    with run_daemon(site.config) as daemon:
        for function, words in (("witness:not_there", "not_there"), ("unfit:handle", "is a generator")):
            site.inbox("second", handler={"python": function})
            answer = inboxd(site.config, "reload")
            assert answer.returncode == 78
            assert words in answer.stderr
        site.drop_all(files(20))
        wait_finished(site, 20)
        assert not (site.root("second") / "processed").exists() or site.count("processed", "second") == 0
        assert daemon.stop() == 0


@fault(
    "Process death",
    "a reload with files in flight",
    how="rules changed, removed and moved",
    shows="what is in flight ends under its old rules",
)
def test_a_changed_inbox_drains_under_its_old_rules(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.put((f"sleep-0_01-{number:03d}.dat".encode(), b"%d" % number) for number in range(200))
        wait_until(lambda: site.witnessed("start"), "a start")
        site.inbox("main", layout="new")
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        site.drop("after.dat", b"x")
        wait_finished(site, 201)
    assert "new/after.dat" in site.listed("processed")
    assert_sound(site, calm=True, finished=True)


def test_an_inbox_goes_before_its_reload_takes_effect(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop("sleep-2-x.dat", b"x")
        wait_until(lambda: site.witnessed("start"), "a start")
        site.inbox("second")
        site.inbox("main", layout="new")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: daemon.notifications.lines.count("READY=1") == 2, "its being read")
        (site.root("second") / "inbound").rmdir()
        daemon.wait_event("daemon.reloaded")
        daemon.wait_event("inbox.away", inbox="second")
        site.drop("back.dat", b"x", inbox="second")
        wait_finished(site, 1, "second")
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_a_removed_inbox_is_left_alone(site: Site) -> None:
    site.inbox("second")
    with run_daemon(site.config) as daemon:
        site.drop_all(files(10), inbox="second")
        wait_finished(site, 10, "second")
        del site.settings["inboxes"]["second"]
        site.write()
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        (site.root("second") / "inbound" / "late.dat").write_bytes(b"late")
        site.drop_all(files(10, seed=2))
        wait_finished(site, 10)
        assert site.listed("inbound", "second") == ["late.dat"]
        assert daemon.stop() == 0


def test_a_new_inbox_where_a_link_leads(site: Site) -> None:
    """The first time, which makes its folders last."""
    site.write(durability="full")
    (site.base / "disk").mkdir()
    (site.base / "inboxes").mkdir(exist_ok=True)
    site.root("second").symlink_to(site.base / "disk")
    with run_daemon(site.config):
        site.inbox("second")
        answer = inboxd(site.config, "reload")
        assert answer.returncode == 0, answer.stderr
        site.drop("a.dat", b"x", inbox="second")
        wait_finished(site, 1, "second")


def test_what_a_reload_waits_for_is_told(site: Site) -> None:
    """Until then nothing of it is in force, and nobody has to guess why."""
    site.inbox("other")
    with run_daemon(site.config) as daemon:
        site.drop("sleep-4-a.dat", b"a")
        wait_until(lambda: site.witnessed("start"), "its run")
        site.inbox("main", order="name")
        site.inbox("fresh")
        answer = inboxd(site.config, "reload")
        assert "in force when these inboxes have finished what they have: main" in answer.stdout
        assert daemon.wait_event("daemon.reload-waits")["inboxes"] == "main"
        rows = {row["inbox"]: row["condition"] for row in inboxd_json(site.config, "status")["inboxes"]}
        assert rows == {"main": "drains for a reload", "other": "events"}
        late = site.drop("late.dat", b"b")
        why = inboxd_json(site.config, "explain", str(site.root() / "inbound" / os.fsdecode(late.name)))["why"]
        assert any("a reload changes it when it has finished what it has" in reason for reason in why), why
        daemon.wait_event("daemon.reloaded")
        assert inboxd_json(site.config, "reload")["waits_for"] == []
        wait_finished(site, 2)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_a_fault_of_a_disk_refuses_a_reload(site: Site) -> None:
    """In words, also where nobody waits for an answer; and the next one is heard."""
    with run_daemon(site.config) as daemon:
        note, aside = site.state / "work-folders.json", site.state / "aside"
        note.rename(aside)
        note.mkdir()
        daemon.signal(signal.SIGHUP)
        refused = daemon.wait_event("daemon.reload-refused")
        assert f"{note}: Is a directory" in refused["message"]
        answer = inboxd(site.config, "reload")
        assert answer.returncode == 70
        assert f"{note}: Is a directory" in answer.stderr
        assert "Traceback" not in daemon.output()
        note.rmdir()
        aside.rename(note)
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("daemon.reloaded")
        assert daemon.stop() == 0


def test_more_workers(site: Site) -> None:
    site.workers(processes=1)
    with run_daemon(site.config) as daemon:
        site.workers(processes=3)
        assert inboxd(site.config, "reload").returncode == 0
        wait_until(lambda: len(daemon.workers()) == 3, "three workers")
        site.drop_all(files(30))
        wait_finished(site, 30)
    assert_sound(site, calm=True, finished=True)


def test_what_cannot_change_is_refused(site: Site) -> None:
    with run_daemon(site.config):
        site.write(durability="full")
        answer = inboxd(site.config, "reload")
        assert answer.returncode == 78
        assert "durability" in answer.stderr


def test_changed_code_is_loaded(site: Site) -> None:
    """The configuration is the same, the handler's module is not."""
    code = site.base / "told.py"
    code.write_text("def handle(file):\n    return {'version': 1}\n")
    site.inbox("main", handler={"python": "told:handle"})
    with run_daemon(site.config) as daemon:
        site.drop("a.dat", b"a")
        wait_finished(site, 1)
        code.write_text("def handle(file):\n    return {'version': 'two'}\n")
        answer = inboxd(site.config, "reload")
        assert answer.returncode == 0
        assert "anew" in answer.stdout
        for number in range(50):
            site.drop(f"b-{number}.dat", b"b")
        wait_finished(site, 51)
        wait_until(lambda: "two" in str(_last_result(site)), "the new code's result")
        wait_until(lambda: len(daemon.events("child.ready")) == 4, "the other worker, which must have loaded it, too")
        code.write_text("def handle(file:\n")
        assert inboxd(site.config, "reload").returncode == 78
        site.drop("c.dat", b"c")
        wait_until(lambda: "c.dat" in site.listed("processed"), "the next file")
        assert "two" in str(_last_result(site))


def _last_result(site: Site) -> object:
    before = site.finished()
    site.drop("again.dat", b"again")
    wait_until(lambda: site.finished() > before, "one more file")
    return inboxd_json(site.config, "files", "--limit", "1")["files"][0]["result"]


VERSIONED = """
import os, time

VERSION = {version!r}

def handle(file):
    go = os.path.join(os.path.dirname(__file__), "go")
    while file.name.startswith("wait") and not os.path.exists(go):
        time.sleep(0.005)
    return {{"version": VERSION}}
"""


def _results(site: Site) -> dict[str, str]:
    """What the handler returned, by the names of the files; only of those that have come to an end."""
    rows = inboxd_json(site.config, "files", "--limit", "1000")["files"]
    return {row["name"]: row["result"]["version"] for row in rows if row["result"]}


def test_no_file_that_comes_after_a_reload_meets_the_old_code(site: Site) -> None:
    """Whatever the workers were at, and however soon it comes."""
    site.workers(processes=3, batch_size=3)
    code = site.base / "told.py"
    wanted: dict[str, str] = {}
    code.write_text(VERSIONED.format(version=""))
    site.inbox("main", handler={"python": "told:handle"})
    with run_daemon(site.config) as daemon:
        for round_ in range(1, 11):
            version = "v" * round_  # of another length: the compiled module is known by its time and size
            site.drop_all((b"before-%d-%d" % (round_, number), b"") for number in range(round_ * 3))
            code.write_text(VERSIONED.format(version=version))
            _reload(site)
            for number in range(20):
                site.drop(f"after-{round_}-{number}")
                wanted[f"after-{round_}-{number}"] = version
            if round_ % 2:
                wait_finished(site, len(site.manifest))
        wait_finished(site, len(site.manifest))
        results = _results(site)
        assert not {name: results[name] for name, least in wanted.items() if results[name] < least}
        assert not daemon.events("child.died")
    assert_sound(site, calm=True, finished=True)


def _reload(site: Site) -> None:
    """As the verb does, without the time that a process takes to end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.path.relpath(site.state / "control.sock"))
        connection.sendall(b'{"verb": "reload", "args": {}}\n')
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["ok"], answer


def test_files_in_progress_at_a_reload_finish_with_the_old_code(site: Site) -> None:
    """And nothing that comes meanwhile waits for them."""
    code = site.base / "told.py"
    code.write_text(VERSIONED.format(version="old"))
    site.inbox("main", handler={"python": "told:handle"})
    with run_daemon(site.config):
        site.drop("wait")
        wait_until(lambda: inboxd_json(site.config, "files", "--state", "running")["files"], "a run")
        code.write_text(VERSIONED.format(version="newer"))
        assert inboxd(site.config, "reload").returncode == 0
        names = [f"after-{number}" for number in range(30)]
        for name in names:
            site.drop(name)
        wait_finished(site, len(names))
        assert _results(site) == dict.fromkeys(names, "newer")
        (site.base / "go").touch()
        wait_finished(site, len(names) + 1)
        assert _results(site)["wait"] == "old"
        (waited,) = [row for row in inboxd_json(site.config, "files")["files"] if row["name"] == "wait"]
        assert waited["attempts"] == 1
    assert_sound(site, calm=True, finished=True)


_TELLS_LAKE = """
import os

AT_IMPORT = os.environ.get("LAKE")

def handle(file):
    return {"lake": AT_IMPORT or os.environ.get("LAKE")}
"""
_NEEDS_LAKE = "import os\n\nLAKE = os.environ['LAKE']\n\ndef handle(file):\n    return None\n"


def test_a_secret_that_a_reload_brings_is_kept_from_workers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is from those of a daemon that has started with it."""
    monkeypatch.setenv("LAKE", "sqlite:///lake.db")
    (site.base / "told.py").write_text(_TELLS_LAKE)
    site.inbox("main", handler={"python": "told:handle"})
    with run_daemon(site.config) as daemon:
        assert _last_result(site) == {"lake": "sqlite:///lake.db"}
        site.write(databases={"lake": {"url": {"env": "LAKE"}}})
        assert inboxd(site.config, "reload").returncode == 0
        assert _last_result(site) == {"lake": None}
        assert daemon.stop() == 0
    with run_daemon(site.config):
        assert _last_result(site) == {"lake": None}


def test_a_handler_that_needs_what_becomes_a_secret_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE", "sqlite:///lake.db")
    (site.base / "needy.py").write_text(_NEEDS_LAKE)
    site.inbox("main", handler={"python": "needy:handle"})
    with run_daemon(site.config):
        site.write(databases={"lake": {"url": {"env": "LAKE"}}})
        refused = inboxd(site.config, "reload")
        assert refused.returncode == 78
        assert "inboxes.main.handler" in refused.stderr and "KeyError: 'LAKE'" in refused.stderr
        site.drop("a.dat", b"x")
        wait_finished(site, 1)


def test_a_reload_without_changes(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert inboxd(site.config, "reload").returncode == 0
        site.drop_all(files(10))
        wait_finished(site, 10)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_a_work_folder_does_not_move_under_its_files(site: Site) -> None:
    """Refused while it holds some, by a reload and by a start; moved with them, they are found."""
    site.inbox("main", retry={"first": "1h", "longest": "1h"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-x.dat", b"waits")
        daemon.wait_event("file.waiting")
        site.inbox("main", root="inboxes/moved", retry={"first": "10ms", "longest": "10ms"})
        answer = inboxd(site.config, "reload")
        assert answer.returncode != 0
        assert "files are held in" in answer.stderr
        assert daemon.stop() == 0
    with run_daemon(site.config, ready=False) as daemon:
        assert daemon.wait() != 0
        assert "files are held in" in daemon.output()
    shutil.rmtree(site.base / "inboxes" / "moved" / "work")
    (site.base / "inboxes" / "main" / "work").rename(site.base / "inboxes" / "moved" / "work")
    with run_daemon(site.config):
        held = inboxd_json(site.config, "files")["files"]
        assert [(row["name"], row["state"]) for row in held] == [("fail-1-x.dat", "WAITING")]


def _rename(site: Site, old: str, new: str) -> None:
    """The inbox keeps its folders."""
    inbox = site.settings["inboxes"].pop(old)
    site.write(inboxes={**site.settings["inboxes"], new: inbox})


def test_an_inbox_keeps_its_name_while_it_holds_files(site: Site) -> None:
    """By another one they would be run once more, under ids that no receipt knows."""
    (site.base / "told.py").write_text(VERSIONED.format(version=""))
    site.inbox("main", handler={"python": "told:handle"})
    with run_daemon(site.config) as daemon:
        site.drop("wait.dat", b"x")
        (held,) = wait_until(lambda: inboxd_json(site.config, "files", "--state", "running")["files"], "a run")
        _rename(site, "main", "other")
        refused = inboxd(site.config, "reload")
        assert refused.returncode == 78
        assert f"which the configuration has no longer, holds a file in {site.root()}/work" in refused.stderr
        assert "work of inbox other now" in refused.stderr
        daemon.children()
        daemon.kill()
        daemon.end_family()
    with run_daemon(site.config, ready=False) as daemon:
        assert daemon.wait() == 78
        assert "call it main until" in daemon.output()
    (site.base / "go").touch()
    _rename(site, "other", "main")
    with run_daemon(site.config):
        wait_finished(site, 1)
        _rename(site, "main", "other")
        assert inboxd(site.config, "reload").returncode == 0
        site.drop("after.dat", b"x")
        wait_finished(site, 2)
        after, before = inboxd_json(site.config, "files")["files"]
        assert (before["id"], before["inbox"]) == (held["id"], "main")
        assert (after["name"], after["inbox"]) == ("after.dat", "other")


def test_a_file_that_another_inbox_holds_is_not_adopted(site: Site) -> None:
    """Where nobody knows any more whose work/ it was, its row still does."""
    site.inbox("main", retry={"first": "1h", "longest": "1h"})
    with run_daemon(site.config) as daemon:
        site.drop("fail-1-x.dat", b"waits")
        daemon.wait_event("file.waiting")
        assert daemon.stop() == 0
    (site.state / "work-folders.json").unlink()
    held = site.listed("work")
    _rename(site, "main", "other")
    with run_daemon(site.config) as daemon:
        assert "is of inbox main" in daemon.wait_event("file.left", inbox="other", file=held[0])["message"]
        assert not daemon.events("file.adopted")
        assert daemon.stop() == 0
    assert site.listed("work") == held
    (site.state / "work-folders.json").unlink()
    _rename(site, "other", "main")
    with run_daemon(site.config) as daemon:
        (row,) = inboxd_json(site.config, "files")["files"]
        assert (row["id"], row["inbox"]) == (held[0][:32], "main")
        assert daemon.stop() == 0


def test_an_idle_inbox_may_move(site: Site) -> None:
    with run_daemon(site.config):
        site.drop_all(files(5))
        wait_finished(site, 5)
        site.inbox("main", root="inboxes/moved")
        assert inboxd(site.config, "reload").returncode == 0
        moved = site.base / "inboxes" / "moved"
        wait_until((moved / "inbound").is_dir, "its folders")
        (moved / "inbound" / "late.dat").write_bytes(b"x")
        wait_until((moved / "processed" / "late.dat").exists, "a file in its new place")


_NAMES_NO_DATABASE = """
def handle(file):
    with file.transaction("werehouse"):
        pass
"""


def test_a_handler_that_could_not_be_run_is_mended_by_a_reload(site: Site) -> None:
    """No worker with the old code gets the file again; what an operator has paused stays so, also beyond a restart."""
    handlers = site.base / "mended.py"
    handlers.write_text(_NAMES_NO_DATABASE)
    site.inbox("main", handler={"python": "mended:handle"})
    site.inbox("other")
    with run_daemon(site.config) as daemon:
        site.drop("a.dat", b"x")
        paused = daemon.wait_event("inbox.paused", inbox="main")
        assert "werehouse" in paused["message"] and "`inboxd reload`" in paused["message"]
        assert inboxd(site.config, "pause", "other").returncode == 0
        handlers.write_text("def handle(file):\n    return None\n")
        assert inboxd(site.config, "reload").returncode == 0
        wait_until(lambda: site.listed("processed") == ["a.dat"], "its end, without `resume`")
        assert len(daemon.events("inbox.paused", inbox="main")) == 1
        daemon.kill()
    with run_daemon(site.config):
        inboxes = inboxd_json(site.config, "status")["inboxes"]
        assert {inbox["inbox"]: bool(inbox["paused"]) for inbox in inboxes} == {"main": False, "other": True}


def test_a_file_that_is_no_yaml_is_refused_by_the_daemon_which_still_answers(site: Site) -> None:
    """Whoever asks finds the daemon by what can be read of the file; its journal says why nothing has changed."""
    with run_daemon(site.config) as daemon:
        good = site.config.read_text()
        site.config.write_text(good + "inboxes: {broken: [\n")
        by_verb = inboxd(site.config, "reload")
        assert by_verb.returncode == 78
        refused = daemon.wait_event("daemon.reload-refused")
        assert refused["error"] in by_verb.stderr
        assert inboxd_json(site.config, "status")["state"] == "RUNNING"
        assert inboxd(site.config, "files").returncode == 0
        site.config.write_text(good.replace("state: state", "state: [") + "inboxes: {broken: [\n")
        lost = inboxd(site.config, "status")
        assert lost.returncode == 78
        assert "--state-dir" in lost.stderr
        assert inboxd(site.config, "status", "--state-dir", str(site.state)).returncode == 0
