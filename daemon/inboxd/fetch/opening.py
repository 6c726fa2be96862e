"""Which module speaks what. Only the one that is needed is imported: each brings a library of its own."""

from __future__ import annotations

from importlib import import_module

from inboxd.fetch.errors import Refused
from inboxd.fetch.remote import Remote
from inboxd.wire import SourceSpec

_KINDS = {"http": "HttpSource", "sftp": "SftpSource", "ftp": "FtpSource", "store": "StoreSource"}


def open_remote(spec: SourceSpec) -> Remote:
    """The source, not connected yet. Raises Refused where its library is not installed."""
    try:
        module = import_module(f"inboxd.fetch.{spec.kind}")
    except ImportError as error:
        raise Refused(f"{error.name} is not installed; run: pip install 'inboxd[{spec.kind}]'") from error
    remote: Remote = getattr(module, _KINDS[spec.kind])(spec)
    return remote
