"""Arrivals that are expected by an hour: looked for in the ledger, told, and remembered beyond this process.

What an `expect` means is policy (intake/expected.py); this is its clock, its count and its memory.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from inboxd import events, threads
from inboxd.clock import Clock
from inboxd.config.models import Config
from inboxd.config.sources import Expect
from inboxd.custody import disk
from inboxd.custody.history import History
from inboxd.errors import LedgerError, LedgerRefused
from inboxd.events import emit
from inboxd.intake.expected import Arrivals, Expected, Memory

_FILE = "expected"  # its name in the state folder


class Subject(NamedTuple):
    """Whose arrivals are expected: an inbox's, or those of a source of it."""

    inbox: str
    source: str | None
    has_items: bool  # files of it may have been items


@dataclass(slots=True)
class _Watch:
    """One `expect`, and how it stands."""

    subject: Subject
    rules: Expect
    arrivals: Arrivals
    standing: dict[str, Any] | None = None


class Expectations:
    """`look` and `start` are for one thread at a time; `standing` for any."""

    def __init__(self, state: Path, history: History, clock: Clock) -> None:
        self._path = state / _FILE
        self._history = history
        self._clock = clock
        self._watches: dict[str, _Watch] = {}
        self._refused = False  # at the last look
        self._thread: threading.Thread | None = None

    def start(self, config: Config) -> None:
        """Look in a thread of its own, unless one is at it still: a ledger may be slow, and the caller must turn."""
        wanted = dict(_wanted(config))
        if (wanted or self._watches) and (self._thread is None or not self._thread.is_alive()):
            thread = threading.Thread(target=self.look, args=(wanted,), name="arrivals", daemon=True)
            with contextlib.suppress(OSError):  # no thread is left: the next time, then
                threads.start(thread)
                self._thread = thread

    def standing(self, inbox: str, source: str | None = None) -> dict[str, Any] | None:
        """How the `expect` of an inbox or a source stood at the last look; None where there is none."""
        watch = self._watches.get(_key(inbox, source))
        return watch.standing if watch is not None else None

    def look(self, wanted: dict[str, tuple[Subject, Expect]]) -> None:
        """Judge what has ended, tell it, and write down what was judged."""
        before = self._recall()
        self._watches = {key: self._watch(key, *both, before) for key, both in wanted.items()}
        for watch in self._watches.values():
            memory = watch.arrivals.memory
            try:
                self._look(watch)
            except LedgerError as error:  # the same windows are judged at the next look
                self._tell(error)
                watch.arrivals = Arrivals.recalled(_expected(watch.rules), watch.rules.at_least, memory)
        after = {key: _saved(watch) for key, watch in self._watches.items()}
        if after != before:
            self._remember(after)

    def _tell(self, error: LedgerError) -> None:
        """One that is away is told as an outage of the pipeline; damage may be met by nobody else."""
        if isinstance(error, LedgerRefused) and not self._refused:
            emit(events.LIBRARY, logger="expect", message=f"arrivals can't be counted: {error}")
        self._refused = isinstance(error, LedgerRefused)

    def _watch(self, key: str, subject: Subject, rules: Expect, before: dict[str, Any]) -> _Watch:
        """As it was; from now on where it is new, or means something else than before."""
        known = self._watches.get(key)
        if known is not None and known.rules == rules:
            known.subject = subject
            return known
        fresh = Arrivals(_expected(rules), rules.at_least, self._clock.time())
        return _Watch(subject, rules, _recalled(before.get(key), rules) or fresh)

    def _look(self, watch: _Watch) -> None:
        subject, now = watch.subject, self._clock.time()

        def count(begin: float, until: float) -> int:
            return self._history.arrivals(subject.inbox, subject.source, begin, until, has_items=subject.has_items)

        for finding in watch.arrivals.look(now, count):
            event = events.ARRIVALS_MISSING if finding.is_missing else events.ARRIVALS_LATE
            about = {"source": subject.source} if subject.source else {}
            whose = f"source {subject.source}: " if subject.source else ""
            emit(
                event, inbox=subject.inbox, **about, message=whose + finding.message, expected=finding.expected,
                found=finding.found, seconds=finding.seconds,
            )  # fmt: skip
        window, found = watch.arrivals.stand(now, count)
        watch.standing = {
            "at_least": watch.rules.at_least, "by": window.end, "when": _expected(watch.rules).told(window.day),
            "found": found, "missing": window.end <= now,
        }  # fmt: skip

    # What was judged outlives the daemon

    def _recall(self) -> dict[str, Any]:
        try:
            saved = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return saved if isinstance(saved, dict) else {}

    def _remember(self, saved: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk is told by others; this is tried again at the next look
            disk.write_over(self._path, json.dumps(saved))


def _key(inbox: str, source: str | None) -> str:
    return f"source {source}" if source else f"inbox {inbox}"


def _wanted(config: Config) -> Iterator[tuple[str, tuple[Subject, Expect]]]:
    for name, inbox in config.inboxes.items():
        if inbox.expect is not None:
            yield _key(name, None), (Subject(name, None, bool(inbox.sources)), inbox.expect)
        for source, rules in inbox.sources.items():
            if rules.expect is not None:
                yield _key(name, source), (Subject(name, source, True), rules.expect)


def _expected(rules: Expect) -> Expected:
    return Expected(rules.by, rules.weekdays, rules.zone)


def _saved(watch: _Watch) -> dict[str, Any]:
    return {"rules": watch.rules.model_dump(), "memory": list(watch.arrivals.memory)}


def _recalled(saved: Any, rules: Expect) -> Arrivals | None:
    """What was saved, if it was for these rules; None for what makes no sense: somebody may have been at the file."""
    try:
        if saved["rules"] == rules.model_dump():
            return Arrivals.recalled(_expected(rules), rules.at_least, Memory(*saved["memory"]))
    except (KeyError, TypeError, ValueError):
        pass
    return None
