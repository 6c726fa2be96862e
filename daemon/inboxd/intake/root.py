"""inbound/ itself: whether it is there and still ours, and how we hear of what happens in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inboxd import events
from inboxd.beneath import Identity
from inboxd.config.models import Inbox, Quiet
from inboxd.config.units import show_duration
from inboxd.events import emit
from inboxd.intake import mounts
from inboxd.intake.hints import Hints
from inboxd.intake.watch import Watch, why_poll

_POLL = 2.0  # seconds between two passes where there are no events
_MOST_LOOKS = 32  # passes until the next try to have events, while the kernel has no watch left


class Root:
    """Watched by kernel events, or polled; or away, until it comes back. Used by the pipeline's thread."""

    def __init__(
        self, name: str, rules: Inbox, rescan: float, hints: Hints, wake: Callable[[], None], anew: Callable[[], None]
    ) -> None:
        """`rescan`: seconds between two passes. `anew`: everything in it has to be looked at."""
        self.path: Path = rules.folder("inbound")
        self.condition = "not started"
        self.every = rescan  # seconds between two passes, as things are
        self._name = name
        self._choice = rules.watch
        self._rescan = rescan
        self._anew = anew
        self._identity: Identity | None = None
        self._looks = self._patience = 0  # passes that are left, and of how many, until that try; 0: none comes
        by_time = isinstance(rules.settle, Quiet)  # then a file is of interest from its creation on
        self._watch = Watch(self.path, rules.recursive, by_time, hints, wake)

    @property
    def is_away(self) -> bool:
        return self.condition.startswith("away")

    def start(self) -> None:
        """Watch, or say why not. Raises OSError when it can't be looked at."""
        identity = mounts.identify(self.path)
        self._watch.stop()
        self._identity = identity
        try:
            reason = why_poll(self.path, self._choice) or self._start_watch()
        except OSError as error:
            self._poll_for_now(error)
        else:
            self._looks = 0
            self._poll(reason) if reason else self._watched()
        self._anew()

    def stop(self) -> None:
        """No more hints."""
        self._watch.stop()

    def check(self) -> bool:
        """It is there, and the one we know; a new one in its place is taken up, a foreign mount is not."""
        reason = mounts.why_away(self.path, self._identity)
        if reason:
            return self._away(reason)
        was_away = self.is_away
        try:
            if was_away or mounts.identify(self.path) != self._identity or not self._lives():
                self.start()
        except OSError as error:
            return self._away(error.strerror or str(error))
        if was_away:
            emit(events.INBOX_BACK, inbox=self._name, folder=str(self.path))
        return True

    def cover(self, folder: str) -> None:
        """A pass has come to this folder: hear of it, too."""
        try:
            if folder:
                self._watch.cover(folder)
        except OSError as error:
            self._poll_for_now(error)

    def _start_watch(self) -> str:
        """Why there can't be events; "" when they come. Raises OSError when there are none just now."""
        self._watch.start()
        return "" if self._watch.works() else "the event of a probe file did not arrive"

    def _watched(self) -> None:
        self.condition, self.every = "events", self._rescan
        emit(events.INBOX_WATCHED, inbox=self._name, folder=str(self.path), how="kernel events and rescans")

    def _poll_for_now(self, error: OSError) -> None:
        self._looks = self._patience = min(max(1, 2 * self._patience), _MOST_LOOKS)
        self._poll(error.strerror or str(error))

    def _poll(self, reason: str) -> None:
        self._watch.stop()
        before, self.condition = self.condition, f"polling: {reason}"
        self.every = min(self._rescan, _POLL)
        if self.condition != before:
            emit(events.INBOX_POLLING, inbox=self._name, reason=reason, every=show_duration(self.every))

    def _lives(self) -> bool:
        """There are events; or it is no time yet to try to have some."""
        if not self.condition.startswith("polling"):
            self._patience = 0
            return self._watch.alive
        self._looks -= 1
        return self._looks != 0

    def _away(self, reason: str) -> bool:
        if not self.is_away:
            emit(events.INBOX_AWAY, inbox=self._name, folder=str(self.path), reason=reason)
        self.condition = f"away: {reason}"
        return False
