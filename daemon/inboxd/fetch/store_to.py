"""Results for an object store, or for any other file system that fsspec knows.

Where objects appear when they are complete they are written as they are; elsewhere a temporary file is moved. What
hangs is cut off where the driver is asynchronous, as those of stores are; another is ended with its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import posixpath
import threading
from collections.abc import Callable, Iterator
from typing import Any

from inboxd.fetch import places
from inboxd.fetch.deadline import cut_after, cut_when_still
from inboxd.fetch.errors import Away, Denied, Gone, Refused, Unfit
from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.store_files import Asking, StoreFiles
from inboxd.wire import OrderedItem, SourceSpec

_PART = 5 << 20  # bytes of one request: the least that S3 takes
_TIDY = 3.0  # seconds
_MOST_PARTS = 9_000  # of one object; S3 takes 10,000
_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci")  # nothing appears before the end
_ON_DISK = ("file", "local")


class StoreDestination:
    """One prefix. What is there is not overwritten, unless `replace` says so."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._replace: bool = spec.place["replace"]
        self._store = StoreFiles(spec)

    def close(self) -> None:
        """Let go of it."""
        self._store.close()

    def send(self, item: OrderedItem, result: Outgoing) -> bool:
        """Raises Away, Refused, Unfit, Unreadable."""
        url = self._store.url
        try:
            path = self._store.path_of(item.name)
            with self._within(result.left) as asking:
                return self._bring(path, item, result, asking)
        except Denied as error:
            raise Refused(f"{url} does not let us write: {error}; check the rights of what is in `options`") from None
        except Gone:
            raise Refused(f"{url} is not there; make it, or correct `url`") from None
        except Unfit as error:
            raise places.named(error, item.name) from None

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[Asking]:
        """Yields what each question is to be asked in.

        Raises Away when all of it takes longer, or one question longer than timeout.idle.
        """
        url, idle, was_cut = self._store.url, self._spec.idle, threading.Event()
        _ = self._store.files  # opened in this thread

        def cut() -> None:
            was_cut.set()
            self._cancel()

        with (
            cut_after(seconds, cut, f"{url} took longer than {seconds:.0f} s (timeout.total)"),
            cut_when_still(idle, cut, f"{url} took nothing for {idle:g} s (timeout.idle)") as move,
        ):

            @contextlib.contextmanager
            def asking() -> Iterator[None]:
                with self._store.asking():
                    yield
                if was_cut.is_set():  # to fsspec a cancelled request is one that has worked, and has brought None
                    raise Away(f"{url} was hung up on")
                move()

            yield asking

    def _cancel(self) -> None:
        """Any thread: what the driver waits for. It has nothing to say about it."""
        loop = getattr(self._store.files, "loop", None)
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])

    def _tidy(self, act: Callable[[], object]) -> None:
        """What is left there is nobody's; a server that hangs must not keep us for that."""
        with contextlib.suppress(Exception), cut_after(_TIDY, self._cancel, "it hangs"):
            act()

    def _bring(self, path: str, item: OrderedItem, result: Outgoing, asking: Asking) -> bool:
        there = self._there(path, asking)
        if there and not self._replace:
            return self._is_same(path, there, result, asking)
        if there and there.get("type") == "directory" and self._store.is_rooted:
            raise Unfit("a folder of that name is there; move it away there")
        if self._store.protocol in _WHOLE:
            self._write(path, result, asking)
            return False
        self._make_folders(path, asking)
        temporary = posixpath.join(posixpath.dirname(path), places.temporary_name(item.name, item.id))
        try:
            self._write(temporary, result, asking)
            return self._show(temporary, path, result, asking)
        except Exception:
            self._sweep(temporary)
            raise

    def _there(self, path: str, asking: Asking) -> dict[str, Any] | None:
        with asking():
            try:
                found: dict[str, Any] = self._store.files.info(path)
            except FileNotFoundError:
                return None
            return found

    def _is_same(self, path: str, there: dict[str, Any], result: Outgoing, asking: Asking) -> bool:
        """True: an earlier try had brought it, and its answer was lost. Raises Unfit for anything else."""
        is_like = there.get("type") == "file" and there.get("size") == result.size
        try:
            if is_like and self._sha256(path, result, asking) == result.sha256():
                return True
        except Denied:
            pass
        except Gone:
            raise Away(f"{self._store.url}: another one of that name went away while it was read") from None
        raise Unfit("another one of that name is there; move it away there, or write `replace: true` to overwrite it")

    def _sha256(self, path: str, result: Outgoing, asking: Asking) -> str:
        found = hashlib.sha256()
        with asking():
            stream = self._store.files.open(path, "rb", block_size=_PART, cache_type="none")
        with contextlib.closing(stream):
            while block := self._read(stream, asking):
                found.update(block)
                _ = result.left
        return found.hexdigest()

    def _read(self, stream: Any, asking: Asking) -> bytes:
        with asking():
            block: bytes = stream.read(_PART)
            return block

    # Written

    def _make_folders(self, path: str, asking: Asking) -> None:
        """Those below ours, which must be there."""
        if self._store.is_rooted:
            with asking():
                if not self._store.files.isdir(self._store.prefix):
                    raise Gone("there is no such folder")
                self._store.files.makedirs(posixpath.dirname(path), exist_ok=True)

    def _write(self, path: str, result: Outgoing, asking: Asking) -> None:
        size = max(_PART, -(-result.size // _MOST_PARTS))
        with asking():
            stream = self._store.files.open(path, "wb", block_size=size)
        try:
            for block in result.blocks():
                with asking():
                    stream.write(block)
            with asking():
                stream.close()
        except BaseException:
            self._tidy(stream.discard)
            with contextlib.suppress(Exception):
                stream.closed = True  # else to forget about it would complete it
            raise

    def _show(self, temporary: str, path: str, result: Outgoing, asking: Asking) -> bool:
        """Whether it was there already: somebody may have been faster."""
        if self._store.protocol in _ON_DISK:
            with asking():
                _sync(temporary)
        if not self._replace and (there := self._there(path, asking)):
            known = self._is_same(path, there, result, asking)
            self._sweep(temporary)
            return known
        self._store.move(temporary, path, asking)
        if self._store.protocol in _ON_DISK:
            with asking():
                _sync(posixpath.dirname(path))
        return False

    def _sweep(self, temporary: str) -> None:
        """Where that is still possible; the next try begins it anew anyway."""
        self._tidy(lambda: self._store.files.rm_file(temporary))

    def look(self) -> str:
        """List what is there. Raises Away, Refused."""
        url = self._store.url
        with (
            self._within(self._spec.total) as asking,
            places.of_the_listing(url, "check `url`, and the rights of what is in `options`"),
            asking(),
        ):
            self._store.files.ls(self._store.root, detail=False)
        return f"{url} can be listed; nothing was sent, so whether we may write to it is not known"


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
