"""The checker, as tests use it: inboxd/checker, which imports nothing else of inboxd."""

from __future__ import annotations

from inboxd.checker.checks import CHECKS, of, violations
from inboxd.checker.evidence import Dropped, Evidence, Footprint
from inboxd.checker.facts import KINDS, Entry, Facts, Installation, Rules
from inboxd.checker.files import ENDINGS
from inboxd.checker.machine import WAL_LIMIT, holders

__all__ = [
    "CHECKS", "ENDINGS", "KINDS", "WAL_LIMIT", "Dropped", "Entry", "Evidence", "Facts", "Footprint", "Installation",
    "Rules", "holders", "of", "violations",
]  # fmt: skip
