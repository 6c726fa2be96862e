"""Durations and sizes as people write them. Pure, and light: the command line needs it, and no model."""

from __future__ import annotations

import re
from typing import Any

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)\Z")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(B|KiB|MiB|GiB|TiB)\Z")
_LONGEST = 36500 * 86400.0  # seconds; clocks and timers overflow far above it
_LARGEST = 1 << 62  # bytes; fits a signed 64-bit integer


def duration(text: Any) -> float:
    """Seconds. Raises ValueError for anything but a number with one of the units ms, s, m, h, d; at most 36500d."""
    found = _DURATION.match(text) if isinstance(text, str) else None
    if not found:
        raise ValueError("write a number with a unit: 250ms, 10s, 5m, 2h or 1d")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST:
        raise ValueError("write a shorter duration; the longest is 36500d")
    return seconds


def size(text: Any) -> int:
    """Bytes. Raises ValueError for anything but a number with one of the units B, KiB, MiB, GiB, TiB; below 8 EiB."""
    found = _SIZE.match(text) if isinstance(text, str) else None
    if not found:
        raise ValueError("write a number with a unit: 64KiB, 512MiB or 1GiB")
    count = int(float(found[1]) * _BYTES[found[2]])
    if count > _LARGEST:
        raise ValueError("write a smaller size; no disk or memory holds as much")
    return count


def show_duration(seconds: float) -> str:
    """The shortest way to write a span, for people: 90.0 -> '90s', 300.0 -> '5m', 0.25 -> '250ms'."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def show_size(count: float) -> str:
    """Bytes for people: 536870912 -> '512MiB', 1536 -> '1.5KiB'."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return f"{count:.0f}B"
