"""What one child prints, as events, each line with the file that the child was at when we read it."""

from __future__ import annotations

from typing import Any

from inboxd import events
from inboxd.events import emit
from inboxd.pool.assignment import Assignment
from inboxd.pool.child import Child
from inboxd.pool.output import Output


class Transcript:
    """Reads the child's output pipe. The tail kept for the post-mortem is that of the file in progress."""

    def __init__(self, slot: int, child: Child) -> None:
        self._slot = slot
        self._child = child
        self._output = Output()
        self._file_id = ""

    def read(self, assignment: Assignment | None, now: float) -> bool:
        """Take in what there is; False at the end of the pipe."""
        data = self._child.read_output()
        if data:
            self._hear(data, assignment, now)
        return data != b""

    def finish(self, assignment: Assignment | None, now: float) -> str:
        """The child is dead: take in what is left; returns the tail."""
        self._hear(self._child.read_all_output(), assignment, now)
        self._say(self._output.close(now), assignment)
        return self._output.tail()

    def tail(self) -> str:
        """The last of what it printed."""
        return self._output.tail()

    def _hear(self, data: bytes, assignment: Assignment | None, now: float) -> None:
        mark = self._child.mark()
        if mark is not None and mark.file_id != self._file_id:
            self._file_id = mark.file_id
            self._output.forget()
        self._say(self._output.feed(data, now), assignment)

    def _say(self, lines: list[str], assignment: Assignment | None) -> None:
        if not lines:
            return
        about: dict[str, Any] = {"file": f"worker {self._slot}", "pid": self._child.pid}
        file = assignment.current(self._child.mark()) if assignment else None
        if assignment is not None and file is not None:
            about |= {"file": file.name, "file_id": file.id}
            about |= {"inbox": assignment.order.inbox, "batch": assignment.order.batch}
        for line in lines:
            emit(events.HANDLER_OUTPUT, line=line, **about)
