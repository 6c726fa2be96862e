"""Durations and sizes in the models: `250ms`, `10s`, `5m`, `2h`, `1d`; `64KiB`, `512MiB`, `1GiB`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from inboxd.config.quantity import duration, show_duration, show_size, size

__all__ = ["DURATION", "SIZE", "Duration", "Interval", "Size", "duration", "show_duration", "show_size", "size"]


def _read_duration(value: Any, info: ValidationInfo) -> float:
    """A number is in seconds already, but only from Python: whoever reads a file gives a context, and gets units."""
    return value if isinstance(value, int | float) and info.context is None else duration(value)


def _read_size(value: Any, info: ValidationInfo) -> int:
    return value if isinstance(value, int) and info.context is None else size(value)


def _not_zero(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("write a duration longer than zero")
    return seconds


#: What marks a field as one with units, for the schema and for show().
DURATION = WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["30s", "5m"]})
SIZE = WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(B|KiB|MiB|GiB|TiB)$", "examples": ["512MiB"]})

Duration = Annotated[float, BeforeValidator(_read_duration), DURATION]
Interval = Annotated[Duration, AfterValidator(_not_zero)]
Size = Annotated[int, BeforeValidator(_read_size), SIZE]
