"""On trial: a fetcher of its own lists a source, or looks at a destination, while somebody waits; nothing is fetched,
told, sent or written down.

Needs no daemon. Blocks; for any thread but the supervisor's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from typing import IO

from inboxd.listing import read_listing
from inboxd.model import Ending, Report, new_id
from inboxd.pool.environment import worker_environment
from inboxd.wire import BrokenFrame, Errand, Frames, Listed, Message, OrderedItem, Ready, Reports, SourceSetup, encode

_READ = 256 * 1024
_FETCHER = "inboxd.fetch.fetcher"


@contextlib.contextmanager
def trial_poll(
    setup: SourceSetup, inbox: str, secrets: Collection[str], patience: float
) -> Iterator[tuple[Report, Iterator[Listed]]]:
    """What became of it within `patience` seconds, and what was listed, to be read in here. Raises OSError.

    `secrets`: names of environment variables that no fetcher may see.
    """
    with tempfile.TemporaryDirectory(prefix="inboxd-") as folder:
        path = os.path.join(folder, "listing")
        errand = Errand(new_id(), inbox, setup.source, "poll", (OrderedItem(new_id(), path, name="its listing"),))
        report = _run(setup, errand, secrets, patience)
        yield report, read_listing(path) if report.ending is Ending.DONE else iter(())


def trial_look(setup: SourceSetup, inbox: str, secrets: Collection[str], patience: float) -> Report:
    """What a destination says within `patience` seconds; its result's `found` tells it. Raises OSError."""
    errand = Errand(new_id(), inbox, setup.source, "look", (OrderedItem(new_id(), name="its folder"),))
    return _run(setup, errand, secrets, patience)


def _run(setup: SourceSetup, errand: Errand, secrets: Collection[str], patience: float) -> Report:
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as mark, tempfile.TemporaryFile() as printed:
        with theirs:
            spoken = (theirs.fileno(), mark.fileno())
            # In our own process group, which the daemon's look for orphans spares (pool/orphans.py).
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _FETCHER, *map(str, spoken)],
                stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, pass_fds=spoken,
                env=worker_environment(os.environ, secrets),
            )  # fmt: skip
        start = time.monotonic()
        try:
            return _converse(ours, setup, errand, start + patience)
        except TimeoutError:
            report = Report("", Ending.TIMED_OUT, message=f"it has not answered in full within {patience:.0f} s")
        except (OSError, BrokenFrame) as error:
            report = Report("", Ending.CRASHED, message=f"its fetcher ended: {_last_words(printed) or error}")
        finally:
            process.kill()
            process.wait()
        return report._replace(seconds=time.monotonic() - start)


def _converse(ours: socket.socket, setup: SourceSetup, errand: Errand, deadline: float) -> Report:
    """The set-up, Ready, the errand, its report. Raises TimeoutError, OSError, BrokenFrame."""
    ours.sendall(encode(setup))
    for message in _messages(ours, deadline):
        if isinstance(message, Ready):
            ours.sendall(encode(errand))
        elif isinstance(message, Reports):
            return message.reports[0]
    raise BrokenFrame("it hung up")


def _messages(ours: socket.socket, deadline: float) -> Iterator[Message]:
    frames = Frames()
    while True:
        ours.settimeout(max(0.001, deadline - time.monotonic()))
        data = ours.recv(_READ)
        if not data:
            return
        yield from frames.feed(data)


def _last_words(printed: IO[bytes]) -> str:
    """The last line that it printed."""
    printed.seek(0)
    lines = printed.read().decode(errors="backslashreplace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
