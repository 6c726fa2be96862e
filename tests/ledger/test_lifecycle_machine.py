"""Any sequence of verbs, legal or not, against a model that is two dictionaries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from walks import NEWS, VERBS, after, new_file

from inboxd.clock import SystemClock
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.errors import LedgerConflict
from inboxd.lifecycle import OPEN, sources
from inboxd.model import InboxFile, Outcome, State


class Lifecycle(RuleBasedStateMachine):
    """What the ledger holds is what was told and allowed."""

    files = Bundle("files")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="machine-")
        self.url = f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite'}"
        self.ledger = Ledger.open(self.url, "process", SystemClock())
        self.history = History(self.url)
        self.rows: dict[str, InboxFile] = {}
        self.counted: dict[str, tuple[str, Outcome, int]] = {}

    @rule(target=files, inbox=st.sampled_from(["one", "two"]), size=st.integers(0, 9))
    def announce(self, inbox: str, size: int) -> str:
        file = new_file(inbox=inbox, size=size)
        with self.ledger.transaction():
            self.ledger.announce([file])
        self.rows[file.id] = file
        return file.id

    @rule(
        ids=st.lists(files, min_size=1, max_size=3, unique=True), verb=st.sampled_from(VERBS),
        outcome=st.sampled_from(Outcome), size=st.integers(0, 9),
    )  # fmt: skip
    def say(self, ids: list[str], verb: str, outcome: Outcome, size: int) -> None:
        before = [self.rows[one] for one in ids if one in self.rows]
        if not before:
            return
        news = {key: value for key, value in (("outcome", outcome), ("size", size)) if NEWS[verb].get(key) is not None}
        told = [after(file, verb, **news) for file in before]
        if any(not self._may(file, verb) for file in before):
            with pytest.raises(LedgerConflict), self.ledger.transaction():
                getattr(self.ledger, verb)(told)
            return
        with self.ledger.transaction():
            getattr(self.ledger, verb)(told)
        for file in told:
            self.rows[file.id] = file
            if verb == "decide":
                self.counted[file.id] = (file.inbox, outcome, file.size)
            if verb == "retry":
                del self.counted[file.id]

    def _may(self, file: InboxFile, verb: str) -> bool:
        return file.state in sources(verb) and (verb != "retry" or file.outcome is Outcome.ERROR)

    @rule(one=files)
    def redirect(self, one: str) -> None:
        file = self.rows.get(one)
        if file is not None and file.state is State.DECIDED:
            self.rows[one] = file._replace(destination="elsewhere")
            with self.ledger.transaction():
                self.ledger.redirect([self.rows[one]])

    @rule(one=files)
    def forget(self, one: str) -> None:
        with self.ledger.transaction():
            self.ledger.forget([one])
        if one in self.rows and self.rows[one].state is State.DONE:
            del self.rows[one]

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.url, "process", SystemClock())

    @invariant()
    def rows_are_what_was_told(self) -> None:
        if not hasattr(self, "rows"):
            return
        newest = sorted(self.rows.values(), key=lambda file: file.id, reverse=True)
        assert self.history.find(limit=1000) == newest
        opened = sorted(file.id for file in newest if file.state in OPEN)
        assert sorted(file.id for file in self.ledger.open_files(*OPEN)) == opened
        assert sum(sum(states.values()) for states in self.ledger.counts().values()) == len(opened)

    @invariant()
    def totals_are_what_was_decided(self) -> None:
        if not hasattr(self, "counted"):
            return
        expected: dict[tuple[str, Outcome], tuple[int, int]] = {}
        for inbox, outcome, size in self.counted.values():
            count, total = expected.get((inbox, outcome), (0, 0))
            expected[inbox, outcome] = (count + 1, total + size)
        told = {
            (inbox, outcome): count
            for inbox, outcomes in self.history.totals().items()
            for outcome, count in outcomes.items()
            if count != (0, 0)
        }
        assert told == expected

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()


class TestLifecycle(Lifecycle.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
