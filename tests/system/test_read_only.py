"""Where nothing may be written, a start is refused for good, in words: systemd must not try for ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import inboxd
from support.faults import fault
from support.site import Site


@pytest.fixture
def sealed(site: Site) -> Iterator[Path]:
    """A folder on a mount that is read-only, as is all that a unit's ReadWritePaths= does not name."""
    assert os.geteuid() == 0, "mounts are made by root: run this test as root"
    point = site.base / "sealed"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def _seal(point: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)


def _refused(site: Site, what: Path) -> None:
    refused = inboxd(site.config, "run")
    assert refused.returncode == 78, refused.stderr
    assert "Read-only file system" in refused.stderr
    assert "ReadWritePaths=" in refused.stderr
    assert str(what) in refused.stderr
    assert "Traceback" not in refused.stderr


@fault("Disks", "a disk is read-only at the start", how="a tmpfs, remounted", shows="refused in words, with what to do")
def test_an_inbox_that_can_not_be_made(site: Site, sealed: Path) -> None:
    site.inbox("main", root="sealed/main")
    _seal(sealed)
    _refused(site, sealed / "main")


@fault("Disks", "a disk is read-only at the start", how="a tmpfs, remounted", shows="refused in words, with what to do")
def test_an_inbox_that_is_there_and_can_not_be_used(site: Site, sealed: Path) -> None:
    site.inbox("main", root="sealed/main")
    for which in ("inbound", "work", "incoming", "processed", "errors", "quarantine", "outbound"):
        (sealed / "main" / which).mkdir(parents=True, mode=0o700)
    _seal(sealed)
    _refused(site, sealed / "main" / "work")


@fault("Disks", "a disk is read-only at the start", how="a tmpfs, remounted", shows="refused in words, with what to do")
def test_a_state_folder_that_can_not_be_made(site: Site, sealed: Path) -> None:
    site.write(state="sealed/state")
    _seal(sealed)
    _refused(site, sealed / "state")
