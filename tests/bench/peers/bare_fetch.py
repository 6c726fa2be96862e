"""The bare loop for sources: list, download, acknowledge with requests in so many threads. It promises nothing.

python bare_fetch.py URL FOLDER THREADS
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

url, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
auth = (sys.argv[4], sys.argv[5])
local = threading.local()


def session() -> requests.Session:
    """One per thread, so that connections are used again."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
        local.session.auth = auth
    return local.session


def fetch(item: dict[str, str]) -> None:
    """One item: to a file, and acknowledged."""
    with session().get(url + item["links"]["self"], stream=True, timeout=60) as answer:
        answer.raise_for_status()
        with open(folder / item["name"], "wb") as file:
            for block in answer.iter_content(65536):
                file.write(block)
    session().post(f"{url}/api/outbox/{item['id']}/ack", timeout=60).raise_for_status()


files = session().get(f"{url}/api/outbox", timeout=60).json()["files"]
with ThreadPoolExecutor(threads) as pool:
    for _ in pool.map(fetch, files):
        pass
