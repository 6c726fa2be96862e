"""A queue with a broker: watchdog puts names into Redis, Celery's workers hash, move, and write a row each.

queued.py FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from celery import Celery
from ready import say_ready
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

FOLDER = Path(os.environ.get("QUEUED_FOLDER") or sys.argv[1])
SOCKET = FOLDER / "redis.sock"
app = Celery("queued", broker=f"redis+socket://{SOCKET}")
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=16, worker_hijack_root_logger=False)


@cache
def database() -> sqlite3.Connection:
    """One for each process."""
    db = sqlite3.connect(FOLDER / "rows.sqlite", timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, name TEXT, sha256 TEXT)")
    return db


@app.task(name="process")
def process(name: str) -> None:
    """The handler, in a worker."""
    path = FOLDER / "inbound" / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    os.rename(path, FOLDER / "processed" / name)
    database().execute("INSERT INTO files (name, sha256) VALUES (?, ?)", (name, digest))


class Script(FileSystemEventHandler):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_created(self, event: FileSystemEvent) -> None:
        self.put(str(event.src_path))

    def on_moved(self, event: FileSystemEvent) -> None:
        self.put(str(event.dest_path))

    def put(self, path: str) -> None:
        """Into the queue, once."""
        name = os.path.basename(path)
        if not name.startswith(".") and os.path.dirname(path) == str(FOLDER / "inbound") and name not in self.seen:
            self.seen.add(name)
            process.delay(name)


def main() -> None:
    options = ["--port", "0", "--unixsocket", str(SOCKET), "--save", "", "--appendonly", "no", "--dir", str(FOLDER)]
    subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    while not SOCKET.exists():
        time.sleep(0.01)
    worker = [sys.executable, "-m", "celery", "-A", "queued", "worker", "--concurrency", "2", "--loglevel", "ERROR"]
    subprocess.Popen(worker, cwd=Path(__file__).parent, env={**os.environ, "QUEUED_FOLDER": str(FOLDER)})
    script, observer = Script(), Observer()
    observer.schedule(script, str(FOLDER / "inbound"))
    observer.start()
    for name in sorted(os.listdir(FOLDER / "inbound")):
        script.put(str(FOLDER / "inbound" / name))
    while not app.control.ping(timeout=0.2):
        pass
    say_ready()
    observer.join()


if __name__ == "__main__":
    main()
