"""Sources for a Site: sections of config.yaml that read a Partner's outbox."""

from __future__ import annotations

from typing import Any

from support.partner import ITEMS, PASSWORD, USER, Partner
from support.site import Site


def of_partner(partner: Partner, http: dict[str, Any] | None = None, **rules: Any) -> dict[str, Any]:
    """A source that reads all of the outbox and acknowledges what is held."""
    place = {
        "list": f"{partner.url}/api/outbox", "items": ITEMS, "next": {"link": "links.next"},
        "auth": {"basic": {"user": USER, "password": PASSWORD}},
        "ack": {"method": "POST", "url": f"{partner.url}/api/outbox/{{id}}/ack"},
    }  # fmt: skip
    return {
        "http": {**place, **(http or {})},
        "every": "200ms",
        "retry": {"first": "10ms", "longest": "100ms"},
        **rules,
    }


def with_sources(site: Site, sources: dict[str, dict[str, Any]], **rules: Any) -> None:
    """Give the site's inbox these sources."""
    site.inbox("main", sources=sources, **rules)
