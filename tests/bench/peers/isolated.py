"""The careful loop whose handler runs in another process, asked through a pipe: a file that kills it kills nothing else.

isolated.py FOLDER     as careful.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from careful import Careful, digest

WORKER = "worker"


class Isolated(Careful):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.worker = subprocess.Popen(
            [sys.executable, __file__, folder, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.digests([])  # it has come up

    def digests(self, taken: Sequence[str]) -> list[str]:
        assert self.worker.stdin is not None and self.worker.stdout is not None
        self.worker.stdin.write(json.dumps(taken).encode() + b"\n")
        self.worker.stdin.flush()
        answer: list[str] = json.loads(self.worker.stdout.readline())
        return answer


def work(folder: str) -> None:
    taken = os.open(os.path.join(folder, "work"), os.O_RDONLY | os.O_DIRECTORY)
    for line in sys.stdin.buffer:
        print(json.dumps([digest(taken, name) for name in json.loads(line)]), flush=True)


if __name__ == "__main__":
    if WORKER in sys.argv[2:]:
        work(sys.argv[1])
    else:
        Isolated(sys.argv[1]).run()
