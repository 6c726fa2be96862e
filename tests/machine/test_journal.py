"""Every command of docs/journal.md finds what it promises, on a machine where all of it has happened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.machine import Machine
from support.service import CONFIG, HANDLERS, INBOUND, UNIT, drop, events, wait_count
from support.wait import wait_until

_PAGE = (Path(__file__).parents[2] / "docs" / "journal.md").read_text(encoding="utf-8")
_COMMANDS = [
    (title, command)
    for title, block in re.findall(r"^## (.*?)\n.*?^```sh\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    for command in block.splitlines()
]


_TOGETHER = """  together:
    root: /srv/inboxd/together
    settle: renamed
    handler: {python: "handlers:together", batch: true}
    retry: {max_failures: 1}
"""
_FAILS = """
def together(files):
    raise ValueError("one of us")
"""


@pytest.fixture(scope="module")
def eventful(installed: Machine) -> tuple[Machine, str]:
    """A machine on which everything that the page asks for has happened, and a file's id."""
    machine = installed
    machine.shell(
        f"systemctl stop {UNIT}; rm -rf /srv/inboxd/example /var/lib/inboxd/*;"
        "install -d -o inboxd -g inboxd /srv/inboxd/example; "
        f"install -d -o inboxd -g inboxd-drop -m 2770 {INBOUND};"
        "install -d -o inboxd -g inboxd /srv/inboxd/together /srv/inboxd/together/inbound;"
        "cd /srv/inboxd/together/inbound; for n in 1 2 3 4; do echo $n > $n; done"  # shared by two workers
    )
    config = CONFIG + "    duplicates: skip\n" + _TOGETHER
    machine.write("/etc/inboxd/config.yaml", config)
    machine.write("/etc/inboxd/handlers.py", HANDLERS + _FAILS)
    machine.run("systemctl", "start", UNIT)
    drop(machine, "invoice-7.csv")  # alone: of a crowd that prints, each worker tells so many lines a second
    wait_until(lambda: events(machine, "handler.output"), "what its handler printed")
    wait_until(lambda: events(machine, "batch.halved"), "a batch to fail")
    drop(machine, "fail-1", "crash-1", *(f"ok-{number}" for number in range(400)))
    wait_count(machine, "errors", 4)
    machine.shell(
        f"cd {INBOUND}; ln -s /etc/passwd .link; mv .link link; echo invoice-7.csv > .twin; chmod 644 .twin; mv .twin twin"
    )
    wait_until(lambda: events(machine, "file.quarantined") and events(machine, "file.duplicate"), "the strange ones")
    machine.write("/etc/inboxd/config.yaml", config.replace("1MiB", "900TiB"))
    machine.run("systemctl", "reload", UNIT)
    drop(machine, "late-1")
    wait_until(lambda: events(machine, "disk.low"), "the disk to be low")
    machine.write("/etc/inboxd/config.yaml", config.replace("settle: renamed", "settle: nonsense"))
    machine.run("systemctl", "reload", UNIT, check=False)
    machine.write("/etc/inboxd/config.yaml", config)
    machine.run("systemctl", "reload", UNIT)
    wait_until(lambda: events(machine, "progress", "INBOXD_INBOX=example"), "progress", 20, 0.5)
    return machine, events(machine, "file.error", "INBOXD_INBOX=example")[0]["INBOXD_FILE_ID"]


def test_the_page_has_twenty_questions() -> None:
    assert len({title for title, _command in _COMMANDS}) >= 20


@pytest.mark.parametrize(("title", "command"), _COMMANDS, ids=[title for title, _command in _COMMANDS])
def test_a_command_of_the_page(eventful: tuple[Machine, str], title: str, command: str) -> None:
    machine, file_id = eventful
    command = re.sub(r"\b[0-9a-f]{32}\b", file_id, command).replace("=orders", "=example")
    answer = machine.shell(command).stdout
    assert answer.strip() not in ("", "0"), title
    assert "-- No entries --" not in answer
