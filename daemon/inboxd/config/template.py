"""What `inboxd init DIR` makes: a configuration and a handler to begin with."""

from __future__ import annotations

from pathlib import Path

from inboxd.errors import UsageError

_CONFIG = """\
# The configuration of inboxd. `inboxd check` tells whether it is right, docs/configuration.md what may stand here.

state: var/state            # the ledger and the control socket; paths are relative to this file

workers:
  processes: auto           # one per core
  timeout: 10m              # the longest a handler may take for one file

inboxes:
  example:
    root: var/example       # drop files into var/example/inbound
    match: ["*.csv", "*.txt"]
    settle: {quiet: 1s}     # complete when it has stood still for so long
    handler: {python: "handlers:handle"}
    retry: {max_failures: 3, first: 1s, longest: 5m}
"""

_HANDLERS = '''\
"""A handler gets one claimed file at a time, in a worker process of its own."""

from inboxd import File, Reject


def handle(file: File) -> dict | None:
    """Count lines. What is returned goes into the ledger and the log."""
    if file.size == 0:
        raise Reject("it is empty")
    with file.path.open("rb") as lines:
        return {"lines": sum(1 for _line in lines)}
'''


def init(directory: Path) -> list[Path]:
    """Make the files; returns their paths. Raises UsageError rather than overwrite one."""
    wanted = {directory / "config.yaml": _CONFIG, directory / "handlers.py": _HANDLERS}
    there = [str(path) for path in wanted if path.exists()]
    if there:
        raise UsageError(f"{', '.join(there)} is there already", hint="name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        with open(path, "x", encoding="utf-8") as stream:
            stream.write(text)
    return list(wanted)
