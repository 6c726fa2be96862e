"""Can these handlers be loaded? Asked of a process of its own, since loading runs the user's code.

Run as `python -P -m inboxd.work.probe`: one Setup frame on standard input, a JSON object on standard output that
names the broken handlers (inbox -> why).
"""

from __future__ import annotations

import json
import os
import sys

from inboxd.wire import Frames, Setup
from inboxd.work.handler import Handlers


def main() -> None:
    """Load, tell, end."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what a handler prints while it is imported is not our answer
    for message in Frames().feed(sys.stdin.buffer.read()):
        if isinstance(message, Setup):
            os.write(answer, json.dumps(Handlers(message).load()).encode())


if __name__ == "__main__":
    main()
