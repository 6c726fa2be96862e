"""How fast items come from a local HTTP partner, beside a bare requests loop with the same parallelism.

Both list, download and acknowledge every item of the same server, which is a process of its own. What inboxd does
besides: rows, renames, a run of a handler, syncs.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import requests
from candidates import PEERS, Candidate, running
from measured import Measured
from scenarios import prepare

from support.partner import ITEMS, PASSWORD, USER
from support.wait import wait_until

BARE_FETCH = Candidate("bare loop", script="bare_fetch.py")
_PARALLEL = 4
_PARTNER = Path(__file__).parents[1] / "support" / "partner.py"


def fetch(candidate: Candidate, folder: Path, count: int) -> Measured:
    """Until every item is processed and acknowledged: the bare loop from its start, inboxd from READY."""
    prepare(folder)
    process, url = _partner(folder / "outbox", count)
    try:
        if candidate.script:
            return Measured(rate=count / _bare(candidate, folder, url))
        return Measured(rate=count / _inboxd(candidate, folder, url, count))
    finally:
        process.kill()
        process.wait()


def _partner(folder: Path, count: int) -> tuple[subprocess.Popen[str], str]:
    """A server with so many items of 1 KiB, all of them listed on one page."""
    folder.mkdir()
    for number in range(count):
        (folder / f"item-{number:06d}.dat").write_bytes(b"%06d" % number * 170)
    script = [sys.executable, str(_PARTNER), "--folder", str(folder), "--log", f"{folder}.log"]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    wait_until(lambda: _listed(url) == count, "the partner's outbox", 120)
    return process, url


def _listed(url: str) -> int:
    listing = requests.get(f"{url}/api/outbox", auth=(USER, PASSWORD), timeout=60).json()
    return len(listing["files"])


def _bare(candidate: Candidate, folder: Path, url: str) -> float:
    """Seconds."""
    command = [sys.executable, str(PEERS / candidate.script), url, str(folder / "processed"), str(_PARALLEL)]
    began = time.monotonic()
    subprocess.run([*command, USER, PASSWORD], check=True)
    return time.monotonic() - began


def _inboxd(candidate: Candidate, folder: Path, url: str, count: int) -> float:
    """Seconds."""
    source = {
        "http": {
            "list": f"{url}/api/outbox", "items": ITEMS, "auth": {"basic": {"user": USER, "password": PASSWORD}},
            "ack": {"method": "POST", "url": f"{url}/api/outbox/{{id}}/ack"},
        },
        "parallel": _PARALLEL, "every": "1h", "backlog": 1_000_000,
    }  # fmt: skip
    with running(dataclasses.replace(candidate, inbox={"sources": {"partner": source}}), folder) as run:
        run.wait_ready()
        began = time.monotonic()
        wait_until(lambda: _acked(folder) >= count and _processed(folder) == count, "the last ack", 1800, 0.5)
        return time.monotonic() - began


def _acked(folder: Path) -> int:
    """Acknowledgements that the partner has heard."""
    return (folder / "outbox.log").read_bytes().count(b'"POST"')


def _processed(folder: Path) -> int:
    return len(os.listdir(folder / "processed"))
