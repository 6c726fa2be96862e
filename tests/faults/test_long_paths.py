"""Folders so deep that the files of one order would fill more than a message of ours can hold."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from support.daemon import run_daemon
from support.faults import fault
from support.site import Site
from support.wait import wait_until

_FOLDER = b"\xff" * 255  # six bytes of JSON for each
_DEPTH = 64  # as deep as inboxd looks
_HOW = "1,000 files below 64 folders of 255 bytes that are no text, and workers.batch_size 10000"


@pytest.fixture
def deep(site: Site) -> Iterator[int]:
    """The descriptor of a folder far below the inbox, which may be full before a daemon looks."""
    site.inbox("main", recursive=True)
    site.workers(processes=1, batch_size=10_000)
    (site.root() / "inbound").mkdir(parents=True)
    fd = os.open(site.root() / "inbound", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(_DEPTH):
        os.mkdir(_FOLDER, dir_fd=fd)
        below = os.open(_FOLDER, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    yield fd
    os.close(fd)
    for folder in ("inbound", "processed"):  # no tool of ours can go so deep
        subprocess.run(["rm", "-rf", str(site.root() / folder)], check=True)


def _write(fd: int, name: str, content: bytes) -> None:
    with open(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as stream:
        stream.write(content)


@fault("Uploaders", "more long names than a worker's order can hold", how=_HOW, shows="they run in several batches")
def test_more_long_names_than_an_order_can_hold(site: Site, deep: int) -> None:
    for number in range(1000):
        _write(deep, f"ok-{number}", b"x")
    with run_daemon(site.config) as daemon:
        wait_until(lambda: len(site.witnessed("end")) == 1000, "all of them")
        wait_until(lambda: not site.listed("work"), "the end of all work")
        assert not daemon.events("child.died")
        assert daemon.stop() == 0


@fault(
    "Uploaders", "more long names than a worker's order can hold", how="likewise, with `settle: checksum: sha256`",
    shows="no worker dies; others are verified",
)  # fmt: skip
def test_more_long_names_than_an_order_to_read_can_hold(site: Site, deep: int) -> None:
    site.inbox("main", recursive=True, settle={"checksum": "sha256"})
    digest = hashlib.sha256(b"x").hexdigest().encode()
    for number in range(1000):
        _write(deep, f"ok-{number}", b"x")
        _write(deep, f"ok-{number}.sha256", digest)
    with run_daemon(site.config) as daemon:
        site.drop("ok", b"x")
        site.drop("ok.sha256", digest)
        wait_until(lambda: site.witnessed("end", "ok"), "the run of one whose path can be opened")
        assert not daemon.events("child.died")
        assert daemon.stop() == 0
