"""doctor --rebuild-ledger: a new ledger from the folders, and from what can be read of the old one."""

from __future__ import annotations

import os
import pwd
from argparse import Namespace
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from inboxd.calling import command
from inboxd.cli.output import give
from inboxd.cli.page import Page, Text
from inboxd.errors import DiskError, PreconditionError, UsageError

if TYPE_CHECKING:
    from inboxd.config.models import Config
    from inboxd.custody.rebuild import Summary
    from inboxd.custody.relics import Place


def rebuild(options: Namespace) -> int:
    """The daemon must be stopped: its locks are taken as it takes them."""
    from inboxd import folders
    from inboxd.clock import SystemClock
    from inboxd.config.load import load
    from inboxd.custody.rebuild import Rebuild
    from inboxd.pool.generation import GenerationLock

    if options.source is not None or options.state_dir is not None:
        raise UsageError("--rebuild-ledger takes neither a NAME nor --state-dir", hint="it reads the configuration")
    config = load(options.config, at_rest=True)
    with ExitStack() as held:
        try:
            refuse_others(config, "doctor --rebuild-ledger")
            held.callback(os.close, folders.hold_state(config.state))
            held.enter_context(folders.hold(config))
            folders.check(config)
            generation = GenerationLock(config.state / "generation.lock")
            generation.take(config.stop_grace)
            held.callback(generation.release)
            summary = Rebuild(config.ledger_url, config.state, _places(config), SystemClock()).run()
        except OSError as error:
            place = str(error.filename or config.state)
            raise DiskError(
                f"{place}: {error.strerror}; the ledger is as it was", errno=error.errno or 0, path=place,
                hint="all folders of all inboxes must be there: mount what is missing, then say it again",
            ) from error  # fmt: skip
    answer = {name: getattr(summary, name) for name in summary.__slots__}
    give(options, answer, [*_told(summary), *_next(config)])
    return 0


def refuse_others(config: Config, verb: str) -> None:
    """What another user makes here could not be read by the daemon. Raises PreconditionError, OSError."""
    owner = os.stat(config.state).st_uid
    if owner == os.geteuid():
        return
    name = str(owner)
    with suppress(KeyError):
        name = pwd.getpwuid(owner).pw_name
    raise PreconditionError(
        f"{config.state} belongs to the user {name}, and what is made there must, too",
        hint=f"`runuser -u {name} -- {command(verb, config.file)}`",
    )


def _places(config: Config) -> list[Place]:
    from inboxd.custody.relics import Place
    from inboxd.model import Outcome

    return [
        Place(
            name, {Outcome.PROCESSED: inbox.folder("processed"), Outcome.ERROR: inbox.folder("errors"),
                   Outcome.QUARANTINE: inbox.folder("quarantine")},
            inbox.layout, inbox.duplicates.policy != "process", inbox.folder("work"),
        )
        for name, inbox in config.inboxes.items()
    ]  # fmt: skip


def _told(summary: Summary) -> Page:
    taken = ", ".join(f"{count:,} of {table}" for table, count in summary.taken.items() if count)
    found = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(summary.found.items()))
    old = taken or ("nothing" if summary.broken or summary.unreadable else "")
    none = "there is no old ledger to take anything over from"
    lines: Page = [Text(f"taken over from the old ledger: {old}" if old else none)]
    lost = ", ".join(f"{count:,} of {table}" for table, count in summary.unreadable.items())
    if summary.broken:
        lines.append(Text(f"a part can't be read of: {', '.join(summary.broken)}", "warn"))
    if lost:
        lines.append(Text(f"left out, since they make no sense: {lost}", "warn"))
    lines.append(Text(f"found in the folders, and in no row: {found or 'nothing'}"))
    if found:
        lines.append(Text("these have new ids, but for errors that have their sidecar: it tells their id"))
    for count, what in (
        (summary.moved_on, "files had come to their ends since the old ledger"),
        (summary.to_adopt, "files in work/ without a row: adopted at the next start, and run, perhaps once more"),
        (summary.to_fetch, "items whose files are nowhere: fetched again"),
        (summary.missing, "files that were held are in no folder: called LOST at the next start"),
    ):
        if count:
            lines.append(Text(f"{count:,} {what}"))
    if summary.aside and old:
        lines.append(Text(f"the old ledger is kept: {summary.aside}, with its -wal and -shm where it had them"))
    return lines


def _next(config: Config) -> Page:
    sources = any(inbox.sources for inbox in config.inboxes.values())
    go_on = f"the new ledger is ready; go on with `systemctl start inboxd`, or `{command('run', config.file)}`"
    again = [Text("items of sources that no row knows any more are fetched again")] if sources else []
    return [*again, Text(go_on, "good")]
