"""All that the pipeline knows of one destination while it runs."""

from __future__ import annotations

import os

from inboxd.agenda import Access
from inboxd.clock import Clock
from inboxd.config.destinations import Destination as Rules
from inboxd.lane import Lane
from inboxd.lifecycle import Limits
from inboxd.model import results_name
from inboxd.sends import Send
from inboxd.wire import OrderedItem


class Destination:
    """Whether it may be sent to, and what is on its way to it."""

    def __init__(self, name: str, rules: Rules, lane: Lane, clock: Clock) -> None:
        self.name = name
        self.rules = rules
        self.lane = lane
        self.limits: Limits = rules.retry.limits
        self.access = Access(self.limits, clock)
        self.sending: dict[str, Send] = {}  # by id; in the ledger they are still DUE
        self.look_at = 0.0  # wall clock seconds: the ledger may have some that are due

    def look(self, at: float = 0.0) -> None:
        """The ledger may have some that are due `at` (wall clock seconds)."""
        self.look_at = min(self.look_at, at)

    def ordered(self, send: Send) -> OrderedItem:
        """As a fetcher sees it."""
        path = os.path.join(self.lane.work, results_name(send.file_id), send.name)
        return OrderedItem(send.id, path, send.name, send.name, size=send.size, attempt=send.attempts)

    def send_now(self) -> None:
        """Try it, whatever the breaker says."""
        self.access.breaker.hurry()
        self.look()
