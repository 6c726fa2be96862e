"""The fetchers of all sources, as the rest of the daemon sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inboxd.model import Report
from inboxd.pool.assignment import released
from inboxd.pool.exchange import Exchange
from inboxd.pool.terms import FetchTerms
from inboxd.wire import Errand, SourceSetup


@dataclass(frozen=True, slots=True)
class Kept:
    """A source whose fetchers are to be kept."""

    setup: SourceSetup
    terms: FetchTerms
    exchange: Exchange


class Fetchers:
    """For any thread. What is `kept` is replaced as a whole; the supervisor's loop follows in its next round."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake`: there are reports."""
        self.kept: dict[str, Kept] = {}
        self._wake = wake
        self._left: list[Exchange] = []  # of sources that are kept no more, while they owe reports

    def keep(self, sources: Mapping[str, tuple[SourceSetup, FetchTerms]]) -> None:
        """These, from now on. What goes on at others is finished or given back."""
        before = self.kept
        self.kept = {name: self._keep(before.get(name), *both) for name, both in sources.items()}
        left = [kept.exchange for name, kept in before.items() if name not in sources]
        for exchange in left:
            exchange.close()  # its crew may not even have begun
        self._left += left

    def _keep(self, before: Kept | None, setup: SourceSetup, terms: FetchTerms) -> Kept:
        """Fetchers go on where nothing has changed: a set-up is the same only if it is the same object."""
        if before is None:
            return Kept(setup, terms, Exchange(terms.count, self._wake))
        return Kept(before.setup if before.setup == setup else setup, terms, before.exchange)

    def free(self, source: str) -> int:
        """How many errands it would take now."""
        kept = self.kept.get(source)
        return kept.exchange.free() if kept else 0

    def dispatch(self, errand: Errand) -> list[tuple[str, Report]]:
        """Have it done; each item gets exactly one report. Those of a source that is kept no more come back at once."""
        kept = self.kept.get(errand.source)
        if kept is None:
            return [(errand.batch, report) for report in released(errand, "the source is gone")]
        kept.exchange.dispatch(errand)
        return []

    def reports(self) -> list[tuple[str, Report]]:
        """(batch, report), oldest first of each source; each is handed out once."""
        if not (self.kept or self._left):
            return []
        exchanges = [*self._left, *(kept.exchange for kept in self.kept.values())]
        reports = [one for exchange in exchanges for one in exchange.take_reports()]
        self._left = [exchange for exchange in self._left if exchange.owes_reports()]
        return reports
