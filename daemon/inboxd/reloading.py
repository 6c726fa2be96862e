"""What a reload can't change, and a restart can. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from inboxd.config.models import Config
from inboxd.errors import ConfigError
from inboxd.model import State

_FIXED = ("state", "ledger", "durability")
_FOR_RECOVERY = (State.CLAIMING, State.RUNNING, State.DECIDED)  # at rest only where a daemon has died


def refuse(old: Config, new: Config, counts: Mapping[str, Mapping[State, int]]) -> None:
    """Raises ConfigError. `counts`: how many files each inbox has in each state."""
    problems = [
        f"{new.file}: {key}: can't change while inboxd runs; restart it"
        for key in _FIXED
        if getattr(old, key) != getattr(new, key)
    ]
    for name in new.inboxes.keys() - old.inboxes.keys():
        left = sum(counts.get(name, {}).get(state, 0) for state in _FOR_RECOVERY)
        if left:
            files = "a file" if left == 1 else f"{left} files"
            problems.append(
                f"{new.file}: inboxes.{name}: a daemon that died has left {files} of it unfinished, "
                "which only a start takes up; restart inboxd"
            )
    if problems:
        raise ConfigError(sorted(problems))
