"""config.yaml -> Config, or a refusal that lists everything that is wrong, each with line, key and remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Secret, SecretStr, ValidationError

from inboxd.config import references, rules
from inboxd.config.changes import describe
from inboxd.config.models import Config
from inboxd.config.nodes import Document, Problem, read
from inboxd.config.section import Section
from inboxd.errors import ConfigError
from inboxd.wire import DatabaseSpec, HandlerSpec, SourceSpec

__all__ = ["database_specs", "describe", "destination_specs", "handler_specs", "load", "source_specs"]

_MOST = 100  # problems told at once


def load(path: Path, *, at_rest: bool = False) -> Config:
    """Read, check, and make every path absolute. Raises ConfigError with all problems in file order.

    `at_rest`: where things lie is asked for, and no more. Whatever else may need secrets, which the service has and who
    asks has not, is left out.
    """
    file = Path(os.path.abspath(path))
    document = read(file)
    if at_rest:
        document.values = _at_rest(document.values)
    references.fill_in(document, file.parent)
    document.problems += rules.problems(document, str(file))
    config = _validated(document, file)
    if config is None or document.problems:
        raise ConfigError(_told(file, document.problems))
    return config


def _at_rest(values: Any) -> Any:
    """Without databases, sources and destinations."""
    if not isinstance(values, dict):
        return values
    kept = {key: value for key, value in values.items() if key != "databases"}
    if isinstance(inboxes := kept.get("inboxes"), dict):
        kept["inboxes"] = {name: _inbox_at_rest(rules) for name, rules in inboxes.items()}
    return kept


def _inbox_at_rest(rules: Any) -> Any:
    if not isinstance(rules, dict):
        return rules
    kept = {key: value for key, value in rules.items() if key not in ("sources", "destinations", "sent")}
    if isinstance(handler := kept.get("handler"), dict):
        kept["handler"] = {key: value for key, value in handler.items() if key not in ("database", "options")}
    return kept


def _validated(document: Document, file: Path) -> Config | None:
    try:
        config = Config.model_validate(document.values, strict=True, context={"base": file.parent})
    except ValidationError as error:
        from inboxd.config.wording import explained

        document.problems += explained(error, document)
        return None
    config._file = file
    config._environment = frozenset(document.environment)
    config._lines = dict(document.lines)
    return config


def _told(file: Path, problems: list[Problem]) -> list[str]:
    ordered = sorted(problems, key=lambda problem: problem.line)
    lines = [f"{file}:{line}: {_key(where)}{text}" for line, where, text in ordered[:_MOST]]
    return [*lines, *([f"{file}: and {len(ordered) - _MOST} more"] if len(ordered) > _MOST else [])]


def _key(where: tuple[str | int, ...]) -> str:
    """inboxes.a.match[0]: — and nothing for the file as a whole."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where if part != -1)
    printable = dotted if dotted.isprintable() else dotted.encode("unicode_escape").decode()
    return f"{printable.removeprefix('.')}: " if dotted else ""


def handler_specs(config: Config) -> dict[str, HandlerSpec]:
    """What workers run, by inbox."""
    return {
        name: HandlerSpec(
            python=inbox.handler.python,
            command=_command(inbox.handler.command, config.base) if inbox.handler.command else None,
            database=inbox.handler.database,
            batch=inbox.handler.batch,
            options=inbox.handler.options,
        )
        for name, inbox in config.inboxes.items()
    }


def _command(words: Sequence[str], base: Path) -> tuple[str, ...]:
    """A program with a slash in its name is looked for from the folder of the configuration, as every path is."""
    program = str(base / words[0]) if "/" in words[0] else words[0]
    return (program, *words[1:])


def database_specs(config: Config) -> dict[str, DatabaseSpec]:
    """How workers reach the databases, by name. The URLs may hold secrets.

    Waiting for one must not use up the time of the file that waits, which would be charged for it.
    """
    longest = config.workers.timeout / 2
    return {
        name: DatabaseSpec(database.url.get_secret_value(), min(database.connect_timeout, longest))
        for name, database in config.databases.items()
    }


def source_specs(config: Config) -> dict[str, SourceSpec]:
    """How fetchers reach the sources, by name. The places may hold secrets."""
    return {
        name: SourceSpec(
            kind=source.kind,
            place=_plain(getattr(source, source.kind)),
            connect=source.timeout.connect,
            idle=source.timeout.idle,
            total=source.timeout.total,
            min_speed=source.min_speed,
            max_size=source.max_size,
            max_items=source.max_items,
            durable=config.durability == "full",
        )
        for inbox in config.inboxes.values()
        for name, source in inbox.sources.items()
    }


def destination_specs(config: Config) -> dict[str, SourceSpec]:
    """How fetchers reach the destinations, by name. The places may hold secrets."""
    return {
        name: SourceSpec(
            kind=destination.kind,
            place=_plain(getattr(destination, destination.kind)),
            connect=destination.timeout.connect,
            idle=destination.timeout.idle,
            total=destination.timeout.total,
            sends=True,
        )
        for inbox in config.inboxes.values()
        for name, destination in inbox.destinations.items()
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: secrets in clear text, paths as text, every key of a section."""
    if isinstance(value, SecretStr | Secret):
        return value.get_secret_value()
    if isinstance(value, Section):
        return {key: _plain(getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else value
