"""Where a source is: URLs, their origins and templates, hosts. No message shows a URL, which may hold a secret."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

#: What a template may take from an item, and from a result.
PLACEHOLDERS = ("{id}", "{name}", "{version}")
OF_A_RESULT = ("{id}", "{name}")
_PORTS = {"http": 80, "https": 443}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_STORE = re.compile(r"[a-z][a-z0-9+.-]*://\S*\Z")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}\Z")
#: Protocols of fsspec that have a kind of source of their own, which checks host keys and certificates.
_ELSEWHERE = {"sftp": "sftp", "ssh": "sftp", "ftp": "ftp", "http": "http", "https": "http"}


class Origin(NamedTuple):
    """Whom one talks to, by scheme, host and port (RFC 6454, 4)."""

    scheme: str
    host: str
    port: int


def origin(url: str) -> Origin:
    """The origin of a URL that was checked."""
    parts = urlsplit(url)
    return Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def http_url(text: str) -> str:
    """An absolute http or https URL without credentials and fragment. Raises ValueError."""
    _parts(text)
    return text


def http_origin(text: str) -> str:
    """An origin as a URL, without a slash at its end: https://cdn.example. Raises ValueError."""
    parts = _parts(text)
    if parts.path not in ("", "/") or parts.query:
        raise ValueError("write scheme and host only, such as https://cdn.example")
    return text.removesuffix("/")


def template(text: str, known: tuple[str, ...] = PLACEHOLDERS) -> str:
    """A URL with placeholders in its path or query. Raises ValueError."""
    placeholders(text, known)
    parts = _parts(text)
    if "{" in parts.netloc:
        raise ValueError("placeholders belong into the path or the query, not into the host")
    if any(sign in _PLACEHOLDER.sub("", text) for sign in "{}"):
        raise ValueError("write braces that are no placeholder as %7B and %7D")
    return text


def result_template(text: str) -> str:
    """The same, for what a result has. Raises ValueError."""
    return template(text, OF_A_RESULT)


def placeholders(text: str, known: tuple[str, ...] = PLACEHOLDERS) -> str:
    """Any text with placeholders; other braces are plain text. Raises ValueError for a placeholder that is unknown."""
    unknown = [word for word in _PLACEHOLDER.findall(text) if f"{{{word}}}" not in known]
    if unknown:
        raise ValueError(f"there is no {{{unknown[0][:20]}}} to fill in; known: {', '.join(known)}")
    return text


def names_item(text: str) -> bool:
    """It has a placeholder, and so differs from item to item."""
    return any(one in text for one in PLACEHOLDERS)


def store_url(text: str) -> str:
    """A URL of fsspec. Raises ValueError."""
    if not _STORE.match(text):
        raise ValueError("write the URL of a folder with its protocol, such as s3://bucket/prefix or gs://bucket")
    better = _ELSEWHERE.get(text.partition("://")[0])
    if better:
        raise ValueError(f"write this as {better}: instead of store:, which would not check whom it talks to")
    return text


def host(text: str) -> str:
    """A host name or IP address alone. Raises ValueError."""
    if not _HOST.match(text) and not _is_ip(text):
        raise ValueError("write the name or the IP address of a host alone; the port has a key of its own")
    return text


def is_loopback(name: str) -> bool:
    """What is sent there stays on this machine."""
    return name.lower() == "localhost" or (_is_ip(name) and ip_address(name).is_loopback)


def harmless(url: str) -> str:
    """A URL for people: without query and credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _parts(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("write the URL in plain ASCII without spaces; percent-encode the rest, and xn--… for the host")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is no URL; write one such as https://partner.example/outbox") from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ValueError("write an http or https URL with a host, such as https://partner.example/outbox")
    if "@" in parts.netloc:
        raise ValueError("leave user and password out of the URL; write 'auth: {basic: {user: …, password: …}}'")
    if parts.fragment:
        raise ValueError("leave the fragment (#…) out; it is never sent")
    return parts
