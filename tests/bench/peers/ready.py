"""Say "ready" as sd_notify(3) does, so that all candidates are timed alike."""

from __future__ import annotations

import os
import socket


def say_ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
