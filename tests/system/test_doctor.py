"""doctor: the checker in an operator's hands."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from inboxd.model import new_id
from support.daemon import inboxd, inboxd_json, run_daemon
from support.disks import Room, Tmpfs
from support.load import files, mixture
from support.postgres import Postgres
from support.site import Site
from support.sound import assert_sound, wait_finished


def test_all_is_well_and_a_missing_folder_is_named(site: Site) -> None:
    with run_daemon(site.config):
        site.drop_all(files(10))
        wait_finished(site, 10)
        assert inboxd_json(site.config, "doctor")["problems"] == []
        (site.root() / "outbound").rmdir()
        answer = inboxd(site.config, "doctor")
        assert "outbound" in answer.stdout + answer.stderr


def test_work_in_progress_is_no_problem(site: Site) -> None:
    """Files are claimed, run, retried and delivered while it looks."""
    kinds = {"sleep-0_01": 0.8, "results": 0.1, "fail-1": 0.1}
    with run_daemon(site.config) as daemon:
        site.put(mixture(700, seed=3, kinds=kinds))
        looked = 0
        while site.count("inbound"):
            assert inboxd_json(site.config, "doctor", *(["--thorough"] if looked % 2 else []))["problems"] == []
            looked += 1
        assert looked
        wait_finished(site, 700)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)


def test_what_consumers_take_is_no_problem(site: Site) -> None:
    with run_daemon(site.config):
        site.drop_all(files(3))
        wait_finished(site, 3)
        (site.root() / "processed" / "ok-00001.dat").unlink()
        assert inboxd_json(site.config, "doctor", "--thorough")["problems"] == []


def test_what_lies_where_another_was_taken_is_no_problem(site: Site) -> None:
    """The next day's files have the same names, and other sizes and bytes."""
    with run_daemon(site.config):
        for content in (b"first day", b"the second day"):
            for taken in ("processed/ok-pay.dat", "errors/reject-pay.dat", "errors/reject-pay.dat.error.json"):
                (site.root() / taken).unlink(missing_ok=True)
            site.drop_all((name, content) for name in (b"ok-pay.dat", b"reject-pay.dat"))
            wait_finished(site, 2)
        for how in ((), ("--thorough",)):
            assert inboxd_json(site.config, "doctor", *how)["problems"] == []


def test_it_looks_and_repairs_while_the_daemon_is_stopped(site: Site) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "dispatch.recorded:kill"}, ready=False) as daemon:
        site.drop_all(files(3))
        assert daemon.wait() == -signal.SIGKILL
    (site.root() / "work" / "left-by-hand").write_bytes(b"x")
    (site.root() / "processed" / "put-here").write_bytes(b"y")
    look = inboxd(site.config, "doctor", "--thorough")
    assert look.returncode == 1
    assert "not running" in look.stderr
    assert "left-by-hand" in look.stdout
    assert "put-here" in look.stdout
    assert "--repair" in look.stdout
    repaired = inboxd(site.config, "doctor", "--repair", "--json")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert '"adopted": 1' in repaired.stdout
    assert not inboxd_json(site.config, "doctor")["problems"]


def test_a_file_whose_row_is_gone_is_shown_to_its_handler_as_one_that_may_have_run(site: Site) -> None:
    """Its name in work/ is one of ours, so a life that nobody remembers has claimed it."""
    with run_daemon(site.config) as daemon:
        assert daemon.stop() == 0
    (site.root() / "work" / f"{new_id()}.dat").write_bytes(b"x")
    (site.root() / "work" / "left-by-hand").write_bytes(b"y")
    with run_daemon(site.config):
        wait_finished(site, 2)
    assert sorted(line["attempt"] for line in site.witnessed("start")) == [1, 2]


def test_nothing_is_repaired_under_a_daemon(site: Site) -> None:
    with run_daemon(site.config):
        refused = inboxd(site.config, "doctor", "--repair")
        assert refused.returncode == 75
        assert "another inboxd" in refused.stderr


def test_a_damaged_ledger_is_named(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        site.drop_all(files(200))
        wait_finished(site, 200)
        assert daemon.stop() == 0
    ledger = site.state / "ledger.sqlite"
    with ledger.open("r+b") as stream:
        stream.seek(8192)
        stream.write(b"\xff" * 20_000)
    look = inboxd(site.config, "doctor")
    assert look.returncode == 1
    assert "Traceback" not in look.stderr
    assert "can't be read" in look.stdout or "I12" in look.stdout


def test_after_a_kill_it_says_what_is_in_progress(site: Site) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "decide.recorded:kill"}, ready=False) as daemon:
        site.drop_all(files(3))
        assert daemon.wait() == -signal.SIGKILL
    held = site.count("work")
    look = inboxd(site.config, "doctor")
    assert look.returncode == 0, look.stdout
    assert f"in progress: {held} file" in look.stdout
    assert "--repair" in look.stdout
    assert inboxd_json(site.config, "doctor")["in_progress"] == held


def test_a_missing_ledger_is_said_once(site: Site) -> None:
    with run_daemon(site.config, {"INBOXD_FAILPOINT": "dispatch.recorded:kill"}, ready=False) as daemon:
        site.put(files(50))
        assert daemon.wait() == -signal.SIGKILL
    for path in site.state.glob("ledger.sqlite*"):
        path.unlink()
    look = inboxd(site.config, "doctor", "--thorough")
    assert look.returncode == 1
    (line,) = [line for line in look.stdout.splitlines() if line.startswith("I")]
    assert "is missing or empty" in line
    assert "restore it from a backup" in line
    assert "--rebuild-ledger" in line


def test_a_ledger_that_is_missing_on_a_server_tells_no_password(site: Site, postgres: Postgres) -> None:
    database = postgres.create()
    site.write(ledger=postgres.url(database).replace("@", ":geheim@", 1))
    (site.state).mkdir()
    (site.state / "ledger.id").write_text("0123")
    look = inboxd(site.config, "doctor")
    assert look.returncode == 1
    assert "I12: the ledger in the database is missing or empty; restore it" in look.stdout
    assert "geheim" not in look.stdout + look.stderr


def test_a_repair_on_a_full_disk_is_refused_in_words(tmp_path: Path) -> None:
    with Tmpfs(tmp_path / "disk", "size=4m") as disk:
        site, room = Site(tmp_path / "site", home=disk.point), Room(disk.point)
        with run_daemon(site.config, {"INBOXD_FAILPOINT": "dispatch.recorded:kill"}, ready=False) as daemon:
            site.drop_all(files(30))
            assert daemon.wait() == -signal.SIGKILL
        room.fill()
        refused = inboxd(site.config, "doctor", "--repair")
        assert refused.returncode == 70
        assert "Traceback" not in refused.stderr
        assert "No space left on device" in refused.stderr
        assert inboxd(site.config, "doctor").returncode == 0
        room.free()
        assert inboxd(site.config, "doctor", "--repair").returncode == 0
        assert_sound(site)


def test_a_ledger_that_is_missing_is_told_by_all_that_read_it(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        assert daemon.stop() == 0
    ledger = site.state / "ledger.sqlite"
    ledger.unlink()
    for verb, code in ((("files",), 78), (("show", "0" * 32), 78), (("doctor",), 1)):
        done = inboxd(site.config, *verb)
        assert done.returncode == code
        assert f"the ledger {ledger} is missing" in done.stdout + done.stderr
        assert "inboxd doctor --rebuild-ledger" in done.stdout + done.stderr
    assert not ledger.exists()


@pytest.mark.parametrize("option", ["--repair", "--rebuild-ledger"])
def test_root_makes_nothing_that_the_daemon_could_not_read(site: Site, option: str) -> None:
    with run_daemon(site.config) as daemon:
        assert daemon.stop() == 0
    os.chown(site.state, 65534, -1)
    refused = inboxd(site.config, "doctor", option)
    assert refused.returncode > 1
    assert "belongs to the user" in refused.stderr
    assert "runuser -u nobody -- " in refused.stderr
    assert f"inboxd doctor {option}" in refused.stderr


def test_whoever_asks_need_not_have_the_credentials(site: Site, tmp_path: Path) -> None:
    """They are the service's alone; nothing that is looked at needs them."""
    (tmp_path / "warehouse").write_text("sqlite:///warehouse.db")
    site.write(databases={"warehouse": {"url": {"credential": "warehouse"}}})
    with run_daemon(site.config, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        assert inboxd_json(site.config, "doctor")["problems"] == []
        (site.root() / "work" / "left-by-hand").write_bytes(b"x")
        assert "left-by-hand" in inboxd(site.config, "doctor").stdout
