"""status, files, show, explain."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from typing import Any

from inboxd.cli import pages
from inboxd.cli.client import Fetch, Refused, ask, daemon_or_ledger
from inboxd.cli.output import give, remark
from inboxd.cli.page import Page
from inboxd.verbs import MOST_ROWS

_EVERY = 1.0  # seconds between two looks


def status(options: Namespace) -> None:
    """Once, or again and again."""

    def look() -> Page:
        return pages.status(ask(options, "status"))

    if options.watch and sys.stdout.isatty() and not options.json:
        from inboxd.cli.screen import watch

        watch(look, _EVERY)
    answer = ask(options, "status")
    give(options, answer, pages.status(answer))
    while options.watch:
        time.sleep(_EVERY)
        answer = ask(options, "status")
        give(options, answer, pages.status(answer))


def files(options: Namespace) -> None:
    """A list, from the daemon, or from the ledger while it is stopped."""
    wanted = {key: getattr(options, key) for key in ("inbox", "state", "outcome", "since", "before")}
    rows = _rows(daemon_or_ledger(options), options.limit + 1, wanted)
    answer = {"files": rows[: options.limit]}
    give(options, answer, pages.files(answer))
    if len(rows) > options.limit:
        more = f"--limit shows more, --before {rows[options.limit - 1]['id']} goes on from here"
        remark(f"there are more than these {options.limit}; {more}")


def _rows(fetch: Fetch, limit: int, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """In parts, so that no answer is large."""
    rows: list[dict[str, Any]] = []
    while len(rows) < limit:
        most = min(MOST_ROWS, limit - len(rows))
        part = fetch("files", **wanted, limit=most)["files"]
        rows += part
        if len(part) < most:
            break
        wanted = {**wanted, "before": part[-1]["id"]}
    return rows


def show(options: Namespace) -> None:
    """One file's story."""
    answer = daemon_or_ledger(options)("show", id=options.id)
    give(options, answer, pages.story(answer))


def explain(options: Namespace) -> None:
    """Why."""
    path = os.path.abspath(options.path)
    name = None if os.path.isabs(options.path) else options.path
    try:
        answer = ask(options, "explain", path=path, name=name)
    except Refused:
        folder, last = os.path.split(path)
        if os.path.realpath(folder) == folder:
            raise
        answer = ask(options, "explain", path=os.path.join(os.path.realpath(folder), last))
    give(options, answer, pages.explanation(answer))
