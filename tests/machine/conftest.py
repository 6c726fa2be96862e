"""A machine for all tests in here, and the package that was built for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import CACHE, Machine, base_root
from support.needs import unmet
from support.service import CONFIG, HANDLERS, INBOUND, UNIT

BUILD = CACHE.parent / "build"
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare")


def pytest_itemcollected(item: pytest.Item) -> None:
    """The first test may have to build the base. A timeout of the test's own wins."""
    item.add_marker(pytest.mark.timeout(600))


def _missing() -> str:
    if os.geteuid() != 0:
        return "a machine needs root"
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"a machine needs {', '.join(tools)} (apt-get install debootstrap systemd-container)" if tools else ""


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """One machine for all tests; skipped where none can be had, but not in CI."""
    if reason := _missing():
        unmet(reason)
    with Machine(base_root(), CACHE / "machines" / f"run-{os.getpid()}") as booted:
        yield booted


@pytest.fixture(scope="session")
def package() -> Path:
    """The newest Debian package of the daemon."""
    found = sorted(BUILD.glob("inboxd_*.deb"), key=lambda deb: deb.stat().st_mtime)
    return found[-1] if found else pytest.fail("run ./dev deb first")


@pytest.fixture(scope="session")
def installed(machine: Machine, package: Path) -> Machine:
    """With the package, and alice, who may drop files."""
    machine.push(package, "/root/inboxd.deb")
    machine.run("dpkg", "-i", "/root/inboxd.deb", timeout=120)
    assert machine.run("sh", "-c", "command -v gcc", check=False).returncode, "the machine has a compiler"
    machine.run("useradd", "--create-home", "--groups", "inboxd-drop", "alice")
    return machine


@pytest.fixture
def service(installed: Machine) -> Iterator[Machine]:
    """Fresh: nothing in the example inbox but an inbound/ that alice may write to, and nothing known of it."""
    installed.run("systemctl", "stop", UNIT)
    installed.shell(
        "rm -rf /srv/inboxd/example /var/lib/inboxd/* /etc/systemd/system/inboxd.service.d; systemctl daemon-reload;"
        "install -d -o inboxd -g inboxd -m 0755 /srv/inboxd/example;"
        f"install -d -o inboxd -g inboxd-drop -m 2770 {INBOUND}"
    )
    installed.write("/etc/inboxd/config.yaml", CONFIG)
    installed.write("/etc/inboxd/handlers.py", HANDLERS)
    installed.run("systemctl", "start", UNIT)
    yield installed
