"""retry, pause, resume, drain, reload, prune, doctor."""

from __future__ import annotations

import json
import time
from argparse import Namespace

from inboxd.cli.daemon import ask
from inboxd.errors import EXIT_SOFTWARE, NotRunning
from inboxd.escape import escape


def retry(options: Namespace) -> int:
    """Errors run again."""
    answer = ask(options, "retry", ids=options.ids, errors=options.errors, inbox=options.inbox, since=options.since)
    if options.json:
        print(json.dumps(answer))
        return 0
    print(f"{len(answer['retried'])} files run again")
    for file_id, why in answer["refused"].items():
        print(escape(f"refused {file_id}: {why}"))
    return EXIT_SOFTWARE if answer["refused"] else 0


def pause(options: Namespace) -> None:
    """Take and run nothing."""
    ask(options, "pause", inbox=options.inbox)
    print(f"inbox {options.inbox} is paused; `inboxd resume {options.inbox}` lets it go on")


def resume(options: Namespace) -> None:
    """Go on."""
    ask(options, "resume", inbox=options.inbox)
    print(f"inbox {options.inbox} goes on")


def drain(options: Namespace) -> None:
    """Stop, and wait for it."""
    ask(options, "drain")
    while not options.no_wait:
        try:
            ask(options, "status")
        except NotRunning:
            print("inboxd has stopped")
            return
        time.sleep(0.2)


def reload(options: Namespace) -> None:
    """All or nothing."""
    changes = ask(options, "reload")["changes"]
    print("\n".join(changes) if changes else "nothing has changed")


def prune(options: Namespace) -> None:
    """Remove what is old."""
    removed = ask(options, "prune", timeout=3600.0, dry_run=options.dry_run)["removed"]
    if options.json:
        print(json.dumps({"removed": removed}))
        return
    verb = "would be removed" if options.dry_run else "removed"
    for inbox, counts in removed.items():
        print(f"{inbox}: {counts['processed']} processed, {counts['errors']} errors {verb}")


def doctor(options: Namespace) -> int:
    """Look for what should not be; 1 when something was found."""
    answer = ask(options, "doctor", timeout=3600.0)
    if options.json:
        print(json.dumps(answer))
    else:
        for problem in answer["problems"]:
            print(escape(problem))
        print(f"checked: {', '.join(answer['checked'])}; {len(answer['problems'])} problems")
    return 1 if answer["problems"] else 0
