"""`inboxd tune` as a user sees it: it tries, tells, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.daemon import AS_ANY_USER, WITH_US, inboxd, inboxd_anywhere, inboxd_json, run_daemon
from support.site import Site
from support.sound import wait_finished
from support.wait import wait_until

_QUICK = ("--files", "30", "--processes", "1", "--batch-sizes", "5", "--rounds", "1")


@pytest.fixture
def samples(tmp_path: Path, site: Site) -> Path:
    site.inbox("main", match=["*.dat"])
    folder = tmp_path / "samples"
    folder.mkdir()
    for name in ("ok-1.dat", "results-2.dat", ".hidden.dat", "other.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def _left(site: Site) -> set[Path]:
    return {path for path in site.base.rglob("*") if "inboxd-tune" in path.name}


def test_it_recommends_lines_of_the_configuration(site: Site, samples: Path) -> None:
    """Beside a daemon that goes on."""
    with run_daemon(site.config):
        done = inboxd(site.config, "tune", str(samples), *_QUICK)
        assert done.returncode == 0, done.stderr
        assert "2 of 2 trials, 30 files each" in done.stdout and "process (now)" in done.stdout
        assert "trial 2 of 2: processes" in done.stderr
        assert "workers:\n" in done.stdout or "nothing that was tried is better" in done.stdout
        site.drop("ok-1.dat", b"x")
        wait_finished(site, 1)
        names = {line["name"] for line in site.witnessed("start")}
    assert names >= {"ok-1-1.dat", "results-2-2.dat", "ok-1-29.dat"}
    assert site.listed("processed") == ["ok-1.dat"] and not site.listed("outbound")
    assert not _left(site)


def test_it_makes_nothing_that_a_daemon_would_find(site: Site, samples: Path) -> None:
    """Neither a state folder nor one of the inbox, where none has ever run."""
    before = sorted(path for path in site.base.rglob("*"))
    assert inboxd(site.config, "tune", str(samples), *_QUICK).returncode == 0
    after = sorted(path for path in site.base.rglob("*") if "__pycache__" not in path.parts)
    assert [path for path in after if path not in before] == [site.witness_log]


def test_another_user_is_refused(site: Site, samples: Path) -> None:
    """What its handler writes would be another's, and the daemon could not go on with it."""
    site.state.mkdir()
    os.chown(site.state, 12345, 12345)
    refused = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert refused.returncode == 78 and "belongs to the user" in refused.stderr


def test_all_that_was_tried_is_told_as_json(site: Site, samples: Path) -> None:
    answer = inboxd_json(site.config, "tune", str(samples), *_QUICK, "--durability", "both")
    assert {(one["processes"], one["batch_size"], one["durability"]) for one in answer["tried"]} == {
        (1, 5, "full"), (1, 5, "process"), (2, 20, "process"),
    }  # fmt: skip
    assert all(one["rate"] > 0 and one["memory"] > 1 << 20 and one["errors"] == 0 for one in answer["tried"])
    assert answer["recommended"]["durability"] == answer["present"]["durability"] == "process"
    assert answer["gain"] > 0


def test_errors_are_told(site: Site, samples: Path) -> None:
    (samples / "fail-1.dat").write_bytes(b"x")
    done = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert "some files ended in errors/" in done.stdout
    assert not site.listed("errors")


def test_nothing_is_recommended_by_errors_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "fail-1.dat").write_bytes(b"x")
    done = inboxd(site.config, "tune", str(tmp_path / "bad"), *_QUICK, "--json")
    answer = json.loads(done.stdout)
    assert (answer["recommended"], answer["gain"]) == (None, None)
    assert {one["errors"] for one in answer["tried"]} == {30}


def test_what_makes_no_sense_is_refused(site: Site, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    site.inbox("other")
    for words, told in (
        ((str(samples),), "there are several inboxes (say `--inbox` with one of main, other)"),
        ((str(samples), "--inbox", "none"), "there is no inbox none"),
        ((str(tmp_path / "empty"), "--inbox", "main"), "holds no file that matches *.dat"),
        ((str(tmp_path / "gone"), "--inbox", "main"), "No such file or directory"),
        ((str(site.config), "--inbox", "main"), "Not a directory (name a folder with some files"),
    ):
        refused = inboxd(site.config, "tune", *words)
        assert refused.returncode == 64 and told in refused.stderr
    assert inboxd(site.config, "tune", str(samples), "--batch-sizes", "1,x").returncode == 64
    for option, told in (
        ("--batch-sizes", "no configuration takes 10001 as `batch_size` (10000 at most)"),
        ("--processes", "no configuration takes 10001 as `processes` (1024 at most)"),
    ):
        refused = inboxd(site.config, "tune", str(samples), "--inbox", "main", "--files", "1", option, "5,10001")
        assert (refused.returncode, refused.stdout) == (64, "")
        assert told in refused.stderr
    assert not _left(site)


def test_a_sample_with_the_longest_name(site: Site, samples: Path) -> None:
    (samples / f"ok-{'ü' * 124}.dat").write_bytes(b"x")
    (samples / f"ok-2.dat.{'x' * 242}.dat").write_bytes(b"x")
    done = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert done.returncode == 0, done.stderr


def test_a_sample_that_can_not_be_read_is_named(site: Site, samples: Path) -> None:
    (samples / "ok-1.dat").chmod(0)
    words = ("tune", "-c", str(site.config), str(samples), *_QUICK)
    refused = inboxd_anywhere(site.base, *words, under=AS_ANY_USER)
    assert refused.returncode == 70
    (told,) = refused.stderr.splitlines()
    assert told == f"inboxd: the samples can't be copied: {samples}/ok-1.dat: Permission denied"


def test_a_sample_that_goes_meanwhile_is_named(site: Site, samples: Path) -> None:
    site.inbox("main", handler={"command": ["rm", "-f", f"{samples}/ok-1.dat"]})
    refused = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert refused.returncode == 70
    assert refused.stderr.endswith(
        f"inboxd: the samples can't be copied: {samples}/ok-1.dat: No such file or directory\n"
    )
    assert not _left(site)


def test_a_handler_that_can_not_be_loaded_is_told(site: Site, samples: Path) -> None:
    site.inbox("main", handler={"python": "nowhere:handle"})
    refused = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert refused.returncode == 78
    assert "the daemon of a trial does not start" in refused.stderr and "nowhere" in refused.stderr
    assert not _left(site)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_one_leaves_nothing(site: Site, samples: Path, number: signal.Signals, code: int) -> None:
    command = [*WITH_US, sys.executable, "-m", "inboxd", "tune", "-c", str(site.config), str(samples), *_QUICK]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    wait_until(lambda: site.witness_log.exists() and site.witnessed("start"), "the first run", 30)
    process.send_signal(number)
    assert process.wait(30) == code
    process.communicate()
    assert not _left(site)


def test_a_handler_that_can_not_be_run_is_told(site: Site, samples: Path) -> None:
    """Its inbox is paused then, as a daemon would have it, and no trial would come to an end."""
    site.inbox("main", handler={"command": ["/bin/sh", "-c", "exit 127", "sh", "{path}"]})
    done = inboxd(site.config, "tune", str(samples), *_QUICK)
    assert done.returncode == 78
    assert "a trial came no further than 0 of 30 files: its handler can't be run" in done.stderr
    assert not _left(site)


def test_a_handler_that_kills_its_workers_is_told(site: Site, tmp_path: Path) -> None:
    """A worker that dies again and again is started ever later: a trial would take hours."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "kill-1.dat").write_bytes(b"x")
    words = ("--files", "200", "--processes", "4", "--batch-sizes", "5", "--rounds", "1")
    done = inboxd(site.config, "tune", str(tmp_path / "bad"), *words, timeout=30)
    assert done.returncode == 78
    assert "a trial is given up: each of its first 1" in done.stderr
    assert "died: killed by signal 9" in done.stderr and "try `inboxd run` with one of them" in done.stderr
    assert not _left(site)


_WITH_TWO_IT_DIES = """
import os, signal, psutil

def handle(file):
    trial = psutil.Process(os.getppid()).cmdline()
    if "2" in trial:  # so many processes
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("works", [True, False])
def test_a_present_setting_that_kills_its_workers_is_told(site: Site, samples: Path, works: bool) -> None:
    """As for want of memory. What is recommended is the best of those that work."""
    handler = _WITH_TWO_IT_DIES if works else _WITH_TWO_IT_DIES + "    raise ValueError\n"
    (site.base / "dying.py").write_text(handler)
    site.inbox("main", handler={"python": "dying:handle"})
    words = ("--files", "12", "--processes", "1", "--batch-sizes", "5", "--rounds", "1")
    done = inboxd(site.config, "tune", str(samples), *words)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials, 12 files each" in done.stdout
    assert "trial 2 of 2: processes 2, batch_size 20, durability process: given up" in done.stderr
    if works:
        assert "with what the configuration says workers are killed" in done.stdout
        assert "recommended:\ndurability: process\nworkers:\n  processes: 1\n  batch_size: 5\n" in done.stdout
    else:
        assert "nothing is recommended: workers are killed, " in done.stdout and "or all files ended" in done.stdout
    answer = inboxd_json(site.config, "tune", str(samples), *words)
    assert answer["gain"] is None
    assert (answer["recommended"] or {}).get("processes") == (1 if works else None)
    assert [one["rate"] for one in answer["tried"] if one["processes"] == 2] == [0.0]


def test_what_a_killed_one_has_left_the_next_one_removes(site: Site, samples: Path) -> None:
    many = ("--files", "5000", *_QUICK[2:])
    words = [sys.executable, "-m", "inboxd", "tune", "-c", str(site.config), str(samples), *many]
    with subprocess.Popen([*WITH_US, *words], stdout=subprocess.DEVNULL) as tune:
        wait_until(lambda: site.witness_log.exists() and site.witnessed("start"), "the first run", 30)
        (daemon,) = psutil.Process(tune.pid).children()
        tune.kill()
    psutil.wait_procs([daemon], 30)
    assert not daemon.is_running()
    left = _left(site)
    assert left
    for folder in left:
        os.utime(folder, (0, 0))  # time passes
    assert inboxd(site.config, "tune", str(samples), *_QUICK).returncode == 0
    assert not _left(site)
