"""What inboxd refuses, it refuses at once, in words, and before it touches anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import inboxd, run_daemon
from support.limits import NO_STACK
from support.site import Site, entries_below
from support.sound import assert_sound, wait_finished


def _below(base: Path) -> list[str]:
    ours = {"daemon.log", "witness.py", "config.yaml", "witness.log"}
    return sorted(name for name in entries_below(base) if name not in ours and "__pycache__" not in name)


def test_a_second_daemon(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        second = inboxd(site.config, "run")
        assert second.returncode == 75
        assert str(daemon.pid) in second.stderr
        assert "Traceback" not in second.stderr
        site.drop("after.dat", b"x")
        wait_finished(site, 1)
        assert_sound(site, calm=True, daemon=daemon.pid)
        assert daemon.stop() == 0
    assert_sound(site, calm=True, finished=True)


def test_not_even_its_first_thread_can_be_started(site: Site) -> None:
    main = f"import sys, threading; threading.stack_size({NO_STACK}); from inboxd.cli import main; sys.exit(main())"
    answer = subprocess.run(
        [sys.executable, "-c", main, "run", "-c", str(site.config)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 70
    assert answer.stderr.startswith("inboxd: nothing can be logged: no thread can be started:"), answer.stderr
    assert not site.state.exists()


BAD = """\
state: state
colour: blue
workers:
  processes: none
  timeout: 10
inboxes:
  a:
    root: inboxes/a
    setle: renamed
    handler: {python: "witness:handle"}
  b:
    root: inboxes/b
    handler: {python: "witness:handle", command: [true]}
  a:
    root: inboxes/c
"""


def test_a_bad_configuration_is_refused_with_all_its_problems(site: Site) -> None:
    site.config.write_text(BAD)
    for verb in ("run", "check"):
        answer = inboxd(site.config, verb)
        told = answer.stderr + answer.stdout
        assert answer.returncode == 78, told
        for key in ("colour", "workers.processes", "workers.timeout", "setle", "inboxes.b.handler"):
            assert any(key in line and f"{site.config}:" in line for line in told.splitlines()), f"{key} in\n{told}"
        assert "Traceback" not in told
    assert _below(site.base) == []
    assert not site.state.exists()


def test_a_missing_configuration(site: Site) -> None:
    site.config.unlink()
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert str(site.config) in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_handler_that_does_not_exist(site: Site) -> None:
    site.inbox("main", handler={"python": "witness:nothing_of_that_name"})
    site.drop("waits.dat", b"x")
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert "nothing_of_that_name" in answer.stderr
    assert site.listed("inbound") == ["waits.dat"]


def test_a_handler_that_breaks_when_imported(site: Site) -> None:
    (site.base / "broken.py").write_text("import no_such_module_anywhere\n")
    site.inbox("main", handler={"python": "broken:handle"})
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert "no_such_module_anywhere" in answer.stderr
    assert "main" in answer.stderr


def test_a_handler_that_would_fail_for_every_file(site: Site) -> None:
    (site.base / "unfit.py").write_text("def handle():\n    ...\n")
    site.inbox("main", handler={"python": "unfit:handle"})
    for verb in ("check", "run"):
        answer = inboxd(site.config, verb)
        assert answer.returncode == 78, verb
        assert "inboxes.main.handler: 'unfit:handle' can't be called with one argument" in answer.stderr


def test_a_handler_that_looks_for_a_secret_in_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told beforehand is what a start would say: workers see no secrets."""
    monkeypatch.setenv("LAKE", "sqlite:///lake.db")
    monkeypatch.setenv("LAKE_PASSWORD", "x")
    for name, databases in [("LAKE", {"lake": {"url": {"env": "LAKE"}}}), ("LAKE_PASSWORD", {})]:
        (site.base / "needy.py").write_text(f"import os\n\n{name} = os.environ['{name}']\nhandle = print\n")
        site.write(databases=databases)
        site.inbox("main", handler={"python": "needy:handle"})
        for verb in ("check", "run"):
            answer = inboxd(site.config, verb)
            assert answer.returncode == 78, verb
            assert f"KeyError: '{name}'" in answer.stderr


def test_a_command_that_does_not_exist(site: Site) -> None:
    site.inbox("main", handler={"command": ["no-such-program-anywhere", "{path}"]})
    site.drop("waits.dat", b"x")
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert "no-such-program-anywhere" in answer.stderr
    assert site.listed("inbound") == ["waits.dat"]


def test_a_program_beside_the_configuration(site: Site) -> None:
    """Its path is relative to the configuration, wherever inboxd is started from."""
    program = site.base / "count.sh"
    program.write_text('#!/bin/sh\nwc -c < "$1"\n')
    program.chmod(0o755)
    site.inbox("main", handler={"command": ["./count.sh", "{path}"]})
    with run_daemon(site.config) as daemon:  # tests never run in the folder of a site
        site.drop("a.dat", b"12345")
        wait_finished(site, 1)
        assert daemon.stop() == 0
    assert site.listed("processed") == ["a.dat"]


def test_a_refused_start_raises_no_other_alarm(site: Site) -> None:
    site.inbox("main", handler={"command": ["no-such-program-anywhere", "{path}"]})
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert "killed" not in answer.stderr
    assert "started again" not in answer.stderr
    line = next(n for n, text in enumerate(site.config.read_text().splitlines(), 1) if "handler:" in text)
    assert f"config.yaml:{line}: inboxes.main.handler" in answer.stderr


def test_folders_that_serve_two_purposes(site: Site) -> None:
    site.inbox("main", processed="inboxes/main/inbound")
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78
    assert "inbound" in answer.stderr


def test_an_inbox_that_a_mount_brings_into_another(site: Site) -> None:
    """Its files would be taken out of its work/ by the other, while they run."""
    site.inbox("main", recursive=True)
    site.inbox("second")
    (site.root() / "inbound" / "deep").mkdir(parents=True)
    site.root("second").mkdir()
    mount = f"mount --bind {site.root()}/inbound/deep {site.root('second')}"
    under = ("unshare", "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh")
    with run_daemon(site.config, ready=False, under=under) as daemon:
        assert daemon.wait() == 78
        assert f"(inbound of inbox second) lies inside {site.root()}/inbound (inbound of inbox main)" in daemon.output()


def test_a_state_folder_open_to_others_is_closed_or_refused(site: Site) -> None:
    site.state.mkdir()
    site.state.chmod(0o777)
    with run_daemon(site.config) as daemon:
        assert site.state.stat().st_mode & 0o077 == 0
        assert daemon.stop() == 0


def test_a_damaged_ledger_is_refused_not_replaced(site: Site) -> None:
    site.drop("one.dat", b"x")
    with run_daemon(site.config) as daemon:
        wait_finished(site, 1)
        assert daemon.stop() == 0
    ledger = site.state / "ledger.sqlite"
    garbage = os.urandom(8192)
    ledger.write_bytes(garbage)
    answer = inboxd(site.config, "run")
    assert answer.returncode == 78, answer.stderr
    assert str(ledger) in answer.stderr or "ledger" in answer.stderr
    assert ledger.read_bytes() == garbage


def test_an_unreachable_notify_socket_is_no_reason_to_fail(site: Site) -> None:
    with run_daemon(site.config, {"NOTIFY_SOCKET": str(site.base / "nobody-there")}, ready=False) as daemon:
        daemon.wait_event("daemon.ready")
        assert daemon.stop() == 0


def test_workers_do_not_inherit_the_notify_socket(site: Site) -> None:
    with run_daemon(site.config, {"WATCHDOG_USEC": "60000000"}) as daemon:
        for pid in daemon.workers():
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert not [entry for entry in environment if entry.startswith((b"NOTIFY_SOCKET=", b"WATCHDOG_"))]


def test_the_control_socket_is_private(site: Site) -> None:
    with run_daemon(site.config):
        control = site.state / "control.sock"
        assert control.is_socket()
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(control))
            rude.sendall(b"\xff\x00 no JSON\n")
            assert b'"ok": false' in rude.recv(65536) or rude.recv(65536) == b""
        site.drop("after.dat", b"x")
        wait_finished(site, 1)


def test_nothing_is_written_beside_the_configuration(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bytecode either: a package's purge must find the folder as it was."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    before = {path.name for path in site.base.iterdir()}
    assert inboxd(site.config, "check").returncode == 0
    assert {path.name for path in site.base.iterdir()} == before | {"witness.log"}  # the handler's own
    with run_daemon(site.config):
        site.drop("a.dat", b"x")
        wait_finished(site, 1)
    assert not list(site.base.rglob("__pycache__"))
