"""How inboxd is called from a shell: the command that works on this machine, for this configuration."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

_FOUND_ANYWHERE = Path("/etc/inboxd/config.yaml")  # as cli/arguments.py looks for it; ./config.yaml depends on where


@cache
def program() -> str:
    """`inboxd` where the shell finds it; else the script that we were started by, or our interpreter."""
    if shutil.which("inboxd"):
        return "inboxd"
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "inboxd" and os.access(script, os.X_OK) and os.path.isfile(script):
        return shlex.quote(script)
    return f"{shlex.quote(sys.executable)} -m inboxd"


def command(words: str, config: Path | None) -> str:
    """The verb and its arguments as a whole command; `config` is named where it would not be found without."""
    place = f" -c {shlex.quote(str(config))}" if config not in (None, _FOUND_ANYWHERE) else ""
    return f"{program()} {words}{place}"
