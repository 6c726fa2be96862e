"""An uploader who does not stop: `python flood.py INBOUND PREFIX` until it is ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_MOST = 2_000  # waiting at a time beside what was there: the disk is not what is tried here


@contextlib.contextmanager
def flooding(inbound: Path, prefix: str) -> Iterator[None]:
    """It runs meanwhile."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__, str(inbound), prefix]
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None, "the flood has ended"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    inbound, prefix = sys.argv[1:]
    os.chdir(inbound)
    for number in itertools.count():
        with open(".flood", "wb") as draft:
            draft.write(b"%020d" % number)
        os.rename(".flood", f"{prefix}-more-{number}")
        if number % _MOST == 0:
            while len(os.listdir(".")) > _MOST:
                pass


if __name__ == "__main__":
    main()
