"""What other threads have the pipeline's thread answer, between two turns."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Questions:
    """Asked by any thread, answered by one."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()

    def ask(self, question: Callable[[], T]) -> Future[T]:
        """Any thread: have it called by the one that answers."""
        future: Future[T] = Future()
        self._asked.put((question, future))
        return future

    def answer(self) -> None:
        """All that has been asked so far; who asks again, having been answered, is answered the next time."""
        for _ in range(self._asked.qsize()):
            question, future = self._asked.get()
            try:
                future.set_result(question())
            except BaseException as error:  # noqa: BLE001 - it belongs to the one who asked
                future.set_exception(error)
