"""Talking to systemd: sd_notify(3). Silent where nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from inboxd import events, threads
from inboxd.escape import escape
from inboxd.events import emit
from inboxd.syncing import under_way

_EVERY = 5.0  # seconds between two signs of life of a long start
_PATIENCE = 60.0  # seconds that systemd is to wait for the next one
LONGEST = 1800.0  # seconds for one step: a disk may have much to sync that others have left to it


class Service:
    """The notification socket of this process; taken from the environment once, and removed from it."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval()
        self._step_at = 0.0  # monotonic seconds
        self._started = threading.Event()
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

    def starting(self, every: float = _EVERY, longest: float = LONGEST) -> None:
        """A start begins. Until its end it is given time, while it calls `alive` within `longest` seconds.

        By a thread: a step may wait for a sync, or for the ledger, and a new start would wait there again.
        """
        self.alive()
        if self.is_heard:
            thread = threading.Thread(target=self._tell_of_start, args=(every, longest), name="start", daemon=True)
            with contextlib.suppress(OSError):  # no thread is left, and so the start is refused in a moment
                threads.start(thread)

    def alive(self) -> None:
        """The start has come a step further: cheap."""
        self._step_at = time.monotonic()

    def _tell_of_start(self, every: float, longest: float) -> None:
        told, hangs = "", False
        while not self._started.wait(every):
            seconds = time.monotonic() - self._step_at
            hung, hangs = hangs, seconds > longest
            if hangs:
                if not hung:
                    emit(events.START_HANGS, reason=_held_up(seconds))
                continue
            self.extend_timeout(_PATIENCE)
            reason = f": {_held_up(seconds)}" if seconds > every else ""
            if reason or told:
                self.status(f"starting{reason}")
            told = reason

    def ready(self) -> None:
        """Start, or reload, is finished."""
        self._started.set()
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
        self._started.set()
        self._send("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Start or stop may take so much longer from now on, and longer than the unit says."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode("utf-8", "backslashreplace"), self._address)
            except OSError:
                return  # a full or absent socket must not hurt the daemon; the next ping comes


def _held_up(seconds: float) -> str:
    """By what the main thread is, which has made no step for so long."""
    sync = under_way(threading.main_thread().ident or 0)
    if sync is None:
        return f"no step for {seconds:.0f} s"
    return f"the disk of {escape(sync.place())} has not synced for {time.monotonic() - sync.since:.0f} s"


def _watchdog_interval() -> float | None:
    """sd_watchdog_enabled(3): the interval, if it is meant for this process."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid.isdigit() and int(pid) != os.getpid()):
        return None
    return int(microseconds) / 1_000_000
