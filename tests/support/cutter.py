"""A wire between a ledger and its server that can be cut at COMMIT: before the server hears of it, or after."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from pathlib import Path


class Cutter:
    """Listens like a PostgreSQL server in `folder` and passes everything on to the one in `server`."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self._server = str(server / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self.cut = ""  # once: "before" the next message reaches the server, or "after" its next COMMIT is done; or
        # "unheard": as before, and the server is not told
        self._unheard: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No new connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for server in self._unheard:
            server.close()
        os.unlink(self.folder / ".s.PGSQL.5432")

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server, selectors.DefaultSelector() as ready:
            server.connect(self._server)
            other = {client: server, server: client}
            for end in other:
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _events in ready.select():
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    content = end.recv(1 << 16)
                    if self.cut == "unheard" and end is client:
                        self.cut = ""
                        self._unheard.append(server.dup())
                        return
                    if not content or self._cuts(content, from_server=end is server):
                        return
                    other[end].sendall(content)

    def _cuts(self, content: bytes, *, from_server: bool) -> bool:
        done = b"COMMIT\0" in content  # CommandComplete: the server's own word for it
        if (self.cut == "before" and not from_server) or (self.cut == "after" and from_server and done):
            self.cut = ""
            return True
        return False
