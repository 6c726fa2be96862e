"""A file system of fsspec, opened without a look at anything but the configuration, and its failures in our words."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from inboxd.fetch import places
from inboxd.fetch.errors import Away, Denied, Gone, Refused, RemoteError, Unfit
from inboxd.fetch.secrets import Secrets, of_options
from inboxd.wire import SourceSpec

_INSTALL = "pip install 'inboxd[store]'"
_OWN_SECTION = ("sftp", "ssh", "ftp", "ftps", "http", "https")  # fsspec's drivers verify less than ours
S3 = ("s3", "s3a")
_VERSION = "?versionId="  # s3fs leaves out what follows
_NOT_SO = (
    errno.EINVAL,
    errno.EMSGSIZE,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
)  # fmt: skip - what a store does not take, not even later

Asking = Callable[[], contextlib.AbstractContextManager[None]]


class StoreFiles:
    """The file system and the folder in it, connected when first asked for."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self.url: str = spec.place["url"]
        self._secrets = Secrets(of_options(spec.place["options"] or {}))
        self._opened: Any = None
        self._prefix = ""

    @property
    def protocol(self) -> str:
        """What stands before ://."""
        return self.url.partition("://")[0]

    @property
    def files(self) -> Any:
        """fsspec's object. Raises Away, Refused."""
        if self._opened is None:
            with self.asking():
                self._opened, path = _open(self._spec)
                self._prefix = path.rstrip("/")
        return self._opened

    @property
    def prefix(self) -> str:
        """The folder, as the file system calls it."""
        _ = self.files
        return self._prefix

    @property
    def root(self) -> str:
        """What must be there: a prefix need not, as long as nothing is below it."""
        return self.prefix if self.is_rooted else self.prefix.partition("/")[0]

    @property
    def is_rooted(self) -> bool:
        """It has folders, and no buckets."""
        return self.prefix.startswith("/")

    def path_of(self, name: str) -> str:
        """Where the item or result of that name is. Raises Unfit for one that the driver would take for another."""
        path = places.join(self.prefix, name)
        with self.asking():
            understood = self.files._strip_protocol(path)
        if understood != path or (self.protocol in S3 and _VERSION in name):
            raise Unfit("the driver of this store takes its name for another one's")
        return path

    def move(self, path: str, target: str, asking: Asking) -> None:
        """Rename it; copy and delete it where the driver has no renaming. Each question is asked in an `asking()`.

        fsspec's own mv() reads names as patterns: *.csv would take with it all that lies beside it.
        """
        from fsspec import AbstractFileSystem

        if type(self.files).mv is not AbstractFileSystem.mv:
            with asking():
                self.files.mv(path, target)
            return
        with asking():
            self.files.cp_file(path, target)
        with asking():
            self.files.rm_file(path)

    def found(self, total: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """All that lies below the folder, with what is said of it. `total`: seconds. Raises Away, Refused."""
        if self.protocol in S3:
            yield from self._pages(total)
            return
        with self.asking():
            found = self.files.find(self.prefix, detail=True)
        yield from found.items()

    def _pages(self, total: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What find() says of S3, but page by page: a bucket may have more objects than we have memory."""
        files, deadline = self.files, time.monotonic() + total
        bucket, key, _ = files.split_path(self.prefix)
        asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", **files.req_kw}
        while True:
            with self.asking():
                page = files.call_s3("list_objects_v2", **asked)
            for one in page.get("Contents", []):
                yield f"{bucket}/{one['Key']}", {**one, "type": "file", "size": one["Size"]}
            if not page.get("IsTruncated"):
                return
            if time.monotonic() > deadline:
                raise Away(f"{self.url} took longer than {total:.0f} s (timeout.total)")
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def close(self) -> None:
        """Let go of it; its connections are closed with it."""
        self._opened = None

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """A driver may raise anything, with anything in its text: it leaves here as ours, without our secrets."""
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:  # noqa: BLE001 - said above
            raise self._ours(error) from None

    def _ours(self, error: Exception) -> RemoteError:
        words = self._secrets.replaced(" ".join(f"{type(error).__name__}: {error}".split()))
        code = error.errno if isinstance(error, OSError) else None
        if isinstance(error, FileNotFoundError):
            return Gone("there is no such object")
        if isinstance(error, PermissionError):
            return Denied(f"permission denied ({words})")
        if code == errno.EBUSY and not self._spec.sends:  # of a destination: it asks for a pause
            return Unfit("it has changed while it was read; the next poll lists it anew")
        if self._spec.sends and (code in _NOT_SO or isinstance(error, UnicodeError)):
            return Unfit(f"{self.url} does not take it: {words}")
        if isinstance(error, (TypeError, ValueError, KeyError)):
            return Refused(f"{self.url} can't be used: {words}; check `url` and `options`")
        return Away(f"{self.url} can't be reached: {words}")


def _open(spec: SourceSpec) -> tuple[Any, str]:
    protocol = spec.place["url"].partition("://")[0]
    if protocol in _OWN_SECTION or "::" in spec.place["url"]:
        raise Refused(f"store can't be {protocol}: sources of SFTP, FTP and HTTP have sections of their own")
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
        options = {**(spec.place["options"] or {})}
        if protocol in S3:
            options = _s3_options(options, spec)
    except ImportError as error:
        raise Refused(f"store {protocol} needs a library ({error}): {_INSTALL}, or the driver that it names") from None
    except ValueError:
        raise Refused(f"store {protocol} is not known to fsspec; for S3: {_INSTALL}, url s3://bucket/prefix") from None
    files = fsspec.filesystem(protocol, **options, skip_instance_cache=True, use_listings_cache=False)
    if protocol in S3:
        files.retries = 1  # the daemon tries again, and counts
    return files, str(kind._strip_protocol(spec.place["url"]))


def _s3_options(options: dict[str, Any], spec: SourceSpec) -> dict[str, Any]:
    """What s3fs gets: nothing from ~/.aws, from AWS_* or from the machine's role."""
    from aiobotocore.session import AioSession

    key, secret = options.get("key"), options.get("secret")
    if not options.get("anon") and not (key and secret):
        raise Refused("options of an S3 store need `key` and `secret`, or `anon: true`: nothing else is looked at")
    nowhere = (None, None, os.devnull, None)  # configuration name, variable, default, conversion
    session = AioSession({"config_file": nowhere, "credentials_file": nowhere, "profile": (None, None, None, None)})
    limits = {
        "connect_timeout": spec.connect, "read_timeout": spec.idle, "retries": {"max_attempts": 0},
        "ignore_configured_endpoint_urls": True,
    }  # fmt: skip
    return {**options, "session": session, "config_kwargs": {**limits, **(options.get("config_kwargs") or {})}}
