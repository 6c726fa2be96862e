"""Whether a destination can be reached: found out by looking at it, with nothing left there."""

from __future__ import annotations

from typing import Any

from inboxd.config.load import destination_specs
from inboxd.config.models import Config
from inboxd.model import Ending
from inboxd.pool.trial import trial_look
from inboxd.wire import SourceSetup

_PATIENCE = 300.0  # seconds


def look_at(name: str, inbox: str, config: Config) -> dict[str, Any]:
    """What it says. Needs no daemon. Raises OSError where no process can be started."""
    rules = config.inboxes[inbox].destinations[name]
    setup = SourceSetup(name, destination_specs(config)[name])
    report = trial_look(setup, inbox, config.secret_variables, min(_PATIENCE, rules.timeout.total))
    return {
        "destination": name, "inbox": inbox, "kind": rules.kind, "address": rules.address, "seconds": report.seconds,
        "problem": None if report.ending is Ending.DONE else report.message,
        "found": str((report.result or {}).get("found", "")),
    }  # fmt: skip
