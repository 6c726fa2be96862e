"""A child's side of the conversation with the daemon: messages, its mark, and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from inboxd.wire import Errand, Frames, Mark, Message, Order, encode, write_mark
from inboxd.work.surroundings import watch_for_faults

_READ = 256 * 1024


class Stopped(BaseException):
    """SIGTERM came while there was nothing to do, or in the middle of what may be cut off."""


class Channel:
    """SIGTERM sets `stopping`: finish what is in progress, give the rest back, end."""

    def __init__(self, socket_fd: int, mark_fd: int) -> None:
        self.stopping = False
        self._socket_fd = socket_fd
        self._mark_fd = mark_fd
        self._speaking = threading.Lock()
        self._messages = self._receive()
        self._waiting = False  # SIGTERM may cut off what is going on
        self._orders = 0
        self._daemon = os.getppid()
        self._held = threading.local()  # each thread's signals, while it forks
        signal.signal(signal.SIGTERM, self._on_sigterm)
        os.register_at_fork(
            before=self._hold_sigterm, after_in_parent=self._let_sigterm_through, after_in_child=self._leave_sigterm
        )

    def is_over(self) -> bool:
        """Asked to end, or the daemon is gone."""
        return self.stopping or os.getppid() != self._daemon

    def say(self, message: Message) -> None:
        """Notes come from other threads while reports leave by this one: one message at a time."""
        left = memoryview(encode(message))
        with self._speaking:
            while left:
                left = left[os.write(self._socket_fd, left) :]

    def next(self) -> Message | None:
        """The next message; None when no more will come."""
        return next(self._messages, None)

    @contextlib.contextmanager
    def may_be_cut_off(self) -> Iterator[None]:
        """SIGTERM raises Stopped in here."""
        self._waiting = True
        try:
            if self.stopping:
                raise Stopped
            yield
        finally:
            self._waiting = False

    def begin(self) -> None:
        """What is marked from here on is of another order."""
        self._orders += 1

    def mark(self, order: Order | Errand, index: int, through: int | None = None) -> Mark:
        """The mark that says "I begin its file `index`", and all up to `through` with it; it counts once written."""
        last = index if through is None else through
        return Mark(order.batch, index, time.monotonic(), order.files[min(last, len(order.files) - 1)].id)

    def write(self, mark: Mark) -> None:
        """Say where we are, in a way that outlives us."""
        write_mark(self._mark_fd, mark, self._orders)

    def _receive(self) -> Iterator[Message]:
        frames = Frames()
        while data := self._wait_for_data():
            yield from frames.feed(data)

    def _wait_for_data(self) -> bytes:
        """b"" when nothing more will come. PEP 475: read goes on after a signal, so SIGTERM raises here."""
        try:
            self._waiting = True
            return b"" if self.stopping else os.read(self._socket_fd, _READ)
        except (Stopped, ConnectionResetError):
            return b""
        finally:
            self._waiting = False

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True
        if self._waiting:
            self._waiting = False
            raise Stopped

    # What a handler forks ends of SIGTERM, as processes do: multiprocessing.Pool waits until its own have. It is held
    # back over the fork, since Python forgets what comes between that and the child's first step.

    def _hold_sigterm(self) -> None:
        self._held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _let_sigterm_through(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._held.mask)

    def _leave_sigterm(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._let_sigterm_through()


def main(serve: Callable[[Channel], None]) -> None:
    """Entry point of a child: `python -P -m MODULE SOCKET MARK`, two inherited descriptors.

    A third, the generation lock, is only held: it tells the next daemon that this one's children are still there.
    """
    socket_fd, mark_fd = map(int, sys.argv[1:3])
    for fd in (socket_fd, mark_fd):
        os.set_inheritable(fd, False)  # commands must not be able to speak for us
    watch_for_faults()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which stops us in good order
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    try:
        serve(Channel(socket_fd, mark_fd))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon is gone, and the reports with it: the next one does these again
