"""The limit for a program per file: two of them at once, then a rename. It keeps no record.

spawning.py FOLDER     what lies in FOLDER/inbound; then it waits until it is killed
"""

from __future__ import annotations

import os
import signal
import sys

from ready import say_ready

PROGRAM = "/bin/true"
AT_ONCE = 2


class Spawning:
    def __init__(self, folder: str) -> None:
        self.inbound = os.path.join(folder, "inbound")
        self.processed = os.path.join(folder, "processed")
        self.names: dict[int, str] = {}  # of the files whose programs run, by process

    def start(self, name: str) -> None:
        if len(self.names) == AT_ONCE:
            self.finish()
        path = os.path.join(self.inbound, name)
        self.names[os.posix_spawn(PROGRAM, [PROGRAM, path], os.environ)] = name

    def finish(self) -> None:
        """Wait for the next that ends."""
        process, status = os.wait()
        name = self.names.pop(process)
        if status == 0:
            os.rename(os.path.join(self.inbound, name), os.path.join(self.processed, name))

    def run(self) -> None:
        with os.scandir(self.inbound) as entries:
            for entry in entries:
                self.start(entry.name)
        while self.names:
            self.finish()
        say_ready()
        signal.pause()


if __name__ == "__main__":
    Spawning(sys.argv[1]).run()
