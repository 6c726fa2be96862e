"""Items that are on their way from their sources: how far, how fast, how long yet. Instants in monotonic seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from inboxd.config.quantity import show_size
from inboxd.progress import show_span

_WINDOW = 30.0  # seconds over which a rate is taken
_LONG = 30.0  # seconds that a fetch may take before it is told of, and between two words about it
_APART = 0.5  # seconds between two looks that tell a rate

Look = tuple[float, int]  # when, and how many bytes were here


class Download(NamedTuple):
    """One item in progress."""

    source: str
    inbox: str
    file_id: str
    file: str
    since: float  # seconds that the fetch has taken so far
    bytes: int  # that are here, those of earlier tries included
    size: int | None  # as announced
    rate: float | None  # bytes per second of late; None after a single look

    @property
    def percent(self) -> float | None:
        """How much of it is here, as far as its size is known."""
        return min(100.0, 100.0 * self.bytes / self.size) if self.size else None

    @property
    def eta(self) -> float | None:
        """Seconds until it is here, at this rate; None while nobody knows."""
        return max(0, self.size - self.bytes) / self.rate if self.size and self.rate else None

    def row(self) -> dict[str, Any]:
        """For `inboxd status`."""
        return {**self._asdict(), "percent": self.percent, "eta": self.eta}

    def text(self) -> str:
        """ "1GiB of 4GiB (25.0 %), 12MiB/s, 4 min 16 s left"."""
        known = f" of {show_size(self.size)} ({self.percent:.1f} %)" if self.size else ""
        rate = "" if self.rate is None else f", {show_size(int(self.rate))}/s"
        left = "" if self.eta is None else f", {show_span(self.eta)} left"
        return f"{show_size(self.bytes)}{known}{rate}{left}"


class Downloads:
    """Remembers earlier looks, so that there are rates. For any thread."""

    def __init__(self) -> None:
        self._looks: dict[str, tuple[Look, ...]] = {}
        self._told: dict[str, float] = {}  # by file id, when
        self._lock = threading.Lock()

    def look(self, errands: Iterable[Mapping[str, Any]], now: float) -> list[Download]:
        """What is fetched now; `errands`: as the pool tells them."""
        going = [errand for errand in errands if errand["verb"] == "fetch" and errand["file_id"]]
        with self._lock:
            before, self._looks = self._looks, {}
            for errand in going:
                self._looks[errand["file_id"]] = _with(before.get(errand["file_id"], ()), now, errand["bytes"])
            return [self._download(errand, now) for errand in going]

    def news(self, found: Iterable[Download], now: float) -> list[Download]:
        """Those of them that take long, and of which nothing was told for as long. For one thread."""
        before, self._told = self._told, {}
        news = []
        for one in found:
            told = before.get(one.file_id, now - one.since)
            if now - told >= _LONG:
                news.append(one)
                told = now
            self._told[one.file_id] = told
        return news

    def _download(self, errand: Mapping[str, Any], now: float) -> Download:
        since = max(0.0, now - errand["since"]) if errand["since"] is not None else 0.0
        return Download(
            errand["source"], errand["inbox"], errand["file_id"], errand["file"], since, errand["bytes"],
            errand["size"], _rate(self._looks[errand["file_id"]]),
        )  # fmt: skip


def _with(looks: tuple[Look, ...], now: float, size: int) -> tuple[Look, ...]:
    """One more look. Before its first word a fetcher may have much of an earlier try; after a new start it has less."""
    if not size or (looks and size < looks[-1][1]):
        return ((now, size),) if size else ()
    kept = [one for one in looks if one[0] >= now - _WINDOW]
    if len(kept) > 1 and kept[-1][0] - kept[-2][0] < _APART:
        kept.pop()  # who looks often must not make the list long
    return (*kept, (now, size))


def _rate(looks: tuple[Look, ...]) -> float | None:
    if not looks or looks[-1][0] - looks[0][0] < _APART:
        return None
    return (looks[-1][1] - looks[0][1]) / (looks[-1][0] - looks[0][0])
