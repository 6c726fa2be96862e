"""What `inboxd init DIR` makes: a configuration and a handler to begin with. They work as they are."""

from __future__ import annotations

import os
from pathlib import Path

from inboxd.errors import UsageError

_CONFIG = """\
# The configuration of inboxd. Paths are relative to this file. `inboxd check` tells whether it is right.

state: var/state              # the ledger and the control socket; private to the daemon

workers:
  processes: auto             # how many files are handled at once; auto is one per core
  timeout: 10m                # the longest a handler may take for one file

inboxes:
  example:                    # any name; one inbox per kind of file
    root: var/example         # drop files into var/example/inbound
    match: ["*.csv", "*.txt"]
    settle: {quiet: 1s}       # a file is complete when it has not changed for so long; better: `renamed`
    handler: {python: "handlers:handle"}   # or {command: ["wc", "-l", "{path}"]}
    retry: {max_failures: 3, first: 1s, longest: 5m}

# A database for handlers, to be used as `with file.transaction("warehouse") as connection:`
# databases:
#   warehouse: {url: "sqlite:///var/warehouse.db"}
"""

_HANDLERS = '''\
"""A handler gets one file at a time, in a worker process. It may fail, hang or crash: other files never notice."""

from inboxd import File, Reject


def handle(file: File) -> dict:
    """Count lines. What is returned goes into the ledger and the log; any exception means: try again later."""
    if file.size == 0:
        raise Reject("it is empty")  # final: the file goes to errors/
    with file.path.open("rb") as lines:
        return {"lines": sum(1 for _ in lines)}
'''


def init(directory: Path) -> list[Path]:
    """Make the files, and the folder if it is not there; returns their paths. Raises UsageError, overwrites nothing."""
    wanted = {directory / "config.yaml": _CONFIG, directory / "handlers.py": _HANDLERS}
    there = [str(path) for path in wanted if os.path.lexists(path)]
    if there:
        raise UsageError(f"{' and '.join(there)} would be overwritten", hint="name another folder, or move them away")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in wanted.items():
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be made: {error.strerror}", hint="name another folder") from error
    return list(wanted)
