"""Items in an object store, or in any other file system that fsspec knows.

fsspec has no deadlines of its own: what hangs in a driver is ended with the process, by the supervisor. S3 gets the
source's time-outs, and credentials from `options` alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from collections.abc import Iterator
from typing import Any

from inboxd.fetch import places
from inboxd.fetch.errors import Away, Gone, Refused, RemoteError, Unfit
from inboxd.fetch.part import Part
from inboxd.wire import Listed, OrderedItem, SourceSpec

_BLOCK = 4 << 20  # bytes of one request
_INSTALL = "pip install 'inboxd[store]'"
_OWN_SECTION = ("sftp", "ssh", "ftp", "ftps", "http", "https")  # fsspec's drivers verify less than ours
_S3 = ("s3", "s3a")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_SHOWN = ("endpoint_url", "region_name")  # options that are no secrets in a message


class StoreSource:
    """All below one prefix."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._url: str = spec.place["url"]
        self._after = spec.place["after"]
        self._secrets = sorted(set(_texts(spec.place["options"] or {})), key=len, reverse=True)
        self._opened: Any = None
        self._prefix = ""

    @property
    def _files(self) -> Any:
        """The file system, connected when first asked for."""
        if self._opened is None:
            with self._asking():
                self._opened, path = _open(self._spec)
                self._prefix = path.rstrip("/")
        return self._opened

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """A driver may raise anything, with anything in its text: it leaves here as ours, without our secrets."""
        try:
            yield
        except RemoteError:
            raise
        except Exception as error:  # noqa: BLE001 - said above
            raise self._ours(error) from None

    def _ours(self, error: Exception) -> RemoteError:
        words = f"{type(error).__name__}: {error}"
        for secret in self._secrets:
            words = words.replace(secret, "…")
        if isinstance(error, FileNotFoundError):
            return Gone("there is no such object")
        if isinstance(error, PermissionError):
            return Unfit(f"permission denied ({words})")
        if isinstance(error, OSError) and error.errno == errno.EBUSY:
            return Unfit("it has changed while it was read; the next poll lists it anew")
        if isinstance(error, (TypeError, ValueError, KeyError)):
            return Refused(f"{self._url} can't be used: {words}; check `url` and `options`")
        return Away(f"{self._url} can't be reached: {words}")

    def list(self) -> Iterator[Listed]:
        """All objects below the prefix. Raises Away, Refused."""
        files = self._files
        with places.of_the_listing(self._url, "check `url`, and the rights of the credentials in `options`"):
            with self._asking():
                found = files.find(self._prefix, detail=True)
                if not found:
                    files.ls(self._root(), detail=False)  # raises when it is not there, or not for us
            for path, info in found.items():
                item = path.removeprefix(self._prefix).lstrip("/")  # "folder/" is a mark of some tools
                if info.get("type") == "file" and self._takes(path, item):
                    yield Listed(item, posixpath.basename(item), size=info.get("size"), version=_version(info))

    def _root(self) -> str:
        """What must be there: a prefix need not, as long as nothing is below it."""
        return self._prefix if self._is_rooted() else self._prefix.partition("/")[0]

    def _is_rooted(self) -> bool:
        return self._prefix.startswith("/")

    def _takes(self, path: str, item: str) -> bool:
        moved = self._move_target()
        return all(map(places.is_plain, item.split("/"))) and not (moved and path.startswith(moved + "/"))

    def _move_target(self) -> str:
        """Below the prefix; with a slash in front, below the bucket (or the root, where there are no buckets)."""
        if not isinstance(self._after, dict):
            return ""
        folder = str(self._after["move"]).rstrip("/")
        if not folder.startswith("/"):
            return posixpath.join(self._prefix, folder)
        return folder if self._is_rooted() else posixpath.join(self._root(), folder.lstrip("/"))

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Raises Away, Refused, Gone, Unfit, TooLarge; OSError of our own disk."""
        try:
            path, info = self._expected(item)
            size = info.get("size")
            begin = places.start(part, item.version, size)
            with self._asking():
                stream = self._files.open(path, "rb", block_size=_BLOCK, cache_type="none")
            with contextlib.closing(stream):
                if begin:
                    with self._asking():
                        stream.seek(begin)
                while block := self._read(stream):
                    part.write(block)
            self._expected(item)
            if size is not None:
                places.check_whole(part, size, self._url)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from None

    def _read(self, stream: Any) -> bytes:
        with self._asking():
            block: bytes = stream.read(_BLOCK)
            return block

    def _expected(self, item: OrderedItem) -> tuple[str, dict[str, Any]]:
        """Where it is and what is said of it, if it is what was listed."""
        files = self._files
        path = places.join(self._prefix, item.item)
        with self._asking():
            info: dict[str, Any] = files.info(path)
        if info.get("type") != "file":
            raise Gone("there is no such object")
        places.check_version(_version(info), item)
        return path, info

    def ack(self, item: OrderedItem) -> None:
        """Leave, delete or move it. Raises Away, Refused, Gone, Unfit.

        Stores can't delete "only this version": what is written between our look and the deletion goes with it.
        """
        if self._after == "leave":
            return
        try:
            path, _ = self._expected(item)
            if self._after == "delete":
                with self._asking():
                    self._files.rm_file(path)
            else:
                self._move_away(path, item)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from None

    def _move_away(self, path: str, item: OrderedItem) -> None:
        files, folder = self._files, self._move_target()
        with self._asking():
            files.makedirs(folder, exist_ok=True)
            for name in places.free_names(item):
                target = posixpath.join(folder, name)
                if not files.exists(target):
                    files.mv(path, target)
                    return
        raise Unfit(f"it can't be moved to {folder}: too many of that name are there; clear that folder")

    def close(self) -> None:
        """Let go of it; its connections are closed with it."""
        self._opened = None


def _open(spec: SourceSpec) -> tuple[Any, str]:
    protocol = spec.place["url"].partition("://")[0]
    if protocol in _OWN_SECTION or "::" in spec.place["url"]:
        raise Refused(f"store can't be {protocol}: sources of SFTP, FTP and HTTP have sections of their own")
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
        options = {**(spec.place["options"] or {})}
        if protocol in _S3:
            options = _s3_options(options, spec)
    except ImportError as error:
        raise Refused(f"store {protocol} needs a library ({error}): {_INSTALL}, or the driver that it names") from None
    except ValueError:
        raise Refused(f"store {protocol} is not known to fsspec; for S3: {_INSTALL}, url s3://bucket/prefix") from None
    files = fsspec.filesystem(protocol, **options, skip_instance_cache=True, use_listings_cache=False)
    if protocol in _S3:
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


def _version(info: dict[str, Any]) -> str:
    tag = next((info[name] for name in _TAGS if info.get(name)), "")
    changed = next((info[name] for name in _TIMES if info.get(name)), "unknown")
    return str(tag).strip('"') or places.version_of(info.get("size"), changed)


def _texts(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _texts(value)
        elif isinstance(value, str) and len(value) > 3 and name not in _SHOWN:
            yield value
