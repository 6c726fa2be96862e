"""Values with a grammar of their own: JMESPath, cron, time zones. Their libraries are imported when there is one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

#: What an expression for items may tell of each.
ITEM_KEYS = ("id", "name", "url", "size", "sha256", "md5", "version")
_LONGEST = 10_000  # characters; the parser is recursive


def jmespath(text: str) -> str:
    """The expression itself. Raises ValueError for one that is none."""
    _parsed(text)
    return text


def _parsed(text: str) -> Any:
    from jmespath import compile as compile_path
    from jmespath.exceptions import JMESPathError

    try:
        tree: Any = compile_path(text[:_LONGEST]).parsed
    except (JMESPathError, RecursionError) as error:
        place = f" at character {error.lex_position + 1}" if hasattr(error, "lex_position") else ""
        raise ValueError(f"this is no JMESPath expression{place}; see https://jmespath.org") from None
    return tree


def item_keys(text: str) -> frozenset[str] | None:
    """The keys that each item found by a valid expression has; None where the expression does not tell."""
    tree = _parsed(text)
    while tree["type"] in ("projection", "filter_projection", "value_projection", "subexpression", "pipe"):
        tree = tree["children"][1]
    if tree["type"] != "multi_select_dict":
        return None
    return frozenset(str(pair["value"]) for pair in tree["children"])


def items(text: str) -> str:
    """A JMESPath expression for items: where it names its keys, `id` is among them, and none that has no use."""
    keys = item_keys(jmespath(text))
    if keys is None:
        return text
    if "id" not in keys:
        raise ValueError('an item needs an id, to be told from others; write "…[].{id: …}"')
    unknown = keys.difference(ITEM_KEYS)
    if unknown:
        raise ValueError(f"an item has no {min(unknown)!r}; known: {', '.join(ITEM_KEYS)}")
    return text


def cron(text: str) -> str:
    """Five fields as in crontab(5), which some moment fits. Raises ValueError."""
    from cronsim import CronSim, CronSimError

    try:
        fields: Iterator[datetime] = CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
        fits = len(text.split()) == 5 and next(fields, None) is not None
    except (CronSimError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            'write the five fields of crontab(5): minute, hour, day, month, weekday, such as "*/5 6-20 * * 1-5"'
        )
    return text


def zone(text: str) -> str:
    """A key of the time zone database. Raises ValueError."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (LookupError, ValueError, OSError):  # a folder of zones, a path, nothing
        raise ValueError(
            "there is no such time zone here; write one such as Europe/Berlin or UTC (they lie in /usr/share/zoneinfo, "
            "from the package tzdata)"
        ) from None
    return text
