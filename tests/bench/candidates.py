"""What is compared: inboxd at both durabilities, a bare loop, a hand-written script, watchfiles, a queue with a broker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.daemon import WITH_US, Notifications
from support.wait import wait_until

PEERS = Path(__file__).parent / "peers"
_START = 120.0  # seconds


def _in_the_folder(folder: Path) -> Mapping[str, Any]:
    return {"state": str(folder / "state")}


@dataclass(frozen=True, slots=True)
class Candidate:
    """How to run one of them on a folder that holds inbound/ and processed/.

    A script of peers/, or else inboxd: with these settings, and these of its inbox, in place of the usual ones.
    """

    name: str
    script: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    inbox: Mapping[str, Any] = field(default_factory=dict)
    ledger: Callable[[Path], Mapping[str, Any]] = _in_the_folder  # settings that say where it is
    inboxes: int = 1  # those beyond the first have folders of their own

    def command(self, folder: Path) -> list[str]:
        if self.script:
            return [sys.executable, str(PEERS / self.script), str(folder)]
        return [sys.executable, "-m", "inboxd", "run", "-c", str(self._configure(folder)), "--log-format", "json"]

    def _configure(self, folder: Path) -> Path:
        shutil.copy(PEERS / "hashing.py", folder)
        usual = {"settle": "renamed", "layout": "", "handler": {"python": "hashing:handle"}}
        roots = {"main": ".", **{f"other-{number}": f"other-{number}" for number in range(1, self.inboxes)}}
        settings = {
            "workers": {"processes": 2},
            "min_free_space": "1MiB",
            **self.settings,
            **self.ledger(folder),
            "inboxes": {name: {"root": root, **usual, **self.inbox} for name, root in roots.items()},
        }
        path = folder / "config.yaml"
        path.write_text(json.dumps(settings, indent=2), encoding="utf-8")  # which is YAML
        return path


INBOXD = Candidate("inboxd, process", settings={"durability": "process"})
INBOXD_FULL = Candidate("inboxd, full", settings={"durability": "full"})
BARE = Candidate("bare loop", script="bare.py")
CAREFUL = Candidate("careful loop", script="careful.py")
ISOLATED = Candidate("careful loop, its handler apart", script="isolated.py")
HANDWRITTEN = Candidate("hand-written", script="handwritten.py")
WATCHING = Candidate("watchfiles + pool", script="watching.py")
QUEUED = Candidate("Celery + Redis", script="queued.py")
SPAWNING = Candidate(BARE.name, script="spawning.py")
ALL = (INBOXD, INBOXD_FULL, BARE, HANDWRITTEN, WATCHING, QUEUED)


@dataclass(slots=True)
class Running:
    """A candidate at work; `since`: wall clock seconds before its process was made."""

    process: subprocess.Popen[bytes]
    notifications: Notifications
    since: float

    @property
    def ready(self) -> float | None:
        """When it said READY, wall clock seconds."""
        return self.notifications.first.get("READY=1")

    def wait_ready(self) -> None:
        wait_until(self._ready, "READY=1", _START, 0.005)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.process.args!r} ended with {self.process.returncode}")
        return self.ready is not None


@contextlib.contextmanager
def running(candidate: Candidate, folder: Path) -> Iterator[Running]:
    """Start it; end it, and all it started, at the end."""
    notifications = Notifications()
    command = candidate.command(folder)
    with (folder / "output").open("wb") as output:
        since = time.time()
        process = subprocess.Popen(
            [*WITH_US, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NOTIFY_SOCKET": notifications.path, "PYTHONDONTWRITEBYTECODE": ""},
            start_new_session=True,
        )
    try:
        yield Running(process, notifications, since)
    except BaseException as error:
        error.add_note((folder / "output").read_text(errors="backslashreplace")[-3000:])
        raise
    finally:
        _end(process, gently=not candidate.script)
        notifications.close()


def _end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """The peers know no way to stop; a script's pool dies with its session."""
    if gently and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
