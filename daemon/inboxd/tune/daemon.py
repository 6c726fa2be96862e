"""The daemon of one trial, as its own process: the user's configuration with one inbox, other folders and one setting.

python -m inboxd.tune.daemon CONFIG INBOX ROOT STATE PROCESSES BATCH_SIZE DURABILITY PARENT
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from pydantic import SecretStr

from inboxd.app import run
from inboxd.config.models import FOLDERS, Config, Duplicates, Retention
from inboxd.logs import LogOptions
from inboxd.tune.plan import Setting

_PR_SET_PDEATHSIG = 1  # prctl(2)


def scratch(config: Config, name: str, root: Path, state: Path, setting: Setting) -> Config:
    """Nothing of it leads to the inbox itself: neither its folders, nor its sources and destinations, nor the ledger.

    The copies are alike, and are no duplicates here; one that fails is not tried again.
    """
    inbox = config.inboxes[name]
    alone = inbox.model_copy(
        update={
            **dict.fromkeys(FOLDERS), "root": root, "settle": "renamed", "match": ["*"], "ignore": [],
            "recursive": False, "layout": "", "sources": {}, "destinations": {}, "expect": None,
            "retention": Retention(), "duplicates": Duplicates(),
            "retry": inbox.retry.model_copy(update={"max_failures": 1}),
        }
    )  # fmt: skip
    workers = config.workers.model_copy(update={"processes": setting.processes, "batch_size": setting.batch_size})
    return config.model_copy(
        update={
            "state": state, "ledger": SecretStr("sqlite"), "durability": setting.durability, "workers": workers,
            "inboxes": {name: alone},
        }
    )  # fmt: skip


def main() -> int:
    """Until SIGTERM, or until the one that makes the trials is gone."""
    file, name, root, state, processes, batch_size, durability, parent = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it went before we had said so
        return 0
    setting = Setting(int(processes), int(batch_size), durability)
    log = LogOptions("INFO", "json")
    return run(Path(file), log, lambda config: scratch(config, name, Path(root), Path(state), setting))


if __name__ == "__main__":
    sys.exit(main())
