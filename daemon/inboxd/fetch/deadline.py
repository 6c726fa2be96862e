"""A time-out of a socket is per wait; a peer that sends a byte now and then never meets it. This one it meets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from inboxd.fetch.errors import Away, TooLarge


@contextlib.contextmanager
def cut_after(seconds: float, cut: Callable[[], object], words: str) -> Iterator[None]:
    """Call `cut`, which is to hang up, from another thread when the time is over; what fails then is Away(words)."""
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(Exception):  # it may have been hung up just now
            cut()

    timer = threading.Timer(max(seconds, 0.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if over.is_set() and not isinstance(error, TooLarge):
            raise Away(words) from error
        raise
    finally:
        timer.cancel()
