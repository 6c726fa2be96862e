"""What one child prints, as events, each line with the file that printed it."""

from __future__ import annotations

from typing import Any

from inboxd import events
from inboxd.events import emit
from inboxd.pool.assignment import Assignment
from inboxd.pool.child import Child
from inboxd.pool.output import Output
from inboxd.wire import Mark
from inboxd.work.seams import pieces


class Transcript:
    """Reads the child's output pipe. The tail kept for the post-mortem is that of the file in progress."""

    def __init__(self, title: str, child: Child) -> None:
        self._child = child
        self._output = Output()
        self._nobody = {"child": title, "pid": child.pid}
        self._about: dict[str, Any] = self._nobody
        self._left_out = 0  # lines that are not told yet, as far as we know whose they are
        self._whose_left_out: dict[str, Any] | None = None
        self._at = ("", 0)  # batch, index
        self._known: Assignment | None = None  # the last one: its end may be heard of before its output

    def read(self, assignment: Assignment | None, now: float) -> bool:
        """Take in what there is; False at the end of the pipe."""
        mark = self._child.mark()  # before the output, see seams.py
        data = self._child.read_output()
        if data:
            self._hear(data, mark, assignment, now)
        return data != b""

    def pause(self, assignment: Assignment | None, now: float) -> None:
        """An order is done: what it printed last is a line, also where no newline ends it."""
        if self._child.has_output():
            mark = self._child.mark()
            self._hear(self._child.read_all_output(), mark, assignment, now)
        self._say(self._output.pause(now))

    def finish(self, assignment: Assignment | None, now: float) -> str:
        """The child is dead: take in what is left; returns the tail."""
        self._hear(self._child.read_all_output(), self._child.mark(), assignment, now)
        self._say(self._output.close(now))
        return self._output.tail()

    def tail(self) -> str:
        """The last of what it printed."""
        return self._output.tail()

    def _hear(self, data: bytes, mark: Mark | None, assignment: Assignment | None, now: float) -> None:
        self._known = assignment or self._known
        for place, text in pieces(data, mark):
            if place is not None and (place.batch, place.at) != self._at:
                self._say(self._output.turn(now))
                self._note_left_out(self._output.dropped)
                self._at, self._about = (place.batch, place.at), self._whose(place)
            self._say(self._output.feed(text, now))

    def _whose(self, place: Mark) -> dict[str, Any]:
        assignment = self._known
        file = assignment.current(place) if assignment else None
        if assignment is None or file is None:
            return self._nobody
        order = assignment.order
        about = {"inbox": order.inbox, "file": assignment.named(place), "batch": order.batch, "pid": self._child.pid}
        return about if assignment.whole and len(assignment.order.files) > 1 else {**about, "file_id": file.id}

    def _say(self, lines: list[str | int]) -> None:
        for line in lines:
            if isinstance(line, str):
                self._tell(self._about, line=line)
            else:
                self._say_left_out(line)

    def _tell(self, about: dict[str, Any], **more: Any) -> None:
        emit(events.CHILD_OUTPUT if about is self._nobody else events.HANDLER_OUTPUT, **about, **more)

    def _note_left_out(self, count: int) -> None:
        """What has come to `count` is of the file in hand, or of several, and then of none."""
        if count > self._left_out:
            alone = self._whose_left_out in (None, self._about)
            self._left_out, self._whose_left_out = count, self._about if alone else self._nobody

    def _say_left_out(self, count: int) -> None:
        self._note_left_out(count)
        line = f"({count} {'line' if count == 1 else 'lines'} left out)"
        self._tell(self._whose_left_out or self._nobody, line=line, count=count)
        self._left_out, self._whose_left_out = 0, None
