"""Named points between two steps, where a test can end or hurt the daemon.

`INBOXD_FAILPOINT=claim.renamed:kill@3` kills the process (SIGKILL) when it passes `claim.renamed` for the third
time; `:raise` raises OSError(EIO) there instead. Without the variable a failpoint costs one comparison.
"""

from __future__ import annotations

import errno
import os
import signal

#: Each arrow of the way of a file, in its order; the crash table in docs/recovery.md uses the same names.
NAMES = frozenset(
    {
        "claim.announced",
        "claim.renamed",
        "claim.synced",
        "claim.recorded",
        "dispatch.recorded",
        "decide.reported",
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
    }
)


class _Armed:
    """One failpoint that is set, and how often it still passes unharmed."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition(":")
        self.action, _, count = rest.partition("@")
        self.left = int(count or 1)
        if self.name not in NAMES or self.action not in ("kill", "raise"):
            raise SystemExit(f"INBOXD_FAILPOINT={text!r}: no such failpoint or action")

    def strike(self) -> None:
        self.left -= 1
        if self.left == 0 and self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.left == 0:
            raise OSError(errno.EIO, f"failpoint {self.name}")


_armed = _Armed(os.environ["INBOXD_FAILPOINT"]) if os.environ.get("INBOXD_FAILPOINT") else None


def failpoint(name: str) -> None:
    """A test may strike here."""
    if _armed is not None and _armed.name == name:
        _armed.strike()
