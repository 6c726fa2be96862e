"""What may stand on the command line. Verbs are imported when they are used, so that `inboxd status` is instant."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from inboxd.errors import EXIT_USAGE

_PLACES = ("config.yaml", "/etc/inboxd/config.yaml")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage()
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _later(module: str, function: str) -> Callable[[Any], int]:
    def act(options: Any) -> int:
        return int(getattr(importlib.import_module(f"inboxd.cli.{module}"), function)(options) or 0)

    return act


def default_config() -> Path:
    """$INBOXD_CONFIG, config.yaml here, or /etc/inboxd/config.yaml."""
    named = os.environ.get("INBOXD_CONFIG")
    if named:
        return Path(named)
    return next((Path(place) for place in _PLACES if Path(place).exists()), Path(_PLACES[0]))


def _span(text: str) -> float:
    from inboxd.config.units import duration

    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options; `act` among them runs the verb. Exits with 64 for what can't be understood."""
    parser = _Parser(prog="inboxd", description="Drop-folder ingestion: every complete file once, none lost.")
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version")
    common = _Parser(add_help=False)
    places = "$INBOXD_CONFIG, ./config.yaml, /etc/inboxd/config.yaml"
    common.add_argument(
        "-c", "--config", type=Path, default=default_config(), metavar="PATH", help=f"the configuration ({places})"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, module: str, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(act=_later(module, name))
        return made

    _serving(verb)
    _looking(verb)
    _changing(verb)
    return parser.parse_args(argv)


Verb = Callable[[str, str, str], argparse.ArgumentParser]


def _serving(verb: Verb) -> None:
    run = verb("run", "serving", "run the daemon, in the foreground")
    run.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    run.add_argument("--log-format", default="auto", choices=("auto", "terminal", "json", "journal"))
    verb("check", "serving", "check the configuration and load every handler, start nothing")
    verb("schema", "serving", "print the JSON Schema of the configuration, for editors")
    init = verb("init", "serving", "make a folder with a configuration and a handler to begin with")
    init.add_argument("directory", type=Path, metavar="DIR")


def _looking(verb: Verb) -> None:
    status = verb("status", "looking", "what is going on")
    status.add_argument("--watch", action="store_true", help="go on showing it, with progress bars")
    status.add_argument("--json", action="store_true")
    files = verb("files", "looking", "list files, the newest first")
    files.add_argument("--inbox")
    files.add_argument("--state", help="claimed, running, waiting, decided, done, abandoned or lost")
    files.add_argument("--outcome", help="processed, error or quarantine")
    files.add_argument("--since", type=_span, metavar="SPAN", help="claimed within this span, such as 2h")
    files.add_argument("--limit", type=int, default=100)
    files.add_argument("--json", action="store_true")
    show = verb("show", "looking", "one file's whole story")
    show.add_argument("id", metavar="ID", help="its id, or the beginning of it")
    show.add_argument("--json", action="store_true")
    explain = verb("explain", "looking", "why a file has not been processed")
    explain.add_argument("path", metavar="PATH")
    explain.add_argument("--json", action="store_true")


def _changing(verb: Verb) -> None:
    retry = verb("retry", "changing", "run files from errors/ again")
    retry.add_argument("ids", nargs="*", metavar="ID")
    retry.add_argument("--errors", action="store_true", help="all errors")
    retry.add_argument("--inbox", help="with --errors: of this inbox")
    retry.add_argument("--since", type=_span, metavar="SPAN", help="with --errors: claimed within this span")
    retry.add_argument("--json", action="store_true")
    for name, text in (("pause", "take and run nothing of an inbox"), ("resume", "let a paused inbox go on")):
        verb(name, "changing", text).add_argument("inbox", metavar="INBOX")
    drain = verb("drain", "changing", "stop the daemon once the files in progress are finished")
    drain.add_argument("--no-wait", action="store_true", help="do not wait until it has stopped")
    verb("reload", "changing", "read the configuration again: all or nothing")
    prune = verb("prune", "changing", "remove delivered files that are older than their inbox keeps them")
    prune.add_argument("--dry-run", action="store_true", help="only count them")
    prune.add_argument("--json", action="store_true")
    doctor = verb("doctor", "changing", "look for what should not be")
    doctor.add_argument("--json", action="store_true")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_rest: Any) -> None:
        from inboxd import __version__

        parser.exit(0, f"inboxd {__version__}\n")
