"""What a partner calls an item -> one harmless file name. Names are metadata: they never lead anywhere. Pure."""

from __future__ import annotations

import os
import re

_LONGEST = 255  # bytes, NAME_MAX of limits.h
_HARMFUL = re.compile(r"[/\x00-\x1f\x7f]")


def harmless_name(name: str) -> str:
    """The last part of a path, without separators and control characters, in 255 bytes; "unnamed" for nothing."""
    last = name.rstrip("/").rpartition("/")[2]
    clean = _HARMFUL.sub("_", last).encode("utf-8", "replace").decode()
    if clean.strip(". ") == "":
        return "unnamed"
    stem, dot, extension = clean.rpartition(".")
    ending = dot + extension if stem and len(extension) <= 16 else ""
    stem = clean.removesuffix(ending) if ending else clean
    budget = _LONGEST - len(os.fsencode(ending))
    return os.fsencode(stem)[:budget].decode("utf-8", "ignore") + ending
