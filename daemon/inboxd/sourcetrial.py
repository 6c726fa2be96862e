"""What would be fetched from a source if it were asked now: found out by asking it, with nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from inboxd.config.sources import Source as Rules
from inboxd.config.units import show_size
from inboxd.intake.match import Matcher
from inboxd.items import ItemState
from inboxd.model import Ending
from inboxd.pool.trial import trial_poll
from inboxd.wire import Listed, SourceSetup

_PATIENCE = 300.0  # seconds for a whole listing
_SLICE = 500  # items asked about at once
_NAMED = 5  # items told one by one

#: (source, what it calls its items) -> the states of those that the ledger has, by item and version.
Known = Callable[[str, Sequence[str]], Mapping[tuple[str, str], ItemState]]


def examine(setup: SourceSetup, inbox: str, rules: Rules, secrets: Collection[str], known: Known) -> dict[str, Any]:
    """List it, and sort what it lists. Raises OSError where no process can be started."""
    patience = min(_PATIENCE, rules.timeout.total)
    with trial_poll(setup, inbox, secrets, patience) as (report, listed):
        found = _sorted(setup.source, listed, rules, known)
    result = report.result or {}
    return {
        "source": setup.source, "inbox": inbox, "kind": rules.kind, "address": rules.address,
        "seconds": report.seconds, "problem": None if report.ending is Ending.DONE else report.message,
        "items": result.get("items", 0), "skipped": result.get("skipped", 0), "cut": bool(result.get("cut")),
        "twice": rules.sftp is not None or rules.ftp is not None, **found,
    }  # fmt: skip


def _sorted(source: str, listed: Iterable[Listed], rules: Rules, known: Known) -> dict[str, Any]:
    matcher = Matcher(rules.match, rules.ignore, rules.ignore_temporary)
    fresh: list[str] = []
    left_out: list[dict[str, str]] = []
    states: Counter[str] = Counter()
    counts = Counter[str]()
    for some in _slices(listed):
        there = known(source, [one.item for one in some])
        for one in some:
            state, why = there.get((one.item, one.version)), _why_not(one, rules, matcher)
            if state is not None:
                states[state.lower()] += 1
            elif why is not None:
                counts["left_out"] += 1
                left_out += [{"name": one.name, "why": why}] if len(left_out) < _NAMED else []
            else:
                counts["fresh"] += 1
                fresh += [one.name] if len(fresh) < _NAMED else []
    return {
        "fresh": counts["fresh"], "names": fresh, "left_out": counts["left_out"], "reasons": left_out,
        "known": dict(states),
    }  # fmt: skip


def _why_not(one: Listed, rules: Rules, matcher: Matcher) -> str | None:
    if one.size is not None and one.size > rules.max_size:
        return f"larger than {show_size(rules.max_size)} (`max_size`)"
    return matcher.why_not(one.name)


def _slices(listed: Iterable[Listed]) -> Iterator[list[Listed]]:
    remaining = iter(listed)
    while some := list(islice(remaining, _SLICE)):
        yield some
