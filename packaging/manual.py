"""Writes the text of inboxd(1) and inboxd.yaml(5) into a folder, in Markdown that lowdown(1) makes man pages of.

The first is drawn from the command line's parser, the second from the models of the configuration.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from inboxd import __version__
from inboxd.cli.arguments import commands
from inboxd.config.models import TEMPORARY_NAMES
from inboxd.config.reference import INTRODUCTION, Key, tables

_COMMAND = """\
# NAME

inboxd - drop-folder ingestion daemon

# SYNOPSIS

`inboxd` [`-c` *PATH* | `--state-dir` *DIR*] *VERB* ...

# DESCRIPTION

`inboxd run` watches inbound directories, claims each file that is complete, runs a handler on it in a supervised pool
of worker processes, and moves it to processed/ or errors/. Each file ends exactly once, with its story in a ledger. All
other verbs look at it or change what it does. As a service it is started by systemd: **systemctl start inboxd**,
**systemctl reload inboxd**, **systemctl stop inboxd** (after `inboxd drain` it would start it again), **journalctl -u
inboxd**.

Names of files are shown with control characters and bytes that are no UTF-8 escaped. On a terminal answers are tables
with colours; in a pipe they are plain text.

# OPTIONS

"""
_JSON = """\
`--json`
:   for verbs that ask the daemon: its answer as one line of JSON (/usr/share/doc/inboxd/docs/cli.md tells its keys)

"""
_COMMAND_REST = """\
# SIGNALS

SIGHUP
:   reads the configuration again, as `inboxd reload`

SIGTERM, SIGINT
:   stop the daemon; files in progress get `stop_grace`

# ENVIRONMENT

INBOXD_CONFIG
:   the configuration, where `-c` is not given

CREDENTIALS_DIRECTORY
:   set by systemd; where `{credential: NAME}` is read from

# FILES

/etc/inboxd/config.yaml
:   the configuration of the service

/var/lib/inboxd
:   its state: ledger, control socket, locks

/srv/inboxd
:   the inboxes

/usr/share/doc/inboxd/docs
:   the whole manual: operations.md, journal.md, handlers.md, guarantees.md; ../examples has drop-ins

# EXIT STATUS

0
:   done

1
:   done, and not all is well: `retry` was refused for some files, `doctor` found something

64
:   the request makes no sense, or is not allowed to this user

69
:   no daemon is running, or it does not answer

70
:   a fault of inboxd, or what it needs failed

74
:   the answer can't be written

75
:   another daemon holds the state folder

78
:   the configuration, the ledger or the folders are refused

# EXAMPLES

Why is this file still here?

    inboxd explain /srv/inboxd/orders/inbound/invoice-7.csv

Run all errors of the last two hours again:

    inboxd retry --errors --inbox orders --since 2h

One file's whole story, by the id that `inboxd files` shows:

    journalctl -u inboxd INBOXD_FILE_ID=01a20be3fab677d19e76190670f29ed2

# SEE ALSO

inboxd.yaml(5), systemctl(1), journalctl(1), systemd.exec(5)
"""
_CONFIGURATION = """\
# NAME

inboxd.yaml - configuration of inboxd

# SYNOPSIS

/etc/inboxd/config.yaml

# DESCRIPTION

"""


def command() -> str:
    """inboxd(1)."""
    parser = commands()
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    lines = [_head(1, "inboxd"), _COMMAND, *_options(parser, without=set()), _JSON, "# VERBS\n\n"]
    common = {option for action in parser._actions for option in action.option_strings}
    for help_line in verbs._choices_actions:
        verb = verbs.choices[help_line.dest]
        lines += [f"## {_usage(verb)}\n\n{_sentence(help_line.help)}.\n\n"]
        lines += _options(verb, without={*common, "--json"})
    return "".join(lines) + _COMMAND_REST


def configuration() -> str:
    """inboxd.yaml(5)."""
    lines = [_head(5, "inboxd.yaml"), _CONFIGURATION, INTRODUCTION, "\n"]
    for table in tables():
        lines += [f"# {table.title.replace('`', '')}\n\n{table.about}\n\n", *map(_key, table.keys)]
    names = ", ".join(f"`{name}`" for name in TEMPORARY_NAMES)  # as code: their signs mean something in Markdown
    lines += [f"# Temporary names\n\nWhat `ignore_temporary` leaves alone: {names}.\n\n"]
    return "".join(lines) + "# SEE ALSO\n\ninboxd(1)\n"


def _head(section: int, title: str) -> str:
    return f"title: {title}\nsection: {section}\nsource: inboxd {__version__}\nvolume: inboxd\n\n"


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:]}" if text else ""


def _options(parser: argparse.ArgumentParser, without: set[str]) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or set(action.option_strings) & without:
            continue
        value = f" *{action.metavar or '|'.join(action.choices or ())}*" if action.nargs != 0 else ""
        names = ", ".join(f"`{name}`{value}" for name in action.option_strings) or f"*{action.metavar}*"
        yield f"{names}\n:   {action.help}\n\n"


def _usage(verb: argparse.ArgumentParser) -> str:
    usage = " ".join(verb.format_usage().removeprefix("usage: ").split())
    return re.sub(r" \[(-h|-c PATH|--state-dir DIR|--json)\]", "", usage)


def _key(key: Key) -> str:
    default = f"default {key.default}" if key.default.startswith("`") else key.default
    of = ", ".join(part for part in (key.type, default) if part and part != "see below")
    return f"`{key.name}` ({of})\n:   {key.meaning}\n\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, text in (("inboxd.1", command()), ("inboxd.yaml.5", configuration())):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
