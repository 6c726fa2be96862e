"""A site whose inbox is fed by a Partner: what it offers is what must end up here."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from support.daemon import Daemon
from support.load import Dropped, dropped
from support.partner import ITEMS, PASSWORD, USER, Offer, Partner
from support.site import Site
from support.sound import assert_sound
from support.wait import wait_until

NAME = "partner-api"


def source(partner: Partner, *, when: str = "held", http: dict[str, Any] | None = None, **rules: Any) -> dict[str, Any]:
    """The section of config.yaml; `when`: "" for no acknowledgements."""
    place: dict[str, Any] = {
        "list": partner.url + "/api/outbox",
        "items": ITEMS,
        "next": {"link": "links.next"},
        "auth": {"basic": {"user": USER, "password": PASSWORD}},
        **(http or {}),
    }
    if when:
        place["ack"] = {"url": partner.url + "/api/outbox/{id}/ack", "when": when}
    retry = {"first": "10ms", "longest": "100ms"}
    return {"http": place, "every": "200ms", "retry": retry, **rules}


def connect(site: Site, partner: Partner, *, inbox: dict[str, Any] | None = None, **rules: Any) -> None:
    """Give inbox main this source; `rules` as source() takes them, `inbox`: rules of the inbox itself."""
    site.inbox("main", sources={NAME: source(partner, **rules)}, **(inbox or {}))


def offer(partner: Partner, count: int, *, seed: int = 1, size: int = 1024, prefix: str = "ok") -> list[Offer]:
    """So many more items, every content different."""
    dice = random.Random(f"{prefix} {seed}")
    names = [f"{prefix}-{number:05d}.dat" for number in range(count)]
    return [partner.add(name, f"{name} {seed}\n".encode() + dice.randbytes(size)) for name in names]


def offered(partner: Partner) -> tuple[Dropped, ...]:
    """All that it offers, as the checker wants it."""
    return tuple(dropped("main", one.name.encode(), one.data) for one in partner.offers.values())


def assert_sound_with(site: Site, partner: Partner, *more: Dropped, **evidence: Any) -> None:
    """The invariants hold, of the items too. `more`: what was offered before."""
    acked = frozenset((NAME, name) for name in partner.acked())
    assert_sound(site, offered=(*offered(partner), *more), acked=acked, **evidence)


def items(site: Site) -> list[dict[str, Any]]:
    """The rows of the ledger, by what the source calls them; none before its first migration."""
    return rows(site, "SELECT * FROM items ORDER BY item, version")


def rows(site: Site, query: str) -> list[dict[str, Any]]:
    """What a query of the ledger gives; nothing before its first migration."""
    url = str(site.settings.get("ledger", "sqlite"))
    if url != "sqlite":
        with psycopg.connect(url.replace("+psycopg", ""), row_factory=dict_row) as db, _nothing_yet():
            return list(db.execute(query))
        return []
    place = site.state / "ledger.sqlite"
    if place.exists():
        with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True, timeout=10)) as db, _nothing_yet():
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query)]
    return []


def _nothing_yet() -> AbstractContextManager[None]:
    return suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable)


def states(site: Site) -> Counter[str]:
    """How many items are in which state."""
    found = rows(site, "SELECT state, count(*) AS number FROM items GROUP BY state")
    return Counter({row["state"]: row["number"] for row in found})


def wait_states(site: Site, timeout: float = 30.0, **wanted: int) -> None:
    """Exactly so many are in these states, and none in others."""
    wait_until(lambda: states(site) == Counter(wanted), f"items {wanted}", timeout, 0.03)


def fetches(partner: Partner, name: str = "") -> list[Any]:
    """GETs of an item, or of all."""
    return [asked for asked in partner.log(f"/files/{name}") if asked.method == "GET"]


def fetchers(daemon: Daemon) -> list[psutil.Process]:
    """The fetcher processes that run now."""
    return [child for child in daemon.children() if _is_fetcher(child)]


def _is_fetcher(process: psutil.Process) -> bool:
    try:
        return "inboxd.fetch.fetcher" in process.cmdline()
    except psutil.Error:
        return False
