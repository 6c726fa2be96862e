"""Reaching the daemon that belongs to a configuration."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from inboxd.control import ask as ask_socket
from inboxd.errors import ConfigError


def state_folder(config: Path) -> Path:
    """The `state` of a configuration, without checking the rest of it."""
    import yaml

    path = Path(os.path.abspath(config))
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}; name another with -c"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: is no YAML: {' '.join(str(error).split())}"]) from None
    state = values.get("state", "var/state") if isinstance(values, dict) else "var/state"
    return Path(os.path.normpath(path.parent / Path(str(state)).expanduser()))


def ask(options: Namespace, verb: str, **arguments: Any) -> Any:
    """The daemon's answer. Raises NotRunning, Failed."""
    return ask_socket(state_folder(options.config) / "control.sock", verb, **arguments)
