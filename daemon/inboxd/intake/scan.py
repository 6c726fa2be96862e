"""Looking through an inbox, a slice at a time: entries as they come, nothing kept but open folders."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from inboxd.beneath import mount_id, open_folder

#: Folders below inbound/, one in the other, that are looked into. Each is reached step by step, for each look and each
#: file: somebody who digs without end would have us at nothing else.
DEEPEST = 64

Found = tuple[str, str, os.stat_result]


def may_enter(folder: str) -> bool:
    """It is not too deep."""
    return folder.count("/") < DEEPEST


class Scan:
    """One pass over a folder, and recursively those below it on the same mount: others could not be renamed out of.

    `entered` hears of each folder before its entries are listed.
    """

    def __init__(self, root: Path, folders: list[str], recursive: bool, entered: Callable[[str], None]) -> None:
        self.finished = False
        self._root = root
        self._todo = deque(folders)
        self._recursive = recursive
        self._entered = entered
        self._mount: int | None = None
        self._entries = self._walk()

    def advance(self, budget: int) -> Iterator[Found]:
        """Of at most `budget` more entries the files: (folder, name, lstat). Raises OSError: no root."""
        for _ in range(budget):
            try:
                found = next(self._entries)
            except StopIteration:
                self.finished = True
                return
            if found is not None:
                yield found

    def close(self) -> None:
        """Give up the rest."""
        self._entries.close()

    def _walk(self) -> Generator[Found | None, None, None]:
        while self._todo:
            folder = self._todo.popleft()
            yield None  # each folder costs as much as an entry, if not more
            try:
                yield from self._open(folder)
            except OSError:
                if folder == "":
                    raise
                # removed or swapped since it was listed, or not for us to read: the others go on

    def _open(self, folder: str) -> Iterator[Found | None]:
        fd = open_folder(self._root, folder)
        try:
            if not folder or self._on_our_mount(fd):
                self._entered(folder)
                yield from self._list(fd, folder)
        finally:
            os.close(fd)

    def _on_our_mount(self, fd: int) -> bool:
        if self._mount is None:
            root = open_folder(self._root)
            try:
                self._mount = mount_id(root)
            finally:
                os.close(root)
        return mount_id(fd) == self._mount

    def _list(self, fd: int, folder: str) -> Iterator[Found | None]:
        device = os.fstat(fd).st_dev
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone, or out of our reach; the others go on
                if not entry.is_dir(follow_symlinks=False):
                    yield folder, entry.name, found
                    continue
                below = f"{folder}/{entry.name}" if folder else entry.name
                if self._recursive and found.st_dev == device and may_enter(below):
                    self._todo.append(below)
                yield None
