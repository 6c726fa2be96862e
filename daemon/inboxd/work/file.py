"""What a handler gets, and what it may raise. The public face of inboxd: see docs/handlers.md."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inboxd.wire import OrderedFile

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Reject(Exception):
    """This file is not for us, and never will be: to errors/, without another attempt."""


class Retry(Exception):
    """Not now; `after` says when, as seconds or as text ("30s"), else the retry policy does. Counts as a failure."""

    def __init__(self, message: str = "", after: float | str | None = None) -> None:
        super().__init__(message)
        self.after = _seconds(after)


def _seconds(span: float | str | None) -> float | None:
    if span is None or isinstance(span, int | float):
        return span
    unit = span.lstrip("0123456789.")
    try:
        return float(span.removesuffix(unit)) * _SPANS[unit]
    except (KeyError, ValueError):
        raise ValueError(f"after={span!r}: write a number with a unit: 250ms, 10s, 5m, 2h or 1d") from None


class Transactions(Protocol):
    """Where File.transaction leads; database.py has the real one."""

    def transaction(self, name: str, file_id: str, inbox: str) -> AbstractContextManager[Connection]: ...


class File:
    """One claimed file, ours alone until the handler returns."""

    __slots__ = ("_databases", "_ordered", "inbox", "options")

    def __init__(self, ordered: OrderedFile, inbox: str, options: dict[str, Any], databases: Transactions) -> None:
        self._ordered = ordered
        self._databases = databases
        self.inbox = inbox
        self.options = options

    def __repr__(self) -> str:
        return f"<File {self.name!r} {self.id} attempt {self.attempt}>"

    @property
    def path(self) -> Path:
        """Where its bytes are; named by its id, so use `name` for what the uploader called it."""
        return Path(self._ordered.path)

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
        path = Path(self._ordered.results)
        path.mkdir(exist_ok=True)
        return path

    def transaction(self, name: str) -> AbstractContextManager[Connection]:
        """A transaction on the configured database `name`, whose effect happens exactly once for this file.

        The block's work and a receipt for `id` are committed together. When an earlier run got that far, the block
        is not run again: the handler ends there, and the file counts as processed. One such block per run.
        """
        return self._databases.transaction(name, self.id, self.inbox)


def clear_results(ordered: OrderedFile) -> None:
    """Before a run: what an earlier one left is nobody's result."""
    if ordered.attempt > 1 and ordered.results:
        shutil.rmtree(ordered.results, ignore_errors=True)


def has_results(ordered: OrderedFile) -> bool:
    """The run left something."""
    try:
        return bool(ordered.results) and bool(os.listdir(ordered.results))
    except FileNotFoundError:
        return False
