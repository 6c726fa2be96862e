"""What a handler may change of its process and leave changed: noted once, put back between files."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.getsignal makes an enumeration of each answer: 5 us a file
import faulthandler
import locale
import os
import signal
from contextlib import suppress
from typing import Any

#: Those that handlers and libraries use.
_WATCHED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT,
    signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1,
)  # fmt: skip


class Surroundings:
    """Working folder, umask, locale, signal handlers, signal mask and timer, as they are now."""

    def __init__(self) -> None:
        self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._path = os.getcwd()
        self._umask = _umask()
        self._locale = locale.setlocale(locale.LC_ALL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers: dict[int, Any] = {int(number): _signal.getsignal(number) for number in _WATCHED}

    def restore(self) -> None:
        """Put back what is not as it was."""
        if _folder() != self._path:
            os.fchdir(self._folder)
        os.umask(self._umask)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
        signal.setitimer(signal.ITIMER_REAL, 0)  # its alarm would hit the next file
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
                watch_for_faults()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def watch_for_faults() -> None:
    """Tracebacks on standard error: for faults before the process dies of them, for SIGQUIT at once."""
    faulthandler.enable()
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=False)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _folder() -> str:
    with suppress(FileNotFoundError):  # the handler has removed the folder it stood in
        return os.getcwd()
    return ""
