"""Items in an object store, or in any other file system that fsspec knows.

fsspec has no deadlines of its own: what hangs in a driver is ended with the process, by the supervisor. S3 gets the
source's time-outs, and credentials from `options` alone.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from typing import Any

from inboxd.fetch import places
from inboxd.fetch.errors import Gone, Unfit
from inboxd.fetch.part import Part
from inboxd.fetch.store_files import StoreFiles
from inboxd.wire import Listed, OrderedItem, SourceSpec

_BLOCK = 4 << 20  # bytes of one request
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class StoreSource:
    """All below one prefix."""

    def __init__(self, spec: SourceSpec) -> None:
        self._after, self._total = spec.place["after"], spec.total
        self._store = StoreFiles(spec)

    def list(self) -> Iterator[Listed]:
        """All objects below the prefix. Raises Away, Refused."""
        store, is_empty = self._store, True
        with places.of_the_listing(store.url, "check `url`, and the rights of the credentials in `options`"):
            for path, info in store.found(self._total):
                is_empty = False
                item = path.removeprefix(store.prefix).lstrip("/")  # "folder/" is a mark of some tools
                if info.get("type") == "file" and self._takes(path, item):
                    yield Listed(item, posixpath.basename(item), size=info.get("size"), version=_version(info))
            if is_empty:
                with store.asking():
                    store.files.ls(store.root, detail=False)  # raises when it is not there, or not for us

    def _takes(self, path: str, item: str) -> bool:
        moved = self._move_target()
        return all(map(places.is_plain, item.split("/"))) and not (moved and path.startswith(moved + "/"))

    def _move_target(self) -> str:
        """Below the prefix; with a slash in front, below the bucket (or the root, where there are no buckets)."""
        if not isinstance(self._after, dict):
            return ""
        folder = str(self._after["move"]).rstrip("/")
        if not folder.startswith("/"):
            return posixpath.join(self._store.prefix, folder)
        return folder if self._store.is_rooted else posixpath.join(self._store.root, folder.lstrip("/"))

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Raises Away, Refused, Gone, Unfit, TooLarge; OSError of our own disk."""
        try:
            path, info = self._expected(item)
            size = info.get("size")
            begin = places.start(part, item.version, size)
            with self._store.asking():
                stream = self._store.files.open(path, "rb", block_size=_BLOCK, cache_type="none")
            with contextlib.closing(stream):
                if begin:
                    with self._store.asking():
                        stream.seek(begin)
                while block := self._read(stream):
                    part.write(block)
            self._expected(item)
            if size is not None:
                places.check_whole(part, size, self._store.url)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from None

    def _read(self, stream: Any) -> bytes:
        with self._store.asking():
            block: bytes = stream.read(_BLOCK)
            return block

    def _expected(self, item: OrderedItem) -> tuple[str, dict[str, Any]]:
        """Where it is and what is said of it, if it is what was listed."""
        path = self._store.path_of(item.item)
        with self._store.asking():
            info: dict[str, Any] = self._store.files.info(path)
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
                with self._store.asking():
                    self._store.files.rm_file(path)
            else:
                self._move_away(path, item)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from None

    def _move_away(self, path: str, item: OrderedItem) -> None:
        store, folder = self._store, self._move_target()
        with store.asking():
            store.files.makedirs(folder, exist_ok=True)
        for name in places.free_names(item):
            target = posixpath.join(folder, name)
            with store.asking():
                is_free = not store.files.exists(target)
            if is_free:
                return store.move(path, target, store.asking)
        raise Unfit(f"it can't be moved to {folder}: too many of that name are there; clear that folder")

    def close(self) -> None:
        """Let go of it; its connections are closed with it."""
        self._store.close()


def _version(info: dict[str, Any]) -> str:
    tag = next((info[name] for name in _TAGS if info.get(name)), "")
    changed = next((info[name] for name in _TIMES if info.get(name)), "unknown")
    return str(tag).strip('"') or places.version_of(info.get("size"), changed)
