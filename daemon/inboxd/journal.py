"""journald's native interface, through systemd-python: one record, many fields (systemd.journal-fields(7)).

`sendv` keeps the interpreter's lock while the kernel has no room for the record, and would hold up every thread of a
daemon whose journald is slow or stopped. So each record waits for room first, and the lock is free meanwhile. Another
service may take that room in the same instant; then we wait for one record of journald's work. If journald hangs in
just that instant, systemd's watchdog ends us, and the next daemon goes on.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable

_SOCKET = "/run/systemd/journal/socket"
_PATIENCE = 1.0  # seconds between two looks for a journald that is away


class Journal:
    """Where records go. Belongs to the one thread that writes them."""

    def __init__(self) -> None:
        """Raises ImportError without systemd-python, OSError where no journald listens."""
        from systemd.journal import sendv

        self._sendv: Callable[..., None] = sendv
        self._probe: socket.socket | None = None
        self._inode = 0
        self._has_room(0.0)

    def write(self, records: Iterable[list[str]]) -> None:
        """Each record is a list of `FIELD=value`. Blocks until journald has taken them all, however long it is away."""
        for record in records:
            while not self._sent(record):
                pass

    def _sent(self, record: list[str]) -> bool:
        try:
            if not self._has_room(_PATIENCE):
                return False
            self._sendv(*record)
        except OSError:  # it is away: restarting, or its socket is made anew
            self._probe = None
            time.sleep(_PATIENCE)
            return False
        return True

    def _has_room(self, patience: float) -> bool:
        """journald's queue takes one more within `patience` seconds (poll(2) on a connected datagram socket)."""
        probe = self._connected()
        poll = select.poll()
        poll.register(probe, select.POLLOUT)
        return bool(poll.poll(patience * 1000))

    def _connected(self) -> socket.socket:
        inode = os.stat(_SOCKET).st_ino
        if self._probe is None or inode != self._inode:
            self._probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._probe.connect(_SOCKET)
            self._inode = inode
        return self._probe
