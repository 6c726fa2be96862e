"""A listing on its way from a fetcher to the daemon: a file of its own, an item a line, read at the daemon's pace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TextIO

from inboxd.wire import Listed


def new_listing(path: str) -> TextIO:
    """Open it for writing; ours alone, whatever stood there. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii")


def write_listed(listing: TextIO, item: Listed) -> None:
    """One more."""
    json.dump(item, listing)
    listing.write("\n")


def read_listing(path: str) -> Iterator[Listed]:
    """All of them. Raises OSError; ValueError and TypeError for what is no listing."""
    with open(path, encoding="ascii") as listing:
        for line in listing:
            yield Listed(*json.loads(line))
