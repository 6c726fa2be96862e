"""What an event is, and how it is told: to the one sink that is set, at the levels that somebody hears."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of thing that happens. `name` is stable; `meaning` and `remedy` are for the journal's catalog."""

    name: str
    level: Level
    text: str
    meaning: str
    remedy: str = "Nothing to do."

    @property
    def message_id(self) -> str:
        """128 bits as 32 hexadecimal digits, the same for ever (systemd.journal-fields(7), MESSAGE_ID)."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"inboxd:event:{self.name}").hex


class Sink(Protocol):
    """Where events go; logs.py makes the real one."""

    def __call__(self, event: Event, fields: dict[str, Any]) -> None: ...


def nowhere(event: Event, fields: dict[str, Any]) -> None:
    """Until logs.py is set up, events are dropped."""


_sink: Sink = nowhere
_levels: frozenset[str] = frozenset()


def send_to(sink: Sink, levels: Iterable[str] = LEVELS) -> None:
    """From now on events of these levels go to `sink`."""
    global _sink, _levels
    _sink, _levels = sink, frozenset(levels)


def is_told(event: Event) -> bool:
    """Somebody hears of it: worth its fields."""
    return event.level in _levels


def emit(event: Event, /, **fields: Any) -> None:
    """Something happened. Never raises, never blocks for long."""
    if event.level in _levels:
        _sink(event, fields)
