"""What children need to know of a configuration, and whether the handlers that it names can be loaded at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from inboxd import wire
from inboxd.config.load import database_specs, destination_specs, handler_specs, source_specs
from inboxd.config.models import Config
from inboxd.errors import ConfigError
from inboxd.pool.environment import worker_environment
from inboxd.pool.terms import FetchTerms

_PROBE_TIMEOUT = 120.0  # seconds to load all handlers
_FETCH_GRACE = 60.0  # seconds above the time limit that a fetcher keeps by itself


def setup_for(config: Config) -> wire.Setup:
    """What workers need to know of a configuration."""
    return wire.Setup(handler_specs(config), database_specs(config), (str(config.base),), config.durability == "full")


def fetchers_of(config: Config) -> dict[str, tuple[wire.SourceSetup, FetchTerms]]:
    """What fetchers need to know of a configuration, each of its own source alone."""
    rules = {name: source for inbox in config.inboxes.values() for name, source in inbox.sources.items()}
    return {
        name: (wire.SourceSetup(name, spec), FetchTerms(rules[name].parallel, spec.total + _FETCH_GRACE))
        for name, spec in source_specs(config).items()
    }


def senders_of(config: Config) -> dict[str, tuple[wire.SourceSetup, FetchTerms]]:
    """Likewise of each destination."""
    rules = {name: one for inbox in config.inboxes.values() for name, one in inbox.destinations.items()}
    return {
        name: (wire.SourceSetup(name, spec), FetchTerms(rules[name].parallel, spec.total + _FETCH_GRACE))
        for name, spec in destination_specs(config).items()
    }


def probe(config: Config) -> None:
    """Load every handler in a process of its own, which sees what a worker does. Raises ConfigError naming those that
    can't be.
    """
    command = [sys.executable, "-P", "-B", "-m", "inboxd.work.probe"]
    try:
        answer = subprocess.run(
            command,
            input=wire.encode(setup_for(config)),
            capture_output=True,
            timeout=_PROBE_TIMEOUT,
            check=True,
            env=worker_environment(os.environ, config.secret_variables),
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        tail = (error.stderr or b"").decode(errors="backslashreplace").strip().splitlines()[-1:]
        raise ConfigError([f"{config.file}: the handlers could not be loaded: {error} {' '.join(tail)}"]) from error
    refuse_broken(config, json.loads(answer.stdout))


def refuse_broken(config: Config, broken: dict[str, str]) -> None:
    """Raise ConfigError where a handler can't be loaded."""
    if broken:
        told = {inbox: (config.line("inboxes", inbox, "handler"), why) for inbox, why in broken.items()}
        ordered = sorted(told.items(), key=lambda one: one[1])
        raise ConfigError([f"{config.file}:{line}: inboxes.{inbox}.handler: {why}" for inbox, (line, why) in ordered])
