"""What a fetcher needs of a source, whatever it speaks: list, fetch, acknowledge; and of a destination: send, look.

One thread, one call at a time. Every method raises RemoteError (errors.py), and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.part import Part
from inboxd.wire import Listed, OrderedItem


class Remote(Protocol):
    """One source, connected when first asked."""

    def list(self) -> Iterator[Listed]:
        """All items it offers now, lazily, in its own order; at most as many as are asked for are taken."""

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Write the item's bytes to `part`, from `part.size` on where the source can go on from there.

        When it returns, the source has sent all it had to send; `part` verifies length and digest itself.
        """

    def ack(self, item: OrderedItem) -> None:
        """Tell the source that we have it: call, delete or move. Said twice it changes nothing. Raises Gone, too."""

    def close(self) -> None:
        """Hang up. Never raises."""


class Destination(Protocol):
    """One destination, connected when first asked."""

    def send(self, item: OrderedItem, result: Outgoing) -> bool:
        """Bring the result there, under `item.name`; True when it was there already.

        When it returns, the destination has said that it has all of it. What was sent twice is there once, where the
        destination can tell: by `item.id`, or by name and content. What failed has left nothing under that name.
        """

    def look(self) -> str:
        """Connect, and check what can be checked while nothing is left there. A sentence about what was found."""

    def close(self) -> None:
        """Hang up. Never raises."""
