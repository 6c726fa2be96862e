"""status, files, show, explain."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from typing import Any

from inboxd.cli import show as showing
from inboxd.cli.daemon import ask
from inboxd.errors import NotRunning
from inboxd.escape import escape


def status(options: Namespace) -> None:
    """Once, or again and again."""
    if not options.watch:
        answer = ask(options, "status")
        print(json.dumps(answer) if options.json else showing.status(answer))
        return
    if not sys.stdout.isatty() or options.json:
        while True:
            answer = ask(options, "status")
            print(json.dumps(answer) if options.json else showing.status(answer), flush=True)
            time.sleep(1)
    showing.watch(lambda: ask(options, "status"))


def files(options: Namespace) -> None:
    """A list, from the daemon, or from the ledger while it is stopped."""
    wanted = {key: getattr(options, key) for key in ("inbox", "state", "outcome", "since", "limit")}
    answer = _ask_or_read(options, "files", **wanted)
    print(json.dumps(answer) if options.json else showing.files(answer["files"]))


def show(options: Namespace) -> None:
    """One file's story."""
    answer = _ask_or_read(options, "show", id=options.id)
    print(json.dumps(answer) if options.json else showing.story(answer))


def explain(options: Namespace) -> None:
    """Why."""
    answer = ask(options, "explain", path=os.path.abspath(options.path))
    if options.json:
        print(json.dumps(answer))
        return
    for sentence in answer["why"]:
        print(escape(sentence))
    if answer["file"]:
        print(showing.files([answer["file"]]))


def _ask_or_read(options: Namespace, verb: str, **arguments: Any) -> Any:
    try:
        return ask(options, verb, **arguments)
    except NotRunning:
        from inboxd.operator import read_only

        print("inboxd: the daemon is not running; this is read from the ledger", file=sys.stderr)
        return getattr(read_only(options.config), verb)(**arguments)
