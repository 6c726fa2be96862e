"""A time-out of a socket is per wait; a peer that sends a byte now and then never meets it. This one it meets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from inboxd.fetch.errors import Away, TooLarge


@contextlib.contextmanager
def cut_after(seconds: float, cut: Callable[[], object], words: str) -> Iterator[None]:
    """Call `cut`, which is to hang up, from another thread when the time is over; what is in here is Away(words) then.

    It is so even if nothing in here fails: to who reads, our hanging up can look like the end of what there is.
    """
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
    else:
        if over.is_set():
            raise Away(words)
    finally:
        timer.cancel()


@contextlib.contextmanager
def cut_when_still(seconds: float, cut: Callable[[], object], words: str) -> Iterator[Callable[[], None]]:
    """The same, when for so long nobody has called what this yields: something has moved."""
    over, done = threading.Event(), threading.Event()
    moved = time.monotonic()

    def move() -> None:
        nonlocal moved
        moved = time.monotonic()

    def watch() -> None:
        while not done.wait(max(0.0, moved + seconds - time.monotonic())):
            if time.monotonic() - moved >= seconds:
                over.set()
                with contextlib.suppress(Exception):  # it may have been hung up just now
                    cut()
                return

    watcher = threading.Thread(target=watch, name="still", daemon=True)
    watcher.start()
    try:
        yield move
    except Exception as error:
        if over.is_set():
            raise Away(words) from error
        raise
    else:
        if over.is_set():
            raise Away(words)
    finally:
        done.set()
