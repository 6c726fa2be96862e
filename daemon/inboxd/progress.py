"""Count, percentage, rate and the time that is left. Pure; instants in monotonic seconds."""

from __future__ import annotations

from typing import Any

_WINDOW = 30.0  # seconds over which a rate is taken
_IDLE = 2.0  # seconds without anything to do that no rate of the next heap should hold


class Progress:
    """Of one inbox, since the daemon started; percentages are of the present heap: done in it, and waiting.

    One thread counts, any thread looks: what is looked at is replaced whole, and looking changes nothing.
    """

    def __init__(self, now: float) -> None:
        self.count = 0
        self._began = now
        self._heap_began = 0  # the count when there was nothing to do
        self._resting = True
        self._recent: tuple[tuple[int, int], ...] = ()  # (second, count when it began), the last ones

    def done(self, count: int, now: float) -> None:
        """So many files have come to an end."""
        if not count:
            return
        if self._resting:
            self._resting, self._heap_began = False, self.count
            if self._recent and now - self._recent[-1][0] > _IDLE:
                self._recent = ()
        second = int(now)
        if not self._recent or self._recent[-1][0] != second:
            kept = tuple(one for one in self._recent if one[0] >= second - _WINDOW)
            self._recent = (*kept, (second, self.count))
        self.count += count

    def rest(self) -> None:
        """Nothing waits: the next file begins a new heap. Said by the one who counts."""
        self._resting = True

    def rate(self, now: float) -> float:
        """Files per second of late."""
        recent = [one for one in self._recent if one[0] >= now - _WINDOW]
        if not recent:
            return 0.0
        span = max(now - recent[0][0], min(1.0, now - self._began), 0.001)
        return max(0, self.count - recent[0][1]) / span

    def figures(self, waiting: int, now: float) -> dict[str, Any]:
        """For `inboxd status`: done, total, percent, rate (files/s), eta (seconds, None when nothing moves)."""
        done = 0 if self._resting and waiting else self.count - self._heap_began
        rate = self.rate(now)
        total = done + waiting
        return {
            "done": done,
            "total": total,
            "percent": 100.0 * done / total if total else None,
            "rate": rate,
            "eta": waiting / rate if waiting and rate else None if waiting else 0.0,
        }

    def text(self, waiting: int, now: float, halted: str = "") -> str:
        """ "1,234 of 10,000 (12.3 %), 850 files/s, 10 s left"; `halted`: what holds them up, instead of a rate."""
        figures = self.figures(waiting, now)
        if not figures["total"]:
            return f"{self.count:,} files so far, nothing waits"
        share = f"{figures['done']:,} of {figures['total']:,} ({figures['percent']:.1f} %)"
        if halted and waiting:
            return f"{share}, {halted}"
        left = "" if figures["eta"] is None else f", {show_span(figures['eta'])} left"
        return f"{share}, {figures['rate']:.0f} files/s{left}"


def counted(count: int, word: str) -> str:
    """So many of them, in words: "1 file", "2 files"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def show_span(seconds: float) -> str:
    """For people: 75.0 -> "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class LineBudget:
    """So many log lines a second may speak of single files; above that one line speaks for many."""

    def __init__(self, per_second: float = 20.0) -> None:
        self._rate = per_second
        self._left = per_second
        self._at = 0.0

    def take(self, lines: int, now: float) -> bool:
        """There is room for these lines."""
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if lines > self._left:
            return False
        self._left -= lines
        return True
