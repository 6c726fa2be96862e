"""Which names an inbox takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate

from inboxd.config.models import TEMPORARY_NAMES

#: What we call our own files in a folder of uploaders; never taken, whatever the configuration says.
OWN_PREFIX = ".inboxd-"


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(f"(?:{translate(pattern)})" for pattern in patterns)
    return re.compile(joined) if joined else None


class Matcher:
    """Shell patterns (fnmatch), case counts, on the last part of the path."""

    def __init__(self, match: Iterable[str], ignore: Iterable[str], ignore_temporary: bool) -> None:
        self._match = list(match)
        self._ignore = list(ignore)
        self._temporary = list(TEMPORARY_NAMES) if ignore_temporary else []
        self._taken = _any_of(self._match)
        self._left = _any_of([*self._ignore, *self._temporary, OWN_PREFIX + "*"])

    def takes(self, name: str) -> bool:
        """It is a name for this inbox."""
        if self._left is not None and self._left.match(name):
            return False
        return self._taken is not None and self._taken.match(name) is not None

    def why_not(self, name: str) -> str | None:
        """Why it is left alone, in words; None when it is taken."""
        for patterns, what in ((self._ignore, "`ignore`"), (self._temporary, "temporary names")):
            for pattern in patterns:
                if re.match(translate(pattern), name):
                    return f"ignored: its name matches {pattern!r} ({what})"
        if name.startswith(OWN_PREFIX):
            return "ignored: the name is one of inboxd's own"
        if not self.takes(name):
            return f"ignored: its name matches none of {', '.join(map(repr, self._match))} (`match`)"
        return None
