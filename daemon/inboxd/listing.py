"""A listing on its way from a fetcher to the daemon: a file of its own, an item a line, read at the daemon's pace."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import TextIO

from inboxd.escape import escape
from inboxd.wire import Listed

_LONGEST_WORD = 1024  # bytes of what a source calls an item, or a version of it: PostgreSQL's keys hold 2704 in all
_LONGEST_URL = 8192  # bytes
_LONGEST_NAME = 255  # bytes, NAME_MAX of limits.h
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})?")


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
        for number, line in enumerate(listing, 1):
            item = _read(line)
            if not is_usable(item):
                raise ValueError(f"line {number} is no item")
            yield item


def _read(line: str) -> Listed:
    try:
        return Listed(*json.loads(line))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def is_usable(item: Listed) -> bool:
    """Its words can be told from any other's and kept as they are, its name can be a file's, its size can be one.

    For both sides: a fetcher runs foreign code, and a value that no ledger takes would end the daemon.
    """
    return (
        item.item != ""
        and _is_kept(item.item, _LONGEST_WORD)
        and _is_kept(item.version, _LONGEST_WORD)
        and _is_kept(item.url, _LONGEST_URL)
        and _is_name(item.name)
        and _is_size(item.size)
        and isinstance(item.digest, str)
        and _DIGEST.fullmatch(item.digest) is not None
    )


def _is_kept(word: object, longest: int) -> bool:
    return isinstance(word, str) and word == escape(word) and len(word.encode()) <= longest


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:  # a lone surrogate, which no ledger takes
        return False


def _is_size(size: object) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63)
