"""config.yaml -> Config, or a refusal that lists everything that is wrong, each with line, key and remedy."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from inboxd.config import rules
from inboxd.config.models import FOLDERS, Config, Inbox
from inboxd.config.nodes import Document, Where, read
from inboxd.errors import ConfigError
from inboxd.wire import DatabaseSpec, HandlerSpec

_REFERENCES = ("credential", "file", "env")
_SETTLE = 'write `renamed`, {quiet: 1s}, {marker: ".done"} or {checksum: sha256}'
_SECRET_KEYS = frozenset({"url", "ledger", "password"})


def load(path: Path) -> Config:
    """Read, check, and make every path absolute. Raises ConfigError with all problems in file order."""
    path = Path(os.path.abspath(path))
    document = read(path)
    problems = list(document.problems)
    values = _resolve(document.values, (), path.parent, problems, document)
    config: Config | None = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _explained(error, values, document)
    if config is not None:
        config = _absolute(config, path)
        problems += [(document.line(where), where, text) for where, text in rules.problems(config)]
    if problems or config is None:
        unique = dict.fromkeys(sorted(problems, key=lambda problem: problem[0]))
        raise ConfigError([f"{path}:{line}: {_dotted(where)}{text}" for line, where, text in unique])
    return config


def _dotted(where: Where) -> str:
    return ".".join(map(str, where)) + ": " if where else ""


Problems = list[tuple[int, Where, str]]


def _resolve(value: Any, where: Where, base: Path, problems: Problems, document: Document) -> Any:
    """Put in the values that stand elsewhere: {credential: NAME}, {file: PATH}, {env: NAME}."""
    if isinstance(value, list):
        return [_resolve(item, (*where, number), base, problems, document) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)) in _REFERENCES and isinstance(next(iter(value.values())), str):
        try:
            return _fetch(*next(iter(value.items())), base)
        except (OSError, LookupError, UnicodeDecodeError) as error:
            problems.append((document.line(where), where, f"{_words(error)}"))
            return ""
    return {key: _resolve(item, (*where, key), base, problems, document) for key, item in value.items()}


def _fetch(kind: str, name: str, base: Path) -> str:
    if kind == "env":
        if name not in os.environ:
            raise LookupError(f"the environment variable {name} is not set")
        return os.environ[name]
    if kind == "credential":
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise LookupError(
                f"credential {name!r}: there is no $CREDENTIALS_DIRECTORY; give it by LoadCredential= or use `file`"
            )
        return (Path(folder) / os.path.basename(name)).read_text().rstrip("\n")
    return (base / name).read_text().rstrip("\n")


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} can't be read: {error.strerror}"
    return str(error.args[0]) if isinstance(error, LookupError) else "is not UTF-8 text"


# What pydantic found, in our words


def _explained(error: ValidationError, values: Any, document: Document) -> Problems:
    problems: Problems = []
    settled: set[Where] = set()
    for one in error.errors(include_url=False):
        where = _in_file(tuple(one["loc"]), values)
        if "settle" in one["loc"]:
            where = one["loc"][: one["loc"].index("settle") + 1]
            if where not in settled:
                settled.add(where)
                problems.append((document.line(where), where, _SETTLE))
            continue
        problems.append((document.line(where), where, _text(one, where)))
    return problems


def _in_file(where: Where, root: Any) -> Where:
    """Without the names of union members that pydantic puts into a path."""
    kept: list[str | int] = []
    values: Any = root
    for part in where:
        if isinstance(values, dict) and part in values:
            kept.append(part)
            values = values[part]
        elif isinstance(part, int) and isinstance(values, list) and part < len(values):
            kept.append(part)
            values = values[part]
        elif part == where[-1] and isinstance(values, dict):
            kept.append(part)
    return tuple(kept)


def _text(one: Any, where: Where) -> str:
    kind, message = one["type"], one["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"unknown key{_did_you_mean(where)}"
    if kind == "missing":
        return "is missing; add it"
    secret = any(part in _SECRET_KEYS for part in where)
    shown = "" if secret or isinstance(one["input"], dict | list) else f" (not {one['input']!r})"
    return f"{message[:1].lower()}{message[1:]}{shown}"


def _did_you_mean(where: Where) -> str:
    known = _keys_at(where[:-1])
    close = difflib.get_close_matches(str(where[-1]), known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(known))}" if known else ""


def _keys_at(where: Where) -> list[str]:
    """The keys that the section at this path may have."""
    section: Any = Config
    for part in where:
        if isinstance(section, type) and issubclass(section, BaseModel):
            found = section.model_fields.get(str(part))
            section = _inner(found.annotation) if found else None
        # below a mapping of names the section stays what it is
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """The section inside `dict[Name, Section]`, Annotated and the like."""
    arguments = getattr(annotation, "__args__", ())
    for candidate in (annotation, *reversed(arguments)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


# After validation


def _absolute(config: Config, path: Path) -> Config:
    base = path.parent
    inboxes = {name: _absolute_inbox(inbox, base) for name, inbox in config.inboxes.items()}
    made = config.model_copy(update={"state": _under(base, config.state), "inboxes": inboxes})
    databases = {
        name: database.model_copy(update={"url": SecretStr(_absolute_url(database.url.get_secret_value(), base))})
        for name, database in config.databases.items()
    }
    made = made.model_copy(
        update={
            "databases": databases,
            "ledger": SecretStr(_absolute_url(config.ledger.get_secret_value(), base)),
        }
    )
    made._file = path
    return made


def _absolute_inbox(inbox: Inbox, base: Path) -> Inbox:
    named = {which: _under(base, getattr(inbox, which)) for which in ("root", *FOLDERS) if getattr(inbox, which)}
    return inbox.model_copy(update=named)


def _under(base: Path, path: Path) -> Path:
    return Path(os.path.normpath(base / path.expanduser()))


def _absolute_url(url: str, base: Path) -> str:
    """A SQLite path in a URL is relative to the configuration, as every path is."""
    scheme, separator, rest = url.partition(":///")
    if not scheme.startswith("sqlite") or not separator or rest.startswith(("/", ":memory:")) or not rest:
        return url
    return f"{scheme}:///{os.path.normpath(base / rest)}"


def handler_specs(config: Config) -> dict[str, HandlerSpec]:
    """What workers run, by inbox."""
    return {
        name: HandlerSpec(
            python=inbox.handler.python,
            command=tuple(inbox.handler.command) if inbox.handler.command else None,
            database=inbox.handler.database,
            batch=inbox.handler.batch,
            options=inbox.handler.options,
        )
        for name, inbox in config.inboxes.items()
    }


def database_specs(config: Config) -> dict[str, DatabaseSpec]:
    """How workers reach the databases, by name."""
    return {
        name: DatabaseSpec(database.url.get_secret_value(), database.connect_timeout)
        for name, database in config.databases.items()
    }


def describe(old: Config, new: Config) -> list[str]:
    """What a reload changes, in words; secrets are not shown."""
    changes = []
    for key in Config.model_fields:
        if key == "inboxes":
            changes += _describe_inboxes(old.inboxes, new.inboxes)
        elif getattr(old, key) != getattr(new, key):
            changes.append(f"{key} changed")
    return changes


def _describe_inboxes(old: dict[str, Inbox], new: dict[str, Inbox]) -> list[str]:
    added = [f"inbox {name} added" for name in new if name not in old]
    removed = [f"inbox {name} removed" for name in old if name not in new]
    changed = [
        f"inbox {name}: {', '.join(_differing(old[name], new[name]))} changed"
        for name in old
        if name in new and old[name] != new[name]
    ]
    return added + removed + changed


def _differing(old: Inbox, new: Inbox) -> list[str]:
    return [key for key in Inbox.model_fields if getattr(old, key) != getattr(new, key)]
