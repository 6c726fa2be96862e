"""What a handler gets, and what it may raise. The public face of inboxd: see docs/handlers.md."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from inboxd.wire import HandlerSpec, OrderedFile
from inboxd.work.results import ResultsFolders

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_LONGEST_SPAN = 366 * 86400.0  # seconds
_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Reject(Exception):
    """This file is not for us, and never will be: to errors/, without another attempt."""


class Retry(Exception):
    """Not now; `after` says when, as seconds or as text ("30s"), else the retry policy does. Counts as a failure."""

    after: float | None = None  # seconds

    def __init__(self, message: str = "", after: float | str | None = None) -> None:
        super().__init__(message)
        self.after = seconds_of(after)


def seconds_of(span: float | str | None) -> float | None:
    """`span` in seconds. Raises ValueError for what is no span of at most a year."""
    if span is None:
        return None
    seconds = math.nan
    if isinstance(span, str):
        unit = span.lstrip("0123456789.")
        number = span.removesuffix(unit)
        if unit in _SPANS and number.replace(".", "", 1).isdigit():
            seconds = float(number) * _SPANS[unit]
    elif isinstance(span, int | float):
        seconds = float(span)
    if not 0.0 <= seconds <= _LONGEST_SPAN:
        raise ValueError(f"after={span!r}: write seconds, or a number with a unit: 250ms, 10s, 5m, 2h; a year at most")
    return seconds


class Transactions(Protocol):
    """Where File.transaction leads; receipts.py has the real one."""

    def begin(self, name: str, file_id: str, inbox: str) -> AbstractContextManager[Connection]: ...


class File:
    """One claimed file, ours alone until the handler returns."""

    __slots__ = ("_folders", "_ordered", "_spec", "_transactions", "inbox", "options")

    def __init__(
        self, ordered: OrderedFile, inbox: str, spec: HandlerSpec, transactions: Transactions, folders: ResultsFolders
    ) -> None:
        self._ordered = ordered
        self._spec = spec
        self._transactions = transactions
        self._folders = folders
        self.inbox = inbox
        self.options: dict[str, Any] = dict(spec.options)

    def __repr__(self) -> str:
        return f"<File {self.name!r} {self.id} attempt {self.attempt}>"

    @property
    def path(self) -> Path:
        """Where its bytes are; named by its id, so use `name` for what the uploader called it."""
        return _path(self._ordered.path)

    @property
    def name(self) -> str:
        """The name as uploaded, without folders."""
        return self._ordered.name

    @property
    def folder(self) -> str:
        """The folder below inbound/ it was uploaded to; "" for inbound/ itself."""
        return self._ordered.folder

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same in every attempt: the key for doing things once."""
        return self._ordered.id

    @property
    def size(self) -> int:
        """Bytes."""
        return self._ordered.size

    @property
    def attempt(self) -> int:
        """1 in the first run."""
        return self._ordered.attempt

    @property
    def source(self) -> str | None:
        """The remote source it came from, if any."""
        return self._ordered.source

    @property
    def results(self) -> Path:
        """A folder, empty when a run first asks for it; what stands in it when we return appears in outbound/."""
        self._folders.make(self._ordered.results)
        return _path(self._ordered.results)

    def transaction(self, name: str | None = None) -> AbstractContextManager[Connection]:
        """A transaction on the configured database `name`, whose effect happens exactly once for this file.

        Without a name it is the one of `handler: {database: …}`. The block's work and a receipt for `id` are committed
        together. When an earlier run got that far, the run ends at the `with` line, without running the block, and
        the file counts as processed. So there is one such block per file, and what must happen stands in it.
        """
        chosen = name or self._spec.database
        if chosen is None:
            raise LookupError("name a database: file.transaction(NAME), or `database: NAME` beside the handler")
        return self._transactions.begin(chosen, self.id, self.inbox)


def _path(text: str) -> Path:
    import pathlib  # 0.8 MiB and 3 ms that a worker of programs never needs

    return pathlib.Path(text)
