"""Looking through an inbox, a slice at a time: entries as they come, nothing kept but open folders."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

from inboxd.beneath import open_folder


class Scan:
    """One pass over a folder, and recursively those below it on the same file system."""

    def __init__(self, root: Path, folders: list[str], recursive: bool) -> None:
        self.folders = 0
        self.files = 0
        self._root = root
        self._todo = deque(folders)
        self._recursive = recursive
        self._entries = self._walk()

    def advance(self, budget: int) -> Iterator[tuple[str, str, os.stat_result]]:
        """At most `budget` more entries that are no folders: (folder, name, lstat)."""
        for _ in range(budget):
            found = next(self._entries, None)
            if found is None:
                self.finished = True
                return
            yield found

    finished = False

    def close(self) -> None:
        """Give up the rest."""
        self._entries.close()

    def _walk(self) -> Generator[tuple[str, str, os.stat_result], None, None]:
        while self._todo:
            folder = self._todo.popleft()
            try:
                fd = open_folder(self._root, folder)
            except OSError:
                if folder == "":
                    raise
                continue  # removed or swapped since it was listed
            try:
                yield from self._list(fd, folder)
            finally:
                os.close(fd)

    def _list(self, fd: int, folder: str) -> Iterator[tuple[str, str, os.stat_result]]:
        self.folders += 1
        device = os.fstat(fd).st_dev
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    self.files += 1
                    yield folder, entry.name, found
                elif self._recursive and found.st_dev == device:
                    self._todo.append(f"{folder}/{entry.name}" if folder else entry.name)
