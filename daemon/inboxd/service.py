"""Talking to systemd: sd_notify(3). Silent where nobody listens."""

from __future__ import annotations

import os
import socket
import time

_STEP = 5.0  # seconds between two signs of life of a long start
_PATIENCE = 60.0  # seconds that systemd is to wait for the next one


class Service:
    """The notification socket of this process; taken from the environment once, and removed from it."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval()
        self._told = 0.0  # monotonic seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        """Somebody listens: this process is a service, and is started again when its unit says so."""
        return self._socket is not None

    def watchdog_interval(self) -> float | None:
        """Seconds within which systemd wants to hear from us (WatchdogSec=); None: it does not."""
        return self._interval

    def ready(self) -> None:
        """Start, or reload, is finished."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows."""
        self._send("STATUS=" + text.replace("\n", " "))

    def ping(self) -> None:
        """We live, and make turns."""
        if self._interval is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Start or stop may take so much longer from now on, and longer than the unit says."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def alive(self) -> None:
        """A long start makes progress: cheap, to be called at every step."""
        now = time.monotonic()
        if now - self._told >= _STEP:
            self._told = now
            self.extend_timeout(_PATIENCE)

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode("utf-8", "backslashreplace"), self._address)
            except OSError:
                return  # a full or absent socket must not hurt the daemon; the next ping comes


def _watchdog_interval() -> float | None:
    """sd_watchdog_enabled(3): the interval, if it is meant for this process."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid.isdigit() and int(pid) != os.getpid()):
        return None
    return int(microseconds) / 1_000_000
