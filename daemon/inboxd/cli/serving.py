"""run, check, schema, init."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from typing import TYPE_CHECKING

from inboxd.cli.output import show, written
from inboxd.cli.page import Page, Table, Text

if TYPE_CHECKING:
    from inboxd.config.models import Config, Inbox


def run(options: Namespace) -> int:
    """The daemon, in the foreground."""
    import faulthandler
    import gc
    import signal

    signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # the configuration is read in a moment
    gc.disable()  # what is imported stays for good: looking for garbage in it takes a fifth of its time
    from inboxd.app import run as run_daemon
    from inboxd.logs import LogOptions

    gc.freeze()
    gc.enable()
    faulthandler.enable(2)  # systemd's watchdog sends SIGABRT: say where every thread hung
    return run_daemon(options.config, LogOptions(options.log_level, options.log_format))


def check(options: Namespace) -> int:
    """Refuse what `run` would refuse, without touching anything; tell what it would use. 1 when a source can't be."""
    from inboxd.config.load import load
    from inboxd.setups import probe

    config = load(options.config)
    probe(config)
    show(_summary(config))
    if options.connect is None:
        return 0
    from inboxd.cli.connecting import examine_all

    return examine_all(config, options.connect)


def _summary(config: Config) -> Page:
    ledger = config.ledger_url.partition(":")[0]
    workers = f"{config.workers.count} worker{'' if config.workers.count == 1 else 's'}"
    rows = [(name, str(inbox.folder("inbound")), " ".join(inbox.match), _settle(inbox), _handler(inbox))
            for name, inbox in config.inboxes.items()]  # fmt: skip
    return [
        Text(f"{config.file} is fine, and every handler can be loaded", "good"),
        Text(f"state {config.state}, ledger {ledger}, durability {config.durability}, {workers}"),
        *(Text(f"database {name}") for name in config.databases),
        Text(""),
        Table(("inbox", "inbound", "match", "complete when", "handler"), rows, whole=frozenset({"inbox"})),
    ]


def _settle(inbox: Inbox) -> str:
    from inboxd.config.models import Checksum, Marker, Quiet
    from inboxd.config.quantity import show_duration

    match inbox.settle:
        case Quiet(quiet=quiet):
            return f"quiet for {show_duration(quiet)}"
        case Marker(marker=marker):
            return f"{marker} lies beside it"
        case Checksum(checksum=kind):
            return f"its {kind} matches"
    return "renamed in"


def _handler(inbox: Inbox) -> str:
    handler = inbox.handler
    return handler.python or shlex.join(handler.command or ())


def schema(_options: Namespace) -> None:
    """For editors."""
    from inboxd.config.schema import schema as make

    with written():
        print(json.dumps(make(), indent=2))


def init(options: Namespace) -> None:
    """A folder to begin with."""
    from inboxd.calling import command
    from inboxd.config.template import init as make

    made = [Text(f"made {path}") for path in make(options.directory)]
    show([*made, Text(f"start it: {command('run', options.directory / 'config.yaml')}")])
