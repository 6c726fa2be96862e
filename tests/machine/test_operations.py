"""docs/operations.md, followed line by line on a machine of its own that nothing was done to before."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import CACHE, Machine, base_root
from support.wait import wait_until

_PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
_BLOCKS = [
    (title, block)
    for title, text in re.findall(r"^##+ (.*?)\n(.*?)(?=^##|\Z)", _PAGE, re.MULTILINE | re.DOTALL)
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
_ORDERS = "/srv/inboxd/orders"
_LAST = "Remove"


@pytest.fixture(scope="module")
def fresh(machine: Machine, package: Path) -> Iterator[Machine]:
    """Just booted, with the package in root's folder. After `machine`, which says where none can be had."""
    with Machine(base_root(), CACHE / "machines" / f"operations-{os.getpid()}") as booted:
        booted.push(package, f"/root/{package.name}")
        yield booted


def test_the_page_from_its_beginning_to_its_end(fresh: Machine) -> None:
    fresh.shell("mkdir -p /data/exchange; mount -t tmpfs -o size=2g tmpfs /data/exchange")  # the page's other disk
    for title, block in _BLOCKS:
        if title == _LAST:
            break
        _follow(fresh, title, block)
        if title == "A local user":
            _arrives(fresh, "first.csv")
        if title.startswith("A partner"):
            _partner_uploads(fresh)
    assert fresh.active("inboxd.service")
    assert fresh.active("inboxd@eu.service")
    assert fresh.run("inboxd", "doctor").stdout
    assert int(fresh.shell(f"find {_ORDERS}/processed -type f | wc -l").stdout) == 2


def test_uploaders_may_use_every_inbox_of_the_page(fresh: Machine) -> None:
    for root in ("/data/exchange/invoices", "/srv/inboxd/eu-orders", "/srv/inboxd/example"):
        fresh.shell(f"cd {root}/inbound; umask 027; echo x >.fourth; mv .fourth fourth", user="alice")
        _arrives(fresh, "fourth", root)


def _follow(machine: Machine, title: str, block: str) -> None:
    """What the page installs is on the machine already: it reaches no archive."""
    done = machine.shell(f"cd /root\n{block}", timeout=120, check=False)
    assert done.returncode == 0, f"{title}:\n{block}\n{done.stdout}\n{done.stderr}"


def _arrives(machine: Machine, name: str, root: str = _ORDERS) -> None:
    found = f"find {root}/processed -name {name}"
    wait_until(lambda: machine.shell(found).stdout, f"{name} in processed/")


def _partner_uploads(machine: Machine) -> None:
    """With a key, through sshd on its standard input and output: no port is needed."""
    machine.shell(
        "ssh-keygen -q -t ed25519 -N '' -f /root/key; cp /root/key.pub /etc/ssh/inboxd/acme.keys; mkdir -p /run/sshd;"
        "echo c,d >/root/upload"
    )
    sftp = "sftp -q -b - -i /root/key -o ProxyCommand='/usr/sbin/sshd -i' -o StrictHostKeyChecking=accept-new acme@here"
    orders = "put /root/upload inbound/.second.csv\nrename inbound/.second.csv inbound/second.csv\n"
    machine.shell(sftp, input=orders)
    _arrives(machine, "second.csv")
    assert machine.shell(sftp, input="ls /etc\n", check=False).returncode, "the partner sees more than his folder"


def test_the_partners_password_is_nowhere_else(fresh: Machine) -> None:
    """The credential of the page: in no arguments, no environment, no log, no ledger."""
    assert "warehouse" in fresh.run("inboxd", "check", check=False).stderr
    for pid in fresh.pids("inboxd.service"):
        assert "geheim" not in fresh.shell(f"cat /proc/{pid}/environ /proc/{pid}/cmdline").stdout
    assert "geheim" not in fresh.run("journalctl", "-b", "-o", "export", "--all").stdout
    assert fresh.run("grep", "-rl", "geheim", "/var/lib/inboxd", "/srv/inboxd", check=False).stdout == ""


def test_a_worker_has_no_way_to_the_credentials_folder_in_its_environment(fresh: Machine) -> None:
    main = fresh.main_pid("inboxd.service")
    workers = [pid for pid in fresh.pids("inboxd.service") if pid != main]
    assert workers
    assert "CREDENTIALS_DIRECTORY=" in fresh.run("cat", f"/proc/{main}/environ").stdout
    for pid in workers:
        environment = fresh.run("cat", f"/proc/{pid}/environ").stdout
        assert "CREDENTIALS_DIRECTORY" not in environment
        assert "NOTIFY_SOCKET" not in environment


def test_the_local_only_example_runs_and_is_below_1(fresh: Machine) -> None:
    fresh.shell(
        "install -D -m 0644 /usr/share/doc/inboxd/examples/local-only.conf /etc/systemd/system/inboxd.service.d/local.conf;"
        "systemctl daemon-reload; systemctl restart inboxd"
    )
    line = fresh.run("systemd-analyze", "security", "--no-pager", "inboxd.service").stdout.strip().splitlines()[-1]
    assert float(re.findall(r"\d+\.\d+", line)[0]) <= 1.0
    fresh.shell(f"cd {_ORDERS}/inbound; umask 027; echo e,f >.third.csv; mv .third.csv third.csv", user="alice")
    _arrives(fresh, "third.csv")


def test_nothing_remains_but_what_the_page_says(fresh: Machine) -> None:
    """Last, since it takes the package away."""
    for title, block in _BLOCKS:
        if title == _LAST:
            _follow(fresh, title, block)
    assert not fresh.pids("inboxd.service") and not fresh.pids("inboxd@eu.service")
    places = "/etc /srv /usr/bin /usr/lib /usr/share /var/backups /var/lib /run"
    left = fresh.shell(f"find {places} -xdev -name '*inboxd*' -not -path '/var/lib/systemd/*'").stdout
    assert left == ""
    assert "inboxd" not in fresh.shell("cat /etc/passwd /etc/group /etc/fstab /proc/mounts").stdout
