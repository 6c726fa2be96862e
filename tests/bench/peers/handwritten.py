"""What one would write in an afternoon: watchdog, a ProcessPoolExecutor, a row per file.

handwritten.py FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from ready import say_ready
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

WORKERS = 2


def process(path: str) -> str:
    """The handler, in a process of the pool."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Script(FileSystemEventHandler):
    def __init__(self, folder: Path, pool: ProcessPoolExecutor) -> None:
        self.inbound = folder / "inbound"
        self.processed = folder / "processed"
        self.pool = pool
        self.seen: set[str] = set()
        self.lock = threading.Lock()
        self.db = sqlite3.connect(folder / "rows.sqlite", check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, sha256 TEXT)")

    def on_closed(self, event: FileSystemEvent) -> None:
        self.submit(str(event.src_path))

    def on_created(self, event: FileSystemEvent) -> None:
        self.submit(str(event.src_path))

    def on_moved(self, event: FileSystemEvent) -> None:
        self.submit(str(event.dest_path))

    def submit(self, path: str) -> None:
        name = os.path.basename(path)
        if name.startswith(".") or os.path.dirname(path) != str(self.inbound):
            return
        with self.lock:
            if name in self.seen:
                return
            self.seen.add(name)
        self.pool.submit(process, path).add_done_callback(lambda future: self.finish(name, future))

    def finish(self, name: str, future: Future[str]) -> None:
        os.rename(self.inbound / name, self.processed / name)
        with self.lock:
            self.db.execute("INSERT INTO files (name, sha256) VALUES (?, ?)", (name, future.result()))
            self.db.commit()


def main() -> None:
    folder = Path(sys.argv[1])
    with ProcessPoolExecutor(WORKERS) as pool:
        script = Script(folder, pool)
        observer = Observer()
        observer.schedule(script, str(script.inbound))
        observer.start()
        for entry in sorted(os.listdir(script.inbound)):
            script.submit(str(script.inbound / entry))
        say_ready()
        observer.join()


if __name__ == "__main__":
    main()
