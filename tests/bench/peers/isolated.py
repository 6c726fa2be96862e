"""The careful loop whose handler runs in two other processes, asked through pipes: a file that kills one kills nothing else.

While they have a batch each, the next one is claimed, and the one before is delivered.

isolated.py FOLDER     as careful.py
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence

from careful import BATCH, Careful, Row, digest

WORKER = "worker"


class Worker:
    def __init__(self, folder: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, folder, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.order([])
        self.digests()  # it has come up

    def order(self, taken: Sequence[str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(taken).encode() + b"\n")
        self.process.stdin.flush()

    def digests(self) -> list[str]:
        assert self.process.stdout is not None
        answer: list[str] = json.loads(self.process.stdout.readline())
        return answer


class Isolated(Careful):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.free = deque(Worker(folder) for _ in range(2))
        self.ordered: deque[tuple[Worker, list[Row]]] = deque()

    def take_all(self, found: Iterator[Row]) -> None:
        while rows := list(itertools.islice(found, BATCH // 2)):
            self.claim(rows)
            if not self.free:
                self.deliver_first()
            worker = self.free.popleft()
            worker.order([one for one, _name, _found in rows])
            self.ordered.append((worker, rows))
        while self.ordered:
            self.deliver_first()

    def deliver_first(self) -> None:
        worker, rows = self.ordered.popleft()
        self.deliver(rows, worker.digests())
        self.free.append(worker)


def work(folder: str) -> None:
    taken = os.open(os.path.join(folder, "work"), os.O_RDONLY | os.O_DIRECTORY)
    for line in sys.stdin.buffer:
        print(json.dumps([digest(taken, name) for name in json.loads(line)]), flush=True)


if __name__ == "__main__":
    if WORKER in sys.argv[2:]:
        work(sys.argv[1])
    else:
        Isolated(sys.argv[1]).run()
