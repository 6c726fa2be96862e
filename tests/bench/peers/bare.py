"""The limit for one process: read, hash, rename, one SQLite row per file committed by hundreds. No promise at all.

bare.py FOLDER     what lies in FOLDER/inbound first, then what is renamed in, until it is killed
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys

from inotify import names, watch
from ready import say_ready

BATCH = 100


class Bare:
    def __init__(self, folder: str) -> None:
        self.inbound = os.fsencode(os.path.join(folder, "inbound"))
        self.processed = os.fsencode(os.path.join(folder, "processed"))
        self.db = sqlite3.connect(os.path.join(folder, "rows.sqlite"), isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, name BLOB, size INTEGER, sha256 TEXT)")
        self.rows: list[tuple[bytes, int, str]] = []

    def take(self, name: bytes) -> None:
        path = os.path.join(self.inbound, name)
        with open(path, "rb", buffering=0) as stream:
            content = stream.read()
        digest = hashlib.sha256(content).hexdigest()
        os.rename(path, os.path.join(self.processed, name))
        self.rows.append((name, len(content), digest))
        if len(self.rows) == BATCH:
            self.commit()

    def commit(self) -> None:
        if self.rows:
            self.db.execute("BEGIN")
            self.db.executemany("INSERT INTO files (name, size, sha256) VALUES (?, ?, ?)", self.rows)
            self.db.execute("COMMIT")
            self.rows.clear()

    def run(self) -> None:
        fd = watch(os.fsdecode(self.inbound))
        taken = set()
        with os.scandir(self.inbound) as entries:
            for entry in entries:
                if not entry.name.startswith(b"."):
                    self.take(entry.name)
                    taken.add(entry.name)
        self.commit()
        say_ready()
        while True:
            for name in names(fd):
                if not name.startswith(b".") and name not in taken:
                    self.take(name)
            self.commit()


if __name__ == "__main__":
    Bare(sys.argv[1]).run()
