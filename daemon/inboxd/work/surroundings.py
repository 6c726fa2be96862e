"""What a handler may change of its process and leave changed: noted once, put back between files."""

from __future__ import annotations

# What signal and locale wrap: enumerations around each answer take 5 us a file, a table of names takes 400 KiB.
import _locale
import _signal  # type: ignore[import-not-found]
import faulthandler
import os
import signal
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
        self._umask = _umask()
        self._locale = _locale.setlocale(_locale.LC_ALL)
        self._mask = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers: dict[int, Any] = {int(number): _signal.getsignal(number) for number in _WATCHED}

    def restore(self) -> None:
        """Put back what is not as it was."""
        os.fchdir(self._folder)
        os.umask(self._umask)
        if _locale.setlocale(_locale.LC_ALL) != self._locale:
            _locale.setlocale(_locale.LC_ALL, self._locale)
        signal.setitimer(signal.ITIMER_REAL, 0)  # its alarm would hit the next file
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
                watch_for_faults()
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def watch_for_faults() -> None:
    """Tracebacks on standard error: for faults before the process dies of them, for SIGQUIT at once."""
    faulthandler.enable()
    tell_where_when_asked()


def tell_where_when_asked() -> None:
    """A traceback on standard error at SIGQUIT. Where somebody has changed the handler, `register` does not notice."""
    faulthandler.unregister(signal.SIGQUIT)
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=False)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
