"""What sources and destinations have in common: a place of exactly one kind, its library, and its address."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from inboxd.config import addresses
from inboxd.config.places import Ftp, SshServer
from inboxd.config.section import Section
from inboxd.config.web import Http

_NEEDS = {"sftp": "paramiko", "store": "fsspec"}  # kind -> module of the extra of the same name


def check_kind(section: Section, kinds: tuple[str, ...]) -> None:
    """Raises ValueError unless exactly one of the kinds is given, and its library installed."""
    given = [kind for kind in kinds if getattr(section, kind) is not None]
    if len(given) != 1:
        *others, last = map(repr, kinds)
        found = ", ".join(given) or "none"
        raise ValueError(f"give exactly one of {', '.join(others)} and {last} (given: {found})")
    needed = _NEEDS.get(given[0])
    if needed and find_spec(needed) is None:
        raise ValueError(f"the library {needed} is not installed; run: pip install 'inboxd[{given[0]}]'")


def address_of(kind: str, place: Any) -> str:
    """Where it is, for people: a URL without secrets."""
    if isinstance(place, SshServer | Ftp):
        return f"{kind}://{place.host}:{place.port}/{place.path.lstrip('/')}"
    url = place.list if isinstance(place, Http) else place.url
    return addresses.harmless(url.get_secret_value())
