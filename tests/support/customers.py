"""A site whose handler leaves results for a Customer: what they are, where they must end up."""

from __future__ import annotations

from collections import Counter
from typing import Any

from support.customer import PASSWORD, USER, Customer
from support.site import Site
from support.sound import assert_sound
from support.sourced import rows
from support.wait import wait_until

NAME = "customer"


def destination(customer: Customer, *, http: dict[str, Any] | None = None, **rules: Any) -> dict[str, Any]:
    """The section of config.yaml."""
    auth = {"basic": {"user": USER, "password": PASSWORD}}
    retry = {"max_failures": 3, "first": "10ms", "longest": "100ms"}
    return {"http": {"url": customer.url + "/in/{name}", "auth": auth, **(http or {})}, "retry": retry, **rules}


def send_to(site: Site, customer: Customer, *, inbox: dict[str, Any] | None = None, **rules: Any) -> None:
    """Give inbox main this destination; `rules` as destination() takes them, `inbox`: rules of the inbox itself."""
    site.inbox("main", destinations={NAME: destination(customer, **rules)}, **(inbox or {}))


def sends(site: Site) -> list[dict[str, Any]]:
    """The rows of the ledger, by name."""
    return rows(site, "SELECT * FROM sends ORDER BY name, destination")


def send_states(site: Site) -> Counter[str]:
    """How many sends are in which state."""
    found = rows(site, "SELECT state, count(*) AS number FROM sends GROUP BY state")
    return Counter({row["state"]: row["number"] for row in found})


def wait_sends(site: Site, timeout: float = 30.0, **wanted: int) -> None:
    """Exactly so many are in these states, and none in others."""
    wait_until(lambda: send_states(site) == Counter(wanted), f"sends {wanted}", timeout, 0.03)


def assert_sound_to(site: Site, *customers: Customer, **evidence: Any) -> None:
    """The invariants hold, of what was sent too."""
    heard = frozenset((got.key, got.name, got.size) for customer in customers for got in customer.had())
    assert_sound(site, received=heard, **evidence)
