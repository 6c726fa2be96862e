"""What inboxd's promises cost without inboxd: the bare loop with two renames and five rows of a file, by hundreds.

One process, so a file that kills it kills all; no settling, no retries, no log.

careful.py FOLDER     what lies in FOLDER/inbound first, then what is renamed in, until it is killed
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from inotify import names, watch
from ready import say_ready
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from inboxd.custody.disk import rename_new
from inboxd.custody.schema import INDEXES, files
from inboxd.model import new_id

BATCH = 200  # as inboxd has in a turn with two workers
Row = tuple[str, str, os.stat_result]  # id, name, and what lstat(2) said


class Careful:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.inbound, self.work, self.processed = (_opened(folder, name) for name in ("inbound", "work", "processed"))
        self.db = sqlite3.connect(os.path.join(folder, "rows.sqlite"), isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute(str(CreateTable(files).compile(dialect=sqlite.dialect())))
        self.db.execute(next(index for index in INDEXES if "files_open" in index))

    def claim(self, rows: Sequence[Row]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.many(
            "INSERT INTO files (id, inbox, folder, name, dev, ino, size, mtime_ns, state, claimed_at) "
            "VALUES (?, 'main', x'', ?, ?, ?, ?, ?, 'CLAIMING', 0.0)",
            ((one, os.fsencode(name), st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns) for one, name, st in rows),
        )
        self.db.execute("COMMIT")
        for one, name, _found in rows:
            rename_new(self.inbound, name, self.work, one)
            os.stat(one, dir_fd=self.work, follow_symlinks=False)
        self.db.execute("BEGIN IMMEDIATE")
        self.bring("CLAIMED", rows)
        self.bring("RUNNING", rows)
        self.db.execute("COMMIT")

    def deliver(self, rows: Sequence[Row], digests: Sequence[str]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.many(
            "UPDATE files SET state = 'DECIDED', outcome = 'processed', destination = ?, result = ? WHERE id = ?",
            ((os.fsencode(name), digest, one) for (one, name, _found), digest in zip(rows, digests, strict=True)),
        )
        self.db.execute("COMMIT")
        for one, name, _found in rows:
            rename_new(self.work, one, self.processed, name)
            os.stat(name, dir_fd=self.processed, follow_symlinks=False)
        self.db.execute("BEGIN IMMEDIATE")
        self.bring("DONE", rows, "open = 0")
        self.db.execute("COMMIT")

    def bring(self, state: str, rows: Sequence[Row], more: str = "open = 1") -> None:
        ids = [one for one, _name, _found in rows]
        self.db.execute(f"UPDATE files SET state = '{state}', {more} WHERE id IN ({', '.join('?' * len(ids))})", ids)

    def many(self, statement: str, values: Iterable[tuple[object, ...]]) -> None:
        self.db.executemany(statement, values)

    def found(self) -> Iterator[Row]:
        with os.scandir(self.inbound) as entries:
            for entry in (one for one in entries if not one.name.startswith(".")):
                yield new_id(), entry.name, entry.stat(follow_symlinks=False)

    def heard(self, told: Iterable[bytes]) -> Iterator[Row]:
        for name in dict.fromkeys(map(os.fsdecode, told)):
            with contextlib.suppress(FileNotFoundError):
                if not name.startswith("."):
                    yield new_id(), name, os.stat(name, dir_fd=self.inbound, follow_symlinks=False)

    def take_all(self, found: Iterator[Row]) -> None:
        while rows := list(itertools.islice(found, BATCH)):
            self.claim(rows)
            self.deliver(rows, [digest(self.work, one) for one, _name, _found in rows])

    def run(self) -> None:
        events = watch(os.path.join(self.folder, "inbound"))
        self.take_all(self.found())
        say_ready()
        while True:
            self.take_all(self.heard(names(events)))


def digest(folder_fd: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder_fd)
    with os.fdopen(fd, "rb", buffering=0) as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _opened(folder: str, name: str) -> int:
    path = Path(folder, name)
    path.mkdir(exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


if __name__ == "__main__":
    Careful(sys.argv[1]).run()
