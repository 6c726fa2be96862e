"""What children print: lines of bounded length at a bounded rate, and a tail for the post-mortem. Pure."""

from __future__ import annotations

LONGEST = 4096  # bytes of a line that are kept
TAIL = 64 * 1024  # bytes of the tail
RATE = 100  # lines per child and second


class Output:
    """The output of one child. Foreign bytes come in; harmless str goes out; memory stays bounded.

    Among the lines a number says how many were left out.
    """

    def __init__(self, rate: int = RATE) -> None:
        self._rate = rate
        self._line = bytearray()
        self._cut = 0  # bytes of the unfinished line beyond LONGEST
        self._tail = bytearray()
        self._second = 0.0  # monotonic seconds when the present second of the rate began
        self._said = 0
        self.dropped = 0  # lines that were left out, and not told yet

    def feed(self, data: bytes, now: float) -> list[str | int]:
        """The lines that `data` completes, as many as the rate allows."""
        self._tail += data[-TAIL:]
        del self._tail[:-TAIL]
        *whole, rest = data.split(b"\n")
        lines: list[str | int] = []
        for part in whole:
            self._append(part)
            lines += self._finish(now)
        self._append(rest)
        return lines

    def close(self, now: float) -> list[str | int]:
        """The unfinished line, and how many were left out."""
        return self.pause(now) + self._left_out()

    def tail(self) -> str:
        """The last of the output."""
        return self._tail.decode("utf-8", "replace")

    def turn(self, now: float) -> list[str | int]:
        """What comes now is of another file: forget the tail; the unfinished line is none of its."""
        self._tail.clear()
        return self.pause(now)

    def pause(self, now: float) -> list[str | int]:
        """Nothing more is to be expected of it for now: the unfinished line, as it is."""
        return self._finish(now) if self._line else []

    def _append(self, part: bytes) -> None:
        room = LONGEST - len(self._line)
        self._line += part[:room]
        self._cut += max(0, len(part) - room)

    def _finish(self, now: float) -> list[str | int]:
        text = self._line.decode("utf-8", "replace")
        if self._cut:
            text += f" … ({self._cut} bytes more)"
        self._line.clear()
        self._cut = 0
        return self._limited(text, now)

    def _limited(self, text: str, now: float) -> list[str | int]:
        lines: list[str | int] = []
        if now - self._second >= 1.0:
            lines = self._left_out()
            self._second, self._said = now, 0
        if self._said >= self._rate:
            self.dropped += 1
            return lines
        self._said += 1
        return [*lines, text]

    def _left_out(self) -> list[str | int]:
        dropped, self.dropped = self.dropped, 0
        return [dropped] if dropped else []
