"""What errors say."""

from __future__ import annotations


def chain(error: BaseException | None) -> str:
    """All that a traceback of it would say."""
    said = ""
    while error is not None:
        said += f"{error!r} {error}\n"
        error = error.__cause__ or error.__context__
    return said
