"""What the pipeline has done by others, and what it gives them in one turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from inboxd import errands, outbox
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.sends import Sends
from inboxd.dispatch import Dispatcher, Outgoing
from inboxd.errands import Errands
from inboxd.outbox import Outbox


class Fronts(NamedTuple):
    """Who has things done by other processes: by workers, by fetchers of sources, by fetchers of destinations."""

    dispatcher: Dispatcher
    errands: Errands
    outbox: Outbox


class Leaving(NamedTuple):
    """What goes out in one turn: to the workers, to sources, to destinations."""

    batches: Sequence[Outgoing] = ()
    errands: Sequence[errands.Going] = ()
    results: Sequence[outbox.Going] = ()

    def __bool__(self) -> bool:
        return bool(self.batches or self.errands or self.results)

    def write(self, ledger: Ledger, items: Items, sends: Sends) -> None:
        """In the open transaction: all of it is under way."""
        for batch in self.batches:
            batch.write(ledger)
        for errand in self.errands:
            errand.write(items)
        for result in self.results:
            result.write(sends)
