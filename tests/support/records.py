"""Records with other values."""

from __future__ import annotations

from typing import Any

from inboxd.model import InboxFile


def replace(file: InboxFile, **values: Any) -> InboxFile:
    """The same file, but for these values."""
    return file._replace(**values)
