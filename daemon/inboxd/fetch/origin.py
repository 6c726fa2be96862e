"""Which URLs a source may send us to, and what we send there: our credentials go to the origin of `list` alone.

An origin is scheme, host and port (RFC 6454). What a partner's listing or redirect names is only looked at here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from inboxd.fetch.errors import Refused, Unfit

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"[A-Za-z0-9._~:\[\]-]+")  # no user:password@, and nothing that two parsers read differently
_HARMFUL = re.compile(r"[\x00-\x1f\x7f\\]")


def origin_of(url: str) -> str:
    """`https://partner.example:443`. Raises ValueError, with words that hold nothing of the URL."""
    if _HARMFUL.search(url):
        raise ValueError("it holds a control character or a backslash")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("it is neither http nor https")
    if not parts.hostname or not _AUTHORITY.fullmatch(parts.netloc):
        raise ValueError("its host is missing, or is not written plainly (user:password@ is not allowed)")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"


def host_of(url: str) -> str:
    """What messages call the server: its host, and its port where that is not the usual one."""
    origin = origin_of(url)
    scheme, _, host = origin.partition("://")
    return host.removesuffix(f":{_PORTS[scheme]}")


def is_same(one: str, other: str) -> bool:
    """Both have the same origin, and one that can be used."""
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False


def absolute(page: str, url: str) -> str:
    """`url` as it is meant on `page`, without a fragment; what can't be joined is left as it is."""
    try:
        return urldefrag(urljoin(page, url)).url
    except ValueError:
        return url


def is_loopback(url: str) -> bool:
    """What is sent there stays on this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3


class Origins:
    """The origin of `list`, ours to speak to; and further ones that items may be fetched from, as a stranger."""

    def __init__(self, place: dict[str, Any]) -> None:
        """Raises Refused."""
        try:
            self.home = origin_of(place["list"])
            self._others = frozenset(map(origin_of, place["origins"]))
        except ValueError as error:
            raise Refused(f"a URL of the source can't be used: {error}; correct `list` or `origins`") from None
        self._credentials = _credentials(place)

    def is_home(self, url: str) -> bool:
        """It has the origin of `list`."""
        return is_same(url, self.home)

    def check_item(self, url: str) -> None:
        """Raises Unfit for an item that lies where it may not."""
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise Unfit(f"its url can't be used: {error}") from None
        if origin != self.home and origin not in self._others:
            raise Unfit(f"its url leads to another origin, {origin}; if it may, add that to `origins`")

    def check_home(self, url: str, what: str) -> None:
        """Raises Refused when `what` does not stay at the origin of `list`."""
        if not self.is_home(url):
            raise Refused(f"{what} leads away from the origin of `list` ({self.home})")

    def credentials(self, url: str) -> dict[str, str]:
        """The headers that go with a request for `url`."""
        return self._credentials if self.is_home(url) else {}


def _credentials(place: dict[str, Any]) -> dict[str, str]:
    auth = place["auth"] or {}
    if auth and urlsplit(place["list"]).scheme == "http" and not (place["cleartext"] or is_loopback(place["list"])):
        raise Refused("credentials would go over http:// for all to read; use https://, or set cleartext: true")
    headers = {str(name): str(value) for name, value in place["headers"].items()}
    if "basic" in auth:
        pair = f"{auth['basic']['user']}:{auth['basic']['password']}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"  # RFC 7617
    elif "bearer" in auth:
        headers["Authorization"] = f"Bearer {auth['bearer']}"
    elif "header" in auth:
        headers[auth["header"]["name"]] = auth["header"]["value"]
    return headers
