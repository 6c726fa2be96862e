"""doctor: what should not be, by the daemon's own word and by a look from outside; and what repairs it."""

from __future__ import annotations

import sqlite3
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inboxd.cli import pages
from inboxd.cli.client import LONG, ask, has_run, state_folder
from inboxd.cli.output import give, remark
from inboxd.errors import ConfigError, InboxdError, NotRunning, UsageError

if TYPE_CHECKING:
    from inboxd.checker.facts import Installation

EXIT_FOUND = 1  # done, and not all is well

_NEWEST = 100_000  # files that have ended are looked at, unless thoroughly
_AGAIN = 1.0  # seconds between two looks at a daemon that runs; a turn of its pipeline is far shorter

_RESTART = "; a restart settles it, or, while the daemon is stopped, `inboxd doctor --repair`"
_REBUILD = "; to make it known: while the daemon is stopped, `inboxd doctor --rebuild-ledger`"
_RENEW = "; restore it from a backup, or, while the daemon is stopped, `inboxd doctor --rebuild-ledger`"
#: What to do about violations that begin so; the first that fits.
_REMEDIES = {
    "I3: no row knows ": _REBUILD,
    "I2: inbox ": "; they wait in its work/ until it is there again, and inboxd is restarted",
    "I2: ": _RESTART,
    "I4: ": _RESTART,
    "I12: the ledger ": _RENEW,
    "I12: integrity_check: ": _RENEW,
}

Row = dict[str, Any]


def doctor(options: Namespace) -> int:
    """Look for what should not be; 1 when something was found."""
    if options.rebuild_ledger:
        from inboxd.cli.repairing import rebuild

        return rebuild(options)
    if options.repair:
        return _repair(options)
    try:
        answer = ask(options, "doctor", LONG, source=options.source)
        pid = ask(options, "ping")["pid"]
    except NotRunning:
        if options.source is not None or options.state_dir is not None or not has_run(state_folder(options)):
            raise
        remark("the daemon is not running; this is what its ledger and its folders say")
        answer, pid = {"problems": [], "checked": [], "sources": [], "destinations": []}, None
    if options.source is None and options.state_dir is None and has_run(state_folder(options)):
        _look(options, answer, pid)
    return _tell(options, answer)


def _tell(options: Namespace, answer: Row) -> int:
    give(options, answer, pages.findings(answer))
    return EXIT_FOUND if answer["problems"] else 0


def _look(options: Namespace, answer: Row, pid: int | None) -> None:
    """Add what the checker sees. While the daemon goes on, only what it sees twice is so."""
    try:
        installation = _installation(Path(options.config))
    except ConfigError as error:
        words = "; ".join(error.problems)
        answer["problems"].append(f"ledger and folders were not looked at, since the configuration is refused: {words}")
        return
    found, held = _violations(installation, options.thorough, pid)
    if found and pid is not None:
        time.sleep(_AGAIN)
        again, _held = _violations(installation, options.thorough, pid)
        found = [one for one in again if one in set(found)]
    if pid is None:
        answer["in_progress"] = held
    answer["problems"] += [f"{one}{_remedy(one)}" for one in found]
    what = "all files" if options.thorough else f"the newest {_NEWEST:,} files, and all in errors/ and quarantine/"
    answer["checked"] += ["the ledger against the folders", what]


def _remedy(violation: str) -> str:
    return next((remedy for words, remedy in _REMEDIES.items() if violation.startswith(words)), "")


def _violations(installation: Installation, thorough: bool, pid: int | None) -> tuple[list[str], int]:
    """With them, how many files are on their way."""
    from inboxd.checker import checks
    from inboxd.checker.evidence import Evidence
    from inboxd.checker.facts import Facts

    evidence = Evidence(taken=None, lived=True, daemon=pid, newest=None if thorough else _NEWEST, bytes=thorough)
    try:
        facts = Facts(installation, evidence)
        return checks.of(facts), facts.on_their_way
    except sqlite3.DatabaseError as error:
        remedy = "" if isinstance(error, sqlite3.OperationalError) else _RENEW
        return [f"the ledger can't be read: {error}{remedy}"], 0
    except Exception as error:  # noqa: BLE001 - a ledger can be broken in any way, and so can a disk
        return [f"the ledger or a folder can't be read: {str(error).strip() or type(error).__name__}"], 0


def _installation(path: Path) -> Installation:
    """What the checker has to know. Raises ConfigError."""
    from inboxd.checker.facts import Installation, Rules
    from inboxd.config.load import load
    from inboxd.config.models import FOLDERS
    from inboxd.custody.engine import sqlite_path

    config = load(path, at_rest=True)
    inboxes = {
        name: Rules(
            folders={which: inbox.folder(which) for which in FOLDERS},
            max_attempts=inbox.retry.max_attempts,
            max_failures=inbox.retry.max_failures,
            keeps=False,  # what is gone may have been pruned, now or by an earlier configuration
        )
        for name, inbox in config.inboxes.items()
    }
    return Installation(config.state, sqlite_path(config.ledger_url) or config.ledger_url, inboxes)


def _repair(options: Namespace) -> int:
    """Do what the next start would do first, and look again. Raises AlreadyRunning, InboxdError."""
    from inboxd.app import repair
    from inboxd.cli.repairing import refuse_others
    from inboxd.config.load import load

    if options.source is not None or options.state_dir is not None:
        raise UsageError("--repair is for a whole installation", hint="inboxd doctor --repair -c CONFIG")
    if not has_run(state_folder(options)):
        raise InboxdError("there is nothing to repair: no ledger exists yet", hint="inboxd run")
    refuse_others(load(options.config), "doctor --repair")
    done = repair(Path(options.config))
    answer: Row = {"problems": [], "checked": [], "sources": [], "destinations": [], "repaired": done}
    _look(options, answer, None)
    return _tell(options, answer)
