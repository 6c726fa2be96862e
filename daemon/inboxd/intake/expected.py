"""Files that have to arrive by an hour of the day: which have not, and which came late. Pure.

Dates and hours are those of a time zone, instants are seconds since the epoch. An hour that does not exist on the day
when clocks are put forward is taken as if they had not been; one that comes twice is the first of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from inboxd.progress import show_span

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)
_MOST = timedelta(days=31)  # judged at once, after a long sleep or a jump of the clock

Count = Callable[[float, float], int]  # arrivals after the first instant, up to and with the second


class Window(NamedTuple):
    """The time in which the files of a day are expected."""

    day: date
    begin: float  # the hour of the expected day before; itself not within
    end: float  # the hour of this day
    grace: float  # until then what comes is this day's and late; then it counts for the next


class Expected:
    """Which hours of which days."""

    def __init__(self, by: str, weekdays: Iterable[str], zone: str) -> None:
        self._by = time.fromisoformat(by)
        self._weekdays = frozenset(map(WEEKDAYS.index, weekdays))
        self._zone = ZoneInfo(zone)

    def window(self, day: date) -> Window:
        """Of an expected day. Late is who comes within half of the time to the next expected hour."""
        end, following = self._instant(day), self._instant(self._next(day, _DAY))
        return Window(day, self._instant(self._next(day, -_DAY)), end, end + (following - end) / 2)

    def ended(self, after: float, now: float) -> list[Window]:
        """The windows that ended after an instant and up to now, of the last 31 days at most, in their order."""
        last = self._day(now)
        first = self._day(max(after, now - _MOST.total_seconds()))
        days = (first + _DAY * number for number in range((last - first).days + 1))
        windows = (self.window(day) for day in days if day.weekday() in self._weekdays)
        return [window for window in windows if after < window.end <= now]

    def coming(self, now: float) -> Window:
        """The next one to end."""
        window = self.window(self._next(self._day(now), -_DAY))
        while window.end <= now:
            window = self.window(self._next(window.day, _DAY))
        return window

    def told(self, day: date) -> str:
        """`by 06:30 on Mon 2026-11-09 (Europe/Berlin)`."""
        return f"by {self._by:%H:%M} on {WEEKDAYS[day.weekday()].title()} {day} ({self._zone.key})"

    def _next(self, day: date, step: timedelta) -> date:
        day += step
        while day.weekday() not in self._weekdays:
            day += step
        return day

    def _day(self, now: float) -> date:
        return datetime.fromtimestamp(now, self._zone).date()

    def _instant(self, day: date) -> float:
        return datetime.combine(day, self._by, self._zone).timestamp()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be told."""

    day: date
    is_missing: bool  # else it is late: it has arrived after all
    expected: int
    found: int
    message: str
    seconds: float = 0.0  # how late


class Memory(NamedTuple):
    """What outlives a process."""

    judged: float  # windows that ended up to then have been judged
    late: str | None = None  # the day whose files were missing, and may still come
    counted: float | None = None  # what arrived up to then has been counted as late


class Arrivals:
    """Judges each window once it has ended, and then looks out for what is late."""

    def __init__(self, expected: Expected, at_least: int, since: float) -> None:
        """`since`: windows that ended up to then are not judged: the end of the last one that was, or the begin of it
        all. A restart over the hour must not hide that nothing came."""
        self._expected = expected
        self._at_least = at_least
        self._judged = since
        self._late: Window | None = None  # not complete when it was judged
        self._stood: tuple[Window, int] | None = None
        self._begin = -float("inf")  # what arrived up to then has been counted as late

    @classmethod
    def recalled(cls, expected: Expected, at_least: int, memory: Memory) -> Arrivals:
        """As it was when this was its memory. Raises ValueError for a day that is none."""
        made = cls(expected, at_least, memory.judged)
        made._late = expected.window(date.fromisoformat(memory.late)) if memory.late is not None else None
        made._begin = memory.counted if memory.counted is not None else -float("inf")
        return made

    @property
    def memory(self) -> Memory:
        """What `recalled` needs."""
        late = self._late.day.isoformat() if self._late is not None else None
        return Memory(self._judged, late, self._begin if self._begin > -float("inf") else None)

    def stand(self, now: float, count: Count) -> tuple[Window, int]:
        """After a look: the window that waits for its files, missing or to come, and how many there are of them."""
        window = self._late or self._expected.coming(now)
        if self._stood is None or self._stood[0] != window or self._stood[1] < self._at_least:
            self._stood = window, count(max(window.begin, self._begin), now)
        return self._stood

    @property
    def judged(self) -> float:
        """Windows that ended up to this instant have been judged."""
        return self._judged

    def look(self, now: float, count: Count) -> list[Finding]:
        """What there is to tell now. `count` is asked only when there is something to judge or to wait for."""
        found = [self._look_for_late(now, count)]
        for window in self._expected.ended(self._judged, now):
            found.append(self._judge(window, count))
            found.append(self._look_for_late(now, count))
        return [finding for finding in found if finding is not None]

    def _judge(self, window: Window, count: Count) -> Finding | None:
        self._judged = window.end
        found = count(max(window.begin, self._begin), window.end)
        if found >= self._at_least:
            self._late = None
            return None
        self._late = window
        what = f"{found} of {self._at_least} files" if self._at_least > 1 else "no file"
        message = f"{what} came that should be here {self._expected.told(window.day)}"
        return Finding(window.day, True, self._at_least, found, message)

    def _look_for_late(self, now: float, count: Count) -> Finding | None:
        window = self._late
        if window is None:
            return None
        begin, until = max(window.begin, self._begin), min(now, window.grace)
        if count(begin, until) < self._at_least:
            self._late = window if now <= window.grace else None
            return None
        complete = _first(lambda instant: count(begin, instant) >= self._at_least, window.end, until)
        self._late, self._begin = None, complete
        found, late = count(begin, complete), complete - window.end
        what = f"what should be here {self._expected.told(window.day)}"
        message = f"{what} has come, {show_span(late)} late ({found} {'file' if found == 1 else 'files'})"
        return Finding(window.day, False, self._at_least, found, message, seconds=late)


def _first(is_so: Callable[[float], bool], begin: float, end: float) -> float:
    """From which instant on, to the second, something is so that is so at the end."""
    while end - begin > 1.0:
        middle = (begin + end) / 2
        begin, end = (begin, middle) if is_so(middle) else (middle, end)
    return end
