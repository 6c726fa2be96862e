"""run, check, schema, init."""

from __future__ import annotations

import json
from argparse import Namespace

from inboxd.config.load import load


def run(options: Namespace) -> int:
    """The daemon, in the foreground."""
    from inboxd.app import run as run_daemon
    from inboxd.logs import LogOptions

    return run_daemon(options.config, LogOptions(options.log_level, options.log_format))


def check(options: Namespace) -> None:
    """Refuse what `run` would refuse, without touching anything."""
    from inboxd.app import probe

    config = load(options.config)
    probe(config)
    print(f"{config.file} is fine: {len(config.inboxes)} inboxes, {config.workers.count} workers")
    for name, inbox in config.inboxes.items():
        handler = inbox.handler.python or " ".join(inbox.handler.command or ())
        print(f"  {name}: {inbox.folder('inbound')} -> {handler}")


def schema(_options: Namespace) -> None:
    """For editors."""
    from inboxd.config.schema import schema as make

    print(json.dumps(make(), indent=2))


def init(options: Namespace) -> None:
    """A folder to begin with."""
    from inboxd.config.template import init as make

    for path in make(options.directory):
        print(f"made {path}")
    print(f"start it: inboxd run -c {options.directory / 'config.yaml'}")
