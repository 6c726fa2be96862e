"""The package as an operator meets it: installed on a booted machine, started by systemd, asked through journalctl."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.faults import fault
from support.machine import Machine
from support.needs import unmet
from support.service import CONFIG, UNIT, count, drop, events, override, wait_count
from support.wait import wait_until

_SECOND = "inboxd@two.service"


def test_a_thousand_files_of_another_user(service: Machine) -> None:
    drop(service, *(f"ok-{number}" for number in range(1000)))
    wait_count(service, "processed", 1000)
    assert count(service, "inbound") == 0 and service.shell("find /srv/inboxd/example/work -type f").stdout == ""
    told = wait_until(lambda: _all_told(service, 1000), "a word of each")  # files may wait to share their line
    assert all(one["_SYSTEMD_UNIT"] == UNIT and one["INBOXD_INBOX"] == "example" for one in told)


def _all_told(service: Machine, number: int) -> list[dict[str, Any]]:
    told = events(service, "file.processed") + events(service, "files.processed")
    return told if sum(int(one.get("INBOXD_COUNT", "1")) for one in told) == number else []


def test_one_files_story_by_its_id(service: Machine) -> None:
    drop(service, "fail-1")
    wait_count(service, "errors", 2)
    (error,) = wait_until(lambda: events(service, "file.error"), "the event")
    assert error["PRIORITY"] == "3"
    assert error["INBOXD_OUTCOME"] == "error"
    assert error["INBOXD_FILE"] == "fail-1"
    assert error["INBOXD_ATTEMPT"] == "2"
    story = service.journal(f"INBOXD_FILE_ID={error['INBOXD_FILE_ID']}")
    assert [one["INBOXD_EVENT"] for one in story] == ["file.waiting", "file.error"]
    assert "ValueError: broken\n" in story[0]["INBOXD_DETAIL"]
    assert all(len(one["MESSAGE_ID"]) == 32 for one in story)
    explained = service.run("journalctl", "-x", "--no-pager", f"INBOXD_FILE_ID={error['INBOXD_FILE_ID']}").stdout
    assert "inboxd retry ID" in explained


def test_what_a_handler_prints_bears_its_file(service: Machine) -> None:
    drop(service, "ok-1")
    (line,) = wait_until(lambda: events(service, "handler.output"), "the line")
    assert line["INBOXD_LINE"] == "at ok-1"
    assert line["INBOXD_FILE_ID"]
    assert int(line["_PID"]) == service.main_pid(UNIT)


@fault(
    "Process death",
    "daemon and workers are killed under systemd",
    how="SIGKILL, in a booted machine",
    shows="systemd starts it again; nothing lost",
)
def test_daemon_and_workers_are_killed(service: Machine) -> None:
    drop(service, *(f"ok-{number}" for number in range(300)))
    first = service.main_pid(UNIT)
    service.run("systemctl", "kill", "--signal=KILL", UNIT)
    wait_until(lambda: service.main_pid(UNIT) not in (0, first), "the next daemon", 20, 0.1)
    wait_count(service, "processed", 300)


@fault(
    "Workers and handlers",
    "the kernel ends a worker that takes too much memory",
    how="a memory limit of the service, in a booted machine",
    shows="the service stays up; the file goes to errors/ alone",
)
def test_workers_that_the_kernel_ends_leave_the_service_up(service: Machine) -> None:
    """As the OOM killer does it: SIGKILL from outside, and by the file's own doing."""
    daemon = service.main_pid(UNIT)
    drop(service, "long-1", "ok-1")
    wait_count(service, "processed", 1)
    workers = [pid for pid in service.pids(UNIT) if pid != daemon]
    service.run("kill", "-KILL", *map(str, workers))
    wait_count(service, "processed", 2)
    drop(service, "crash-1")
    wait_count(service, "errors", 2)
    assert service.main_pid(UNIT) == daemon


@fault(
    "Workers and handlers",
    "a handler speaks to systemd in the daemon's name",
    how="READY, MAINPID and STATUS, in a booted machine",
    shows="not heard",
)
def test_a_handler_cannot_speak_for_the_daemon(service: Machine) -> None:
    daemon = service.main_pid(UNIT)
    drop(service, "speak-1")
    wait_count(service, "processed", 1)
    assert service.main_pid(UNIT) == daemon
    assert service.active(UNIT)
    assert "forged" not in service.run("systemctl", "show", "-P", "StatusText", UNIT).stdout


@pytest.fixture(params=["/data/exchange", "/data/bank-exchange", "/srv/inboxd"])
def disk(service: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where it is mounted, by systemd. It lies in /data/disk, and has the folders of an inbox."""
    point = str(request.param)
    service.shell(
        f"install -d -o inboxd -g inboxd /data/disk /data/disk/orders; mkdir -p {point};"
        f"echo '/data/disk {point} none bind,nofail 0 0' >>/etc/fstab; systemctl daemon-reload; mount {point}"
    )
    service.write("/etc/inboxd/config.yaml", CONFIG.replace("/srv/inboxd/example", f"{point}/orders"))
    override(service, _another_mount(service, point) if point.startswith("/data") else "[Service]\n")
    yield point
    service.shell(
        f"systemctl stop {UNIT}; umount --lazy {point}; rm -rf /data/disk; sed -i /bind,nofail/d /etc/fstab;"
        "systemctl daemon-reload",
        check=False,
    )


def _another_mount(machine: Machine, point: str = "/data/exchange") -> str:
    """The example, changed for another place as it says."""
    example = machine.run("cat", "/usr/share/doc/inboxd/examples/more-inboxes.conf").stdout
    unit = machine.run("systemd-escape", "--path", "--suffix=mount", point).stdout.strip()
    return example.replace("/data/exchange", point).replace("data-exchange.mount", unit)


def _upload(machine: Machine, disk: str, name: str) -> None:
    drop(machine, name, inbound=f"{disk}/orders/inbound", user="inboxd")
    wait_until(lambda: name in machine.shell(f"ls {disk}/orders/processed").stdout, name, 40, 0.1)


def test_a_disk_that_goes_and_comes_back(service: Machine, disk: str) -> None:
    """Its unit is stopped, as when the device goes; and it is missing at a start, which makes nothing in its place."""
    _upload(service, disk, "ok-1")
    service.shell(f"systemctl stop $(systemd-escape --path --suffix=mount {disk}) || umount --lazy {disk}", check=False)
    wait_until(lambda: "away: " in service.run("inboxd", "status").stdout, "the inbox is away", every=0.1)
    assert service.active(UNIT)
    service.run("mount", disk)
    _upload(service, disk, "ok-2")
    service.shell(f"umount --lazy {disk}; mv /data/disk /data/gone; touch /data/disk")  # systemd would make a folder
    assert service.run("systemctl", "restart", UNIT, check=False).returncode
    assert not service.active(UNIT) and "orders" not in service.run("ls", disk).stdout
    service.shell("rm /data/disk; mv /data/gone /data/disk")
    wait_until(lambda: service.active(UNIT), "the service", 40, 0.1)
    _upload(service, disk, "ok-3")


def test_an_instance_waits_for_a_mount_of_its_own(service: Machine) -> None:
    """Also where its name is escaped."""
    instance = r"inboxd@bank\x2dexchange.service"
    service.write("/etc/systemd/system/mnt-gone.mount", "[Mount]\nWhat=tmpfs\nWhere=/mnt/gone\nOptions=none-such\n")
    service.write(f"/etc/systemd/system/{instance}.d/test.conf", "[Unit]\nAfter=mnt-gone.mount\nWants=mnt-gone.mount\n")
    service.run("systemctl", "daemon-reload")
    assert service.run("systemctl", "start", instance, check=False).returncode
    told = [line["MESSAGE"] for line in service.journal(f"--unit={instance}")]
    service.shell(
        f"systemctl stop '{instance}'; rm -r '/etc/systemd/system/{instance}.d' /etc/systemd/system/mnt-gone.mount"
    )
    assert "mnt-gone.mount is not mounted" in told


def test_an_inbox_on_another_mount(service: Machine) -> None:
    """By the example, with its path."""
    service.shell("mkdir -p /data/exchange; mount -t tmpfs tmpfs /data/exchange; chown inboxd: /data/exchange")
    service.write("/etc/inboxd/config.yaml", CONFIG.replace("root: /srv/inboxd/example", "root: /data/exchange/orders"))
    override(service, _another_mount(service))
    drop(service, "ok-1", inbound="/data/exchange/orders/inbound", user="inboxd")
    wait_until(lambda: service.shell("ls /data/exchange/orders/processed").stdout == "ok-1\n", "the file", every=0.1)


@fault(
    "Process death",
    "the daemon hangs for longer than the watchdog waits",
    how="SIGSTOP, in a booted machine",
    shows="systemd ends it and starts another; nothing lost",
)
def test_a_daemon_that_hangs_is_replaced(service: Machine) -> None:
    override(service, "[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\n")
    first = service.main_pid(UNIT)
    service.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", UNIT)
    drop(service, "ok-1")
    wait_until(lambda: service.main_pid(UNIT) not in (0, first), "the next daemon", 30, 0.2)
    wait_count(service, "processed", 1)
    assert service.run("systemctl", "show", "-P", "NRestarts", UNIT).stdout.strip() == "1"
    assert service.journal(f"_PID={first}", "--grep", "most recent call first"), "its threads' tracebacks"


def test_reload_good_and_bad(service: Machine) -> None:
    service.write("/etc/inboxd/config.yaml", CONFIG.replace("settle: renamed", "settle: nonsense"))
    refused = service.run("systemctl", "reload", UNIT, check=False)
    assert refused.returncode
    assert events(service, "daemon.reload-refused")
    assert service.active(UNIT)
    service.write("/etc/inboxd/config.yaml", CONFIG.replace("settle: renamed", "settle: {quiet: 100ms}"))
    service.run("systemctl", "reload", UNIT)
    wait_until(lambda: events(service, "daemon.reloaded"), "the event")


def test_a_wrong_configuration_is_not_tried_for_ever(service: Machine) -> None:
    service.write("/etc/inboxd/config.yaml", "inboxes: {}\n")
    service.run("systemctl", "restart", UNIT, check=False)
    wait_until(lambda: service.run("systemctl", "is-failed", UNIT, check=False).stdout.strip() == "failed", "failed")
    assert service.run("systemctl", "show", "-P", "ExecMainStatus", UNIT).stdout.strip() == "78"
    assert [one["PRIORITY"] for one in events(service, "daemon.refused")]


@fault(
    "Process death",
    "systemctl stop in the middle of a long run",
    how="in a booted machine",
    shows="ends within the unit's time; the run is not blamed",
)
def test_a_stop_in_the_middle_of_a_long_run(service: Machine) -> None:
    drop(service, "long-1")
    wait_until(lambda: '"running": 1' in service.run("inboxd", "status", "--json").stdout, "the run", every=0.1)
    service.run("systemctl", "stop", UNIT, timeout=20)
    assert service.run("systemctl", "show", "-P", "Result", UNIT).stdout.strip() == "success"
    service.run("systemctl", "start", UNIT)
    wait_count(service, "processed", 1)


@fault(
    "Process death",
    "the daemon dies at every start",
    how="a failpoint in recovery, in a booted machine",
    shows="no attempt is counted; it goes on when the cause is gone",
)
def test_crashes_at_the_start_charge_nobody(service: Machine) -> None:
    drop(service, "long-1")
    wait_until(lambda: '"running": 1' in service.run("inboxd", "status", "--json").stdout, "the run", every=0.1)
    service.run("systemctl", "kill", "--signal=KILL", UNIT)
    crashing = "[Service]\nRestartSec=20ms\nEnvironment=INBOXD_FAILPOINT=recover.begun:kill\n"
    service.write("/etc/systemd/system/inboxd.service.d/test.conf", crashing)
    service.shell(f"systemctl daemon-reload; systemctl restart --no-block {UNIT}")
    restarts = lambda: int(service.run("systemctl", "show", "-P", "NRestarts", UNIT).stdout)  # noqa: E731
    wait_until(lambda: restarts() >= 100, "a hundred crashes", 400, 0.5)
    override(service, "[Service]\n")
    wait_count(service, "processed", 1)
    assert not count(service, "errors")


def test_what_the_service_may_touch_and_see(service: Machine) -> None:
    drop(service, "write-1", "seen-1")
    wait_count(service, "processed", 2)
    results = {one["INBOXD_FILE"]: one["INBOXD_RESULT"] for one in events(service, "file.processed")}
    assert all(place in results["write-1"] for place in ("/etc/x", "/usr/x", "/var/lib/x", "/home/x"))
    assert not any(name in results["seen-1"] for name in ("NOTIFY_SOCKET", "WATCHDOG", "JOURNAL_STREAM", "CREDENTIAL"))
    for unit, most in ((UNIT, 2.0), ("inboxd@x.service", 2.0)):
        done = service.run("systemd-analyze", "security", "--no-pager", unit)
        assert float(done.stdout.rsplit("level for", 1)[1].split()[1]) <= most


def test_a_handler_gives_a_file_of_its_own_to_another_group(service: Machine) -> None:
    drop(service, "group-1")
    wait_count(service, "processed", 1)


def test_a_handler_may_have_a_sandbox_by_the_example(service: Machine) -> None:
    """What bubblewrap calls, by its lines."""
    if service.run("unshare", "--map-root-user", "true", user="alice", check=False).returncode:
        unmet("this kernel lets no user make namespaces")
    example = service.run("cat", "/usr/share/doc/inboxd/examples/handlers.conf").stdout
    (lines,) = re.findall(r"^# Sandboxes.*\n((?:#\w.*\n)+)", example, re.MULTILINE)
    drop(service, "sandbox-1")
    wait_count(service, "errors", 2)
    override(service, "[Service]\n" + lines.replace("#", ""))
    drop(service, "sandbox-2")
    wait_count(service, "processed", 1)


@fault(
    "Machine limits",
    "journald stops for a while",
    how="SIGSTOP of journald, in a booted machine",
    shows="files go on; what could not be told is counted",
)
def test_a_journald_that_stops_for_a_while(service: Machine) -> None:
    """For 30 s. Nothing waits for it, and what was told meanwhile is in the journal afterwards."""
    journald = "systemd-journald.service"
    service.run("systemctl", "kill", "--signal=STOP", journald)
    stopped, number = time.monotonic(), 0
    while time.monotonic() < stopped + 30:
        number += 1
        drop(service, f"ok-{number}")
        wait_count(service, "processed", number, 5)
    drop(service, *(f"reject-{number}" for number in range(1500)))
    wait_count(service, "errors", 3000, 60)
    service.run("systemctl", "kill", "--signal=CONT", journald)
    wait_until(lambda: len(events(service, "file.error")) == 1500, "every error in the journal", 30, 0.5)
    assert len(events(service, "handler.output")) == number
    service.run("systemctl", "restart", journald)
    drop(service, "fail-1")
    wait_until(lambda: len(events(service, "file.error")) == 1501, "the next one", 20, 0.5)


def _start_second(machine: Machine) -> None:
    other = CONFIG.replace("/var/lib/inboxd", "/var/lib/inboxd-two").replace("/srv/inboxd/example", "/srv/inboxd/two")
    machine.write("/etc/inboxd/two.yaml", other)
    machine.run("systemctl", "start", "inboxd@two")


def test_a_second_instance(service: Machine) -> None:
    _start_second(service)
    drop(service, "ok-1", inbound="/srv/inboxd/two/inbound", user="inboxd")
    wait_until(lambda: service.shell("ls /srv/inboxd/two/processed").stdout == "ok-1\n", "the file", every=0.1)
    service.run("systemctl", "stop", "inboxd@two")
    assert service.active(UNIT)


@fault(
    "Process death",
    "an upgrade with files in flight",
    how="apt-get install, in a booted machine",
    shows="nothing lost, nothing twice",
)
def test_an_upgrade_with_files_in_flight(service: Machine, package: Path, tmp_path: Path) -> None:
    service.push(_previous(package, tmp_path), "/root/previous.deb")
    service.run("dpkg", "-i", "/root/previous.deb", timeout=120)
    assert service.active(UNIT)
    _start_second(service)
    second = service.main_pid(_SECOND)
    drop(service, "long-1", *(f"ok-{number}" for number in range(300)))
    service.run("dpkg", "-i", "/root/inboxd.deb", timeout=120)
    wait_count(service, "processed", 301)
    assert "Version: 0.0.1" not in service.run("dpkg", "-s", "inboxd").stdout
    assert service.main_pid(_SECOND) not in (0, second), "the instance runs, and is the new version's"


def test_an_upgrade_starts_what_ran_and_nothing_else(service: Machine) -> None:
    """Whatever is enabled."""
    _start_second(service)
    service.shell(f"systemctl disable {UNIT}; systemctl enable {_SECOND}; systemctl stop {_SECOND}")
    service.run("dpkg", "--install", "/root/inboxd.deb", timeout=120)
    running, enabled = service.active(UNIT), service.shell(f"systemctl is-enabled {UNIT}", check=False).stdout
    assert (running, service.active(_SECOND), enabled) == (True, False, "disabled\n")
    service.shell(f"systemctl enable {UNIT}; systemctl disable {_SECOND}; systemctl stop {UNIT}")
    service.run("dpkg", "--install", "/root/inboxd.deb", timeout=120)
    assert not service.active(UNIT) and not service.active(_SECOND)


def test_what_is_not_enabled_is_not_started_after_a_removal(service: Machine) -> None:
    """Nor does what the prerm of an older version has left there stand for what is enabled."""
    _start_second(service)
    service.run("dpkg", "--remove", "inboxd")
    service.write("/run/inboxd-instances", f"{_SECOND}\n")
    service.run("dpkg", "--install", "/root/inboxd.deb", timeout=120)
    assert service.active(UNIT)
    assert not service.active(_SECOND)


def test_a_removal_stops_all_and_a_purge_forgets_what_is_ours(service: Machine) -> None:
    """After all other tests, since it takes the package away."""
    drop(service, "ok-1")
    wait_count(service, "processed", 1)
    _start_second(service)
    service.run("systemctl", "enable", "inboxd@two")
    service.run("dpkg", "--remove", "inboxd")
    assert not service.pids(UNIT) and not service.pids(_SECOND)
    assert service.shell("ls -d /run/inboxd*", check=False).stdout == ""
    assert service.shell("ls /var/lib/inboxd*/ledger.sqlite").stdout.count("\n") == 2
    service.run("dpkg", "--install", "/root/inboxd.deb", timeout=120)
    assert service.active(UNIT)
    assert service.active(_SECOND), "it is enabled, and ran before"
    service.write("/var/lib/inboxd-two/notes.txt", "the administrator's")
    service.shell(
        "cp -a /var/lib/inboxd /var/lib/inboxd-backup; cp /etc/inboxd/config.yaml /etc/inboxd/backup.yaml;"
        "install -D /var/lib/inboxd/ledger.sqlite /var/lib/inboxd-copies/ledger.sqlite"
    )
    service.run("dpkg", "--purge", "inboxd")
    assert service.shell("ls /var/lib/inboxd-backup/instance.lock /var/lib/inboxd-*/ledger.sqlite").stdout.split() == [
        "/var/lib/inboxd-backup/instance.lock", "/var/lib/inboxd-backup/ledger.sqlite",
        "/var/lib/inboxd-copies/ledger.sqlite",
    ]  # fmt: skip
    assert count(service, "processed") == 1
    places = "/var/lib/inboxd /etc/inboxd/config.yaml /usr/lib/inboxd /usr/bin/inboxd /run/inboxd-instances"
    assert service.shell(f"ls -d {places} /etc/systemd/system/*.wants/inboxd*", check=False).stdout == ""
    assert service.shell("ls /var/lib/inboxd-two /etc/inboxd").stdout.split() == [
        "/etc/inboxd:", "backup.yaml", "handlers.py", "two.yaml", "/var/lib/inboxd-two:", "notes.txt",
    ]  # fmt: skip


def _previous(package: Path, folder: Path) -> Path:
    """The same package with a lower version."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.0.1", control.read_text(), flags=re.MULTILINE))
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", tree, folder / "previous.deb"], check=True, capture_output=True
    )
    return folder / "previous.deb"
