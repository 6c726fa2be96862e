"""retry, forget, pause, resume, poll, send, drain, reload, prune."""

from __future__ import annotations

import os
import select
from argparse import Namespace
from typing import Any

from inboxd.cli import pages, sendpages, sourcepages
from inboxd.cli.client import LONG, Ended, ask, process
from inboxd.cli.output import give
from inboxd.cli.page import Page, Text

EXIT_FOUND = 1  # done, and not all is well
_LAST_WORDS = 60.0  # seconds within which a daemon that has hung up, since it ends, is gone


def retry(options: Namespace) -> int:
    """Errors run again; 1 when some were refused."""
    answer = ask(
        options, "retry", LONG, ids=options.ids or None, errors=options.errors, inbox=options.inbox,
        since=options.since,
    )  # fmt: skip
    give(options, answer, pages.retried(answer))
    return EXIT_FOUND if answer["refused"] else 0


def forget(options: Namespace) -> int:
    """Errors whose files are gone are let go of; 1 when some were refused."""
    answer = ask(options, "forget", LONG, ids=options.ids)
    give(options, answer, pages.forgotten(answer))
    return EXIT_FOUND if answer["refused"] else 0


def pause(options: Namespace) -> None:
    """Take and run nothing."""
    answer = ask(options, "pause", inbox=options.inbox)
    give(options, answer, [Text(f"{options.inbox} is paused; `inboxd resume {options.inbox}` lets it go on")])


def resume(options: Namespace) -> None:
    """Go on."""
    answer = ask(options, "resume", inbox=options.inbox)
    give(options, answer, [Text(f"{options.inbox} goes on")])


def poll(options: Namespace) -> int:
    """Ask a source now; 1 when some items could not be renewed."""
    again = options.again is not None
    answer = ask(options, "poll", source=options.source, again=again, items=options.again or None)
    give(options, answer, sourcepages.polled(answer))
    return EXIT_FOUND if answer["refused"] else 0


def send(options: Namespace) -> int:
    """Try a destination now; 1 when some of what was named could not be meant."""
    again, drop = options.again is not None, options.drop is not None
    results = options.again or options.drop or None
    answer = ask(options, "send", destination=options.destination, again=again, drop=drop, results=results)
    give(options, answer, sendpages.sent(answer))
    return EXIT_FOUND if answer["refused"] else 0


def drain(options: Namespace) -> None:
    """Stop, and wait for it."""
    if options.no_wait:
        answer = ask(options, "drain")
        give(options, answer, [Text("the daemon is stopping"), *_started_again(answer)])
        return
    fd = process(options)
    try:
        answer = {"draining": True}
        try:
            answer = ask(options, "drain")
        except Ended:  # it may be gone before it has told us so; or it has no room for us, and goes on
            if not select.select([fd], [], [], _LAST_WORDS)[0]:
                raise
        select.select([fd], [], [])
    finally:
        os.close(fd)
    give(options, answer, [Text("the daemon has stopped"), *_started_again(answer)])


def _started_again(answer: dict[str, Any]) -> Page:
    """An older daemon does not say that it is a service."""
    told = "it ran as a service, and systemd starts it again; to stop the service: `systemctl stop inboxd`"
    return [Text(told, "warn")] if answer.get("service") else []


def reload(options: Namespace) -> None:
    """All or nothing."""
    answer = ask(options, "reload", LONG)
    page: Page = [Text(change) for change in answer["changes"]]
    if waits := answer.get("waits_for"):
        page.append(Text(f"in force when these inboxes have finished what they have: {', '.join(waits)}", "warn"))
    give(options, answer, page)


def prune(options: Namespace) -> int:
    """Remove what is old."""
    answer = ask(options, "prune", LONG, dry_run=options.dry_run)
    give(options, answer, pages.pruned(answer, options.dry_run))
    return EXIT_FOUND if answer["refused"] else 0
