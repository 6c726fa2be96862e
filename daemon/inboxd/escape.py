"""Text from outside, made harmless for logs and terminals."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """Control characters, direction marks and bytes that are no UTF-8 made visible, so that no name forges a line."""
    return _UNSAFE.sub(lambda found: _visible(ord(found.group())), text)


def _visible(number: int) -> str:
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
