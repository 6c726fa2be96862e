"""A TCP connection through us, which can stall, be cut, or be slow."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time


class Tunnel:
    """Listens on `port` of the loopback address and passes bytes on to another port there.

    `stall_after`: bytes towards the client after which nothing is passed on any more, None for never.
    `cut_after`: the same, but both ends are closed. `hold_after`: bytes towards the server after which no more of them
    are read. `delay`: seconds that every piece waits, each way. `window`: bytes that the kernel takes from the client
    before we read them, None for as many as it likes.
    """

    def __init__(self, target: int, window: int | None = None) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        if window is not None:
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.port: int = self._server.getsockname()[1]
        self.stall_after: int | None = None
        self.cut_after: int | None = None
        self.hold_after: int | None = None
        self.delay = 0.0
        self.passed = 0  # bytes towards the client
        self.sent = 0  # bytes towards the server
        self.connections = 0
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, run, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                self._links += [near, far]
                self._start(self._pass_on, near, far)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            for link, other in ((near, far), (far, near)):
                selector.register(link, selectors.EVENT_READ, other)
            while True:
                for key, _ in selector.select(0.05):
                    end, count = (self.stall_after, self.passed) if key.fileobj is far else (self.hold_after, self.sent)
                    if end is not None and count >= end:
                        time.sleep(0.01)
                        continue
                    data = key.fileobj.recv(16384)
                    if not data:
                        return
                    time.sleep(self.delay)
                    if key.fileobj is far:
                        self.passed += len(data)  # before they are seen: who has seen them may ask how many there were
                    else:
                        self.sent += len(data)
                    key.data.sendall(data)
                    if key.fileobj is far and self.cut_after is not None and self.passed >= self.cut_after:
                        return

    def cut(self) -> None:
        """Close all that is open now."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def close(self) -> None:
        """Listen no more, and close all."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
