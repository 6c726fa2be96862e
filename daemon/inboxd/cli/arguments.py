"""What may stand on the command line. Verbs are imported when they are used, so that `inboxd status` is instant."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from inboxd.errors import EXIT_USAGE, ConfigError
from inboxd.escape import escape
from inboxd.model import Outcome, State

_CONFIGS = ("config.yaml", "/etc/inboxd/config.yaml")
_LOOKED_AT = f"neither --config nor $INBOXD_CONFIG names one, so it was looked for at ./{' and '.join(_CONFIGS)}"


class _Parser(argparse.ArgumentParser):
    verbs: Collection[str] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {escape(message)}\n")


class _Verbs:
    """Adds verbs to a parser."""

    def __init__(self, parser: _Parser) -> None:
        self._verbs: Any = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser)

    def names(self) -> Collection[str]:
        """All of them."""
        return tuple(self._verbs.choices)

    def serving(self, name: str, text: str) -> argparse.ArgumentParser:
        """A verb that runs here."""
        return self.here(name, "serving", text)

    def here(self, name: str, module: str, text: str) -> argparse.ArgumentParser:
        """Likewise, in a module of its own."""
        return self._add(name, module, text, asks=False)

    def asking(self, name: str, module: str, text: str) -> argparse.ArgumentParser:
        """A verb that asks the daemon."""
        made = self._add(name, module, text, asks=True)
        made.add_argument("--json", action="store_true", help="print the answer as one line of JSON (docs/cli.md)")
        return made

    def _add(self, name: str, module: str, text: str, *, asks: bool) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = self._verbs.add_parser(name, help=text, description=text)
        _add_places(made, default=argparse.SUPPRESS)  # what stood before the verb holds
        made.set_defaults(act=_later(module, name), asks=asks)
        return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options; `act` among them runs the verb. Raises SystemExit, with 64 for what can't be understood."""
    parser = commands()
    options = parser.parse_args(argv)
    if not hasattr(options, "act"):
        parser.error(f"name a verb: {', '.join(parser.verbs)}; `inboxd --help` tells what they do")
    if options.state_dir is not None and not options.asks:
        parser.error("--state-dir is for verbs that ask the daemon; this one takes `state` from the configuration")
    options.unnamed = options.config is None and not os.environ.get("INBOXD_CONFIG")
    options.config = options.config or default_config()
    return options


def commands() -> _Parser:
    """All that may be said; inboxd(1) is drawn from it, too."""
    parser = _Parser(prog="inboxd", description="Drop-folder ingestion: every complete file once, none lost.")
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version")
    _add_places(parser, default=None)
    verbs = _Verbs(parser)
    _add_serving(verbs)
    _add_tuning(verbs)
    _add_looking(verbs)
    _add_changing(verbs)
    parser.verbs = verbs.names()
    return parser


def default_config() -> Path:
    """$INBOXD_CONFIG, config.yaml here, or /etc/inboxd/config.yaml; where none is to be seen, the likelier one."""
    named = os.environ.get("INBOXD_CONFIG")
    if named:
        return Path(named)
    here, everywhere = _CONFIGS
    if os.path.exists(here):  # of a folder that we may not enter it says no, too
        return Path(here)
    return Path(everywhere if os.path.isdir(os.path.dirname(everywhere)) else here)


def _add_places(parser: argparse.ArgumentParser, default: Any) -> None:
    places = "$INBOXD_CONFIG, ./config.yaml, /etc/inboxd/config.yaml"
    parser.add_argument(
        "-c", "--config", type=Path, default=default, metavar="PATH", help=f"the configuration ({places})"
    )
    parser.add_argument(
        "--state-dir", type=Path, default=default, metavar="DIR", help="the daemon's state folder, instead of --config"
    )


def _later(module: str, function: str) -> Callable[[Any], int]:
    def act(options: Any) -> int:
        try:
            return int(getattr(importlib.import_module(f"inboxd.cli.{module}"), function)(options) or 0)
        except ConfigError as error:
            if options.unnamed and not os.path.exists(options.config):
                raise ConfigError([*error.problems, _LOOKED_AT]) from error
            raise

    return act


def _add_serving(verbs: _Verbs) -> None:
    run = verbs.serving("run", "run the daemon, in the foreground")
    run.add_argument(
        "--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="from this level on"
    )
    run.add_argument(
        "--log-format", default="auto", choices=("auto", "terminal", "json", "journal"), help="auto: what stderr is"
    )
    check = verbs.serving("check", "check the configuration and load every handler, start nothing")
    check.add_argument(
        "--connect",
        nargs="?",
        const="",
        metavar="NAME",
        help="connect to all sources and destinations, or to this one, too; fetch and send nothing",
    )
    verbs.serving("schema", "print the JSON Schema of the configuration, for editors")
    init = verbs.serving("init", "make a folder with a configuration and a handler to begin with")
    init.add_argument("directory", type=Path, metavar="DIR", help="is made if need be; nothing in it is overwritten")


def _add_tuning(verbs: _Verbs) -> None:
    tune = verbs.here("tune", "tuning", "find the settings that suit this machine, your handler and your files")
    tune.add_argument(
        "samples", type=Path, metavar="DIR", help="holds some files such as the inbox gets; they are copied"
    )
    tune.add_argument("--inbox", metavar="INBOX", help="whose handler to run, on copies, with all it does elsewhere")
    tune.add_argument("--files", type=_count, default=1000, metavar="N", help="so many copies in each trial (1000)")
    tune.add_argument("--processes", type=_counts, default=(), metavar="N,…", help="numbers of workers to try")
    tune.add_argument("--batch-sizes", type=_counts, default=(), metavar="N,…", help="batch sizes to try")
    tune.add_argument("--durability", choices=("full", "process", "both"), help="instead of the configured one")
    tune.add_argument("--rounds", type=_count, default=2, metavar="N", help="trials of each setting (2)")
    tune.add_argument("--json", action="store_true", help="print the answer as one line of JSON (docs/cli.md)")


def _add_looking(verbs: _Verbs) -> None:
    status = verbs.asking("status", "looking", "what is going on")
    status.add_argument("--watch", action="store_true", help="look again every second")
    files = verbs.asking("files", "looking", "list files, the newest first")
    files.add_argument("--inbox", metavar="INBOX", help="of this inbox")
    files.add_argument("--state", choices=[state.lower() for state in State], help="in this state (docs/lifecycle.md)")
    files.add_argument("--outcome", choices=[str(outcome) for outcome in Outcome], help="that ended so")
    files.add_argument("--since", type=_span, metavar="SPAN", help="claimed within this span, such as 2h")
    files.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many (100)")
    files.add_argument("--before", metavar="ID", help="only what was claimed before this file")
    show = verbs.asking("show", "looking", "one file's whole story")
    show.add_argument("id", metavar="ID", help="its id, or the beginning of it")
    explain = verbs.asking("explain", "looking", "why a file has not been processed, or nothing comes or goes")
    explain.add_argument(
        "path",
        metavar="PATH|NAME",
        help="a path in any folder of any inbox; the name of a file, source, item, destination or result",
    )


def _add_changing(verbs: _Verbs) -> None:
    retry = verbs.asking("retry", "changing", "run files from errors/ again")
    retry.add_argument(
        "ids", nargs="*", metavar="ID", help="the id of an error, as `files` and NAME.error.json tell it"
    )
    retry.add_argument("--errors", action="store_true", help="all errors, or those the next options describe")
    retry.add_argument("--inbox", metavar="INBOX", help="with --errors: of this inbox")
    retry.add_argument("--since", type=_span, metavar="SPAN", help="with --errors: claimed within this span")
    forget = verbs.asking("forget", "changing", "let go of errors whose files were removed from errors/")
    forget.add_argument("ids", nargs="+", metavar="ID", help="the id of such an error")
    for name, text in (("pause", "take and run nothing of an inbox"), ("resume", "let a paused inbox go on")):
        verbs.asking(name, "changing", text).add_argument(
            "inbox", metavar="INBOX", help="its name in the configuration"
        )
    poll = verbs.asking("poll", "changing", "ask a source now for what it has")
    poll.add_argument("source", metavar="SOURCE", help="its name in the configuration")
    poll.add_argument(
        "--again", nargs="*", metavar="ITEM", help="fetch items that were given up, all or those named, after all"
    )
    send = verbs.asking("send", "changing", "send now what waits for a destination")
    send.add_argument("destination", metavar="DESTINATION", help="its name in the configuration")
    chosen = send.add_mutually_exclusive_group()
    chosen.add_argument(
        "--again", nargs="*", metavar="RESULT", help="send results that were given up, all or those named, after all"
    )
    chosen.add_argument(
        "--drop", nargs="*", metavar="RESULT", help="send those no more; unsent, they appear in outbound/"
    )
    drain = verbs.asking("drain", "changing", "stop the daemon once the files in progress are finished")
    drain.add_argument("--no-wait", action="store_true", help="do not wait until it has stopped")
    verbs.asking("reload", "changing", "read the configuration again: all or nothing")
    prune = verbs.asking("prune", "changing", "remove delivered files that are older than their inbox keeps them")
    prune.add_argument("--dry-run", action="store_true", help="only count them")
    doctor = verbs.asking("doctor", "doctor", "look for what should not be, or whether a partner can be reached")
    doctor.add_argument(
        "source", nargs="?", metavar="NAME", help="a source or destination: connect to it, change nothing"
    )
    doctor.add_argument(
        "--thorough", action="store_true", help="look at every file that has ever been here, and read its bytes"
    )
    doctor.add_argument(
        "--repair", action="store_true", help="while the daemon is stopped: do what its next start would do first"
    )
    doctor.add_argument(
        "--rebuild-ledger",
        action="store_true",
        help="with the daemon stopped: make a new ledger from the folders, and from what can be read of the old one",
    )


def _span(text: str) -> float:
    from inboxd.config.quantity import duration

    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= len(text) <= 9 and int(text) > 0):
        raise argparse.ArgumentTypeError("write a whole number above 0")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(_count, text.split(",")))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_rest: Any) -> None:
        from inboxd import __version__
        from inboxd.cli.output import written

        with written():
            print(f"inboxd {__version__}")
        parser.exit()
