"""Named points between two steps, where a test can end or hurt the daemon.

`INBOXD_FAILPOINT=claim.renamed:kill@3` kills the process (SIGKILL) when it passes `claim.renamed` for the third
time; `:raise` raises OSError(EIO) there instead, `:ENOSPC` one with that number; `@3+` goes on striking from the third
time on. Several are set with commas between them. Without the variable a failpoint costs one look at an empty list.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable

from inboxd.items import ITEM_TRANSITIONS
from inboxd.lifecycle import TRANSITIONS
from inboxd.sends import SEND_TRANSITIONS

#: Between two steps of a way, in their order; the crash table in docs/recovery.md uses the same names.
STEPS = frozenset(
    {
        "claim.announced",
        "claim.renamed",
        "claim.synced",
        "claim.recorded",
        "copy.made",
        "copy.renamed",
        "dispatch.recorded",
        "decide.reported",
        "decide.kept",
        "decide.recorded",
        "deliver.sidecar",
        "deliver.results",
        "deliver.renamed",
        "deliver.synced",
        "deliver.redirected",
        "deliver.recorded",
        "fetch.reported",
        "fetch.learned",
        "poll.recorded",
        "fetch.recorded",
        "ack.recorded",
        "send.reported",
        "send.learned",
        "send.recorded",
        "send.finished",
        "retry.renamed",
        "retry.recorded",
        "prune.removed",
        "recover.begun",
        "recover.decided",
        "recover.claiming",
        "recover.running",
        "recover.items",
        "recover.work",
        "rebuild.filled",
        "rebuild.aside",
    }
)


def _arrows(table: str, transitions: Iterable[tuple[object, str]]) -> set[str]:
    return {f"{table}.{verb}" for _state, verb in transitions}


#: One for each verb of each lifecycle, passed when its rows are written and not yet committed. A new verb has one, too,
#: and the tests, which go through all arrows, know no way to it.
ARROWS = frozenset(
    _arrows("files", TRANSITIONS) | _arrows("items", ITEM_TRANSITIONS) | _arrows("sends", SEND_TRANSITIONS)
)

NAMES = STEPS | ARROWS


class _Armed:
    """One failpoint that is set: from which pass on it strikes, and whether it goes on."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition(":")
        self.action, _, count = rest.partition("@")
        self.lasts = count.endswith("+")
        self.left = int(count.rstrip("+") or 1)
        if self.name not in NAMES or not (self.action in ("kill", "raise") or hasattr(errno, self.action)):
            raise SystemExit(f"INBOXD_FAILPOINT={text!r}: no such failpoint or action")

    def pass_by(self) -> None:
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.lasts):
            self._strike()

    def _strike(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.EIO if self.action == "raise" else getattr(errno, self.action)
        raise OSError(number, f"failpoint {self.name}")


_armed = [_Armed(text) for text in os.environ.get("INBOXD_FAILPOINT", "").split(",") if text]


def failpoint(name: str) -> None:
    """A test may strike here."""
    for armed in _armed:
        if armed.name == name:
            armed.pass_by()
