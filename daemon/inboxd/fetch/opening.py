"""Which module speaks what. Only the one that is needed is imported: each brings a library of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from inboxd.fetch.errors import Refused
from inboxd.fetch.remote import Destination, Remote
from inboxd.wire import SourceSpec

_SOURCES = {"http": "HttpSource", "sftp": "SftpSource", "ftp": "FtpSource", "store": "StoreSource"}
_DESTINATIONS = {"http": "HttpDestination", "sftp": "SftpDestination", "store": "StoreDestination"}


def open_remote(spec: SourceSpec) -> Remote:
    """The source, not connected yet. Raises Refused where its library is not installed."""
    remote: Remote = _opened(spec, spec.kind, _SOURCES[spec.kind])
    return remote


def open_destination(spec: SourceSpec) -> Destination:
    """The destination, not connected yet. Raises Refused where its library is not installed."""
    destination: Destination = _opened(spec, f"{spec.kind}_to", _DESTINATIONS[spec.kind])
    return destination


def _opened(spec: SourceSpec, module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"inboxd.fetch.{module}"), name)(spec)
    except ImportError as error:
        raise Refused(f"{error.name} is not installed; run: pip install 'inboxd[{spec.kind}]'") from error
