"""watchfiles and a pool: what came in some 50 ms is mapped over the pool, and moved. It keeps no record.

watching.py FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from multiprocessing import Pool
from multiprocessing.pool import Pool as PoolType
from pathlib import Path

from ready import say_ready
from watchfiles import watch

WORKERS, CHUNK = 2, 100


def digest(path: str) -> str:
    """The handler, in a process of the pool."""
    with open(path, "rb", buffering=0) as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def take(inbound: str, processed: str, names: Iterable[str], pool: PoolType) -> None:
    """All of these that are there."""
    there = [name for name in names if not name.startswith(".") and os.path.exists(os.path.join(inbound, name))]
    pool.map(digest, [os.path.join(inbound, name) for name in there], chunksize=CHUNK)
    for name in there:
        os.rename(os.path.join(inbound, name), os.path.join(processed, name))


def main() -> None:
    folder = Path(sys.argv[1])
    inbound, processed = str(folder / "inbound"), str(folder / "processed")
    with Pool(WORKERS) as pool:
        ready = False
        for changes in watch(inbound, yield_on_timeout=True, rust_timeout=20):
            if not ready:  # it watches now
                take(inbound, processed, os.listdir(inbound), pool)
                say_ready()
                ready = True
            take(inbound, processed, {os.path.basename(path) for _change, path in changes}, pool)


if __name__ == "__main__":
    main()
