"""What no single value can tell: settings that contradict each other, folders that swallow each other. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.models import FOLDERS, Config, Inbox

Problem = tuple[tuple[str | int, ...], str]


def problems(config: Config) -> Iterator[Problem]:
    """Every contradiction: the key's path, and what is wrong with it."""
    yield from _ledger(config)
    for name, inbox in config.inboxes.items():
        where = ("inboxes", name)
        yield from ((where + inner, text) for inner, text in _inbox(config, inbox))
    yield from _overlaps(config)


def _ledger(config: Config) -> Iterator[Problem]:
    url = config.ledger.get_secret_value()
    if url != "sqlite" and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        yield ("ledger",), "must be `sqlite`, or a URL that begins with sqlite:/// or postgresql+psycopg://"
    for name, database in config.databases.items():
        if "://" not in database.url.get_secret_value():
            yield ("databases", name, "url"), "must be an SQLAlchemy URL, such as sqlite:///var/warehouse.db"


def _inbox(config: Config, inbox: Inbox) -> Iterator[Problem]:
    database = inbox.handler.database
    if database is not None and database not in config.databases:
        known = ", ".join(config.databases) or "none"
        yield (
            ("handler", "database"),
            f"there is no database {database!r} below `databases` (there are: {known})",
        )
    if inbox.retry.first > inbox.retry.longest:
        yield ("retry", "first"), "is longer than `longest`; make it shorter"
    if inbox.retry.max_failures > inbox.retry.max_attempts:
        yield (
            ("retry", "max_failures"),
            "is above `max_attempts`, which ends a file before that; raise `max_attempts`",
        )
    if not inbox.match or "" in inbox.match:
        yield ("match",), 'names no file; write ["*"] for all'
    if inbox.sources:
        yield ("sources",), "remote sources are not part of this version; remove them"
    yield from _layout(inbox.layout)


def _layout(layout: str) -> Iterator[Problem]:
    try:
        made = time.strftime(layout, time.gmtime(0))
    except ValueError as error:
        yield ("layout",), f"is no strftime pattern: {error}"
        return
    if made.startswith("/") or ".." in made.split("/") or "\x00" in made:
        yield ("layout",), "must name a folder below processed/ and errors/, without '..'"


def _overlaps(config: Config) -> Iterator[Problem]:
    """No folder may serve two purposes, and nothing of ours may lie where files are looked for."""
    where: tuple[str | int, ...]
    named: list[tuple[Path, Problem]] = [(config.state, (("state",), "`state`"))]
    for name, inbox in config.inboxes.items():
        for which in FOLDERS:
            where = ("inboxes", name, which if getattr(inbox, which) else "root")
            named.append((inbox.folder(which), (where, f"{which} of inbox {name}")))
    seen: dict[Path, str] = {}
    for path, (where, what) in named:
        if path in seen:
            yield where, f"{path} is {what} and {seen[path]} at once; give each its own folder"
        seen[path] = what
    for name, inbox in config.inboxes.items():
        inbound = inbox.folder("inbound")
        for path, (where, what) in named:
            if path != inbound and path.is_relative_to(inbound):
                yield where, f"{path} ({what}) lies inside inbound of inbox {name}; move it out"
