"""How a source can fail us, and whose fault it is. fetcher.py makes a report of it, and the daemon decides alone."""

from __future__ import annotations

from typing import ClassVar

from inboxd.model import Ending


class RemoteError(Exception):
    """Something a source did or did not do, in words that hold no secret. `after`: seconds it asked us to wait."""

    ending: ClassVar[Ending] = Ending.FAILED

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Away(RemoteError):
    """It can't be reached, answers too slowly, or asks for a pause: no item's fault."""

    ending = Ending.UNAVAILABLE


class Unclosed(Away):
    """A body ended that nothing but its connection could end, and TLS did not say that this was meant."""


class Refused(RemoteError):
    """It does not let us in, or is not who it should be: nothing will work before somebody mends that."""

    ending = Ending.BROKEN


class Unfit(RemoteError):
    """This item is not what was announced: wrong length or digest, changed, an error page. Charged to the item.

    What has come of it is thrown away.
    """

    ending = Ending.FAILED


class Denied(Unfit):
    """We may not do that to it. Whose fault that is, its caller knows."""


class Unreadable(RemoteError):
    """Our own disk does not give this result: charged to the result, for no destination can help that."""


class Gone(RemoteError):
    """This item is not there any more."""

    ending = Ending.REJECTED


class TooLarge(RemoteError):
    """This item is larger than the source may send."""

    ending = Ending.REJECTED
