"""The worker process: takes orders from its socket, runs the handlers, reports."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from inboxd.model import Ending, Report
from inboxd.wire import Order, OrderedFile, Ready, Setup
from inboxd.work.channel import Channel, main
from inboxd.work.content import copy_file, hash_file
from inboxd.work.handler import Handlers
from inboxd.work.seams import Seams
from inboxd.work.surroundings import Surroundings
from inboxd.work.telling import Telling

_FEW = 8  # files in a batch whose reports are told one by one
_LOOK_AFTER = 0.020  # seconds between two looks at our memory
_GROWTH = 16 << 20  # bytes
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Worker:
    """One worker process. SIGTERM: finish the file in progress, give the rest back, end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._telling = Telling(channel.say)
        self._seams = Seams()
        self._looked = 0.0  # monotonic seconds
        self._settled = 0  # bytes, after the last collection
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # a handler may leave no descriptor

    def serve(self) -> None:
        """Until SIGTERM, or until the daemon is gone."""
        setup = self._channel.next()
        if not isinstance(setup, Setup):
            return
        self._durable = setup.durable
        self._batches = {inbox for inbox, spec in setup.handlers.items() if spec.batch}
        self._handlers = Handlers(setup, self._channel.say)
        broken = self._handlers.load()
        self._surroundings = Surroundings()
        gc.collect()
        gc.freeze()  # what is loaded now stays for good: no collection has to walk it
        self._settled = self._resident()
        self._channel.say(Ready(os.getpid(), broken))
        while isinstance(order := self._channel.next(), Order):
            self._run(order)
        self._handlers.close()

    # Orders

    def _run(self, order: Order) -> None:
        self._telling.begin(order.batch)
        self._channel.begin()
        if order.copy:
            finished = self._each(order, lambda file: copy_file(file, order.hash, durable=self._durable))
        elif order.hash:
            finished = self._each(order, lambda file: hash_file(file, order.hash))
        elif order.inbox in self._batches:
            finished = self._together(order)
        else:
            finished = self._each(order, lambda file: self._handlers.run(order.inbox, file))
        if order.files and finished:  # else the mark stays at the last file that began, as recovery must know
            self._mark(order, len(order.files))
        self._handlers.tidy()
        self._collect_if_grown()
        self._telling.leaving = self._channel.stopping
        self._telling.tell(last=True)

    def _each(self, order: Order, run: Callable[[OrderedFile], Report]) -> bool:
        """False when we had to end before the last one."""
        one_by_one = len(order.files) <= _FEW
        for index, file in enumerate(order.files):
            if self._channel.is_over():
                self._give_back(order.files[index:])
                return False
            self._mark(order, index)
            is_last = index + 1 == len(order.files)
            self._telling.add(run(file), last=is_last)
            self._tidy()
            if not is_last:
                self._between(one_by_one)
        return True

    def _between(self, one_by_one: bool) -> None:
        if time.monotonic() - self._looked >= _LOOK_AFTER:
            self._collect_if_grown()
        if one_by_one:
            self._telling.tell(last=False)

    def _together(self, order: Order) -> bool:
        if self._channel.is_over():
            self._give_back(order.files)
            return False
        begin = partial(self._mark, order, through=len(order.files) - 1)
        for report in self._handlers.run_batch(order.inbox, order.files, begin):
            self._telling.add(report)
        self._tidy()
        return True

    def _give_back(self, files: Sequence[OrderedFile]) -> None:
        message = "not begun: its worker was asked to end"
        for file in files:
            self._telling.add(Report(file.id, Ending.RELEASED, message=message, begun=False))

    def _mark(self, order: Order, index: int, through: int | None = None) -> None:
        mark = self._channel.mark(order, index, through)
        self._seams.sew(mark)
        self._channel.write(mark)

    def _tidy(self) -> None:
        """The next file must not notice what the last one's handler has done to the process."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # the handler has closed or replaced it
                pass
        self._surroundings.restore()

    def _collect_if_grown(self) -> None:
        """The interpreter counts objects, not bytes: a few of them in a cycle can hold any amount of memory.

        Measured on 200 files that leave 4 MiB each in a cycle: 809 MiB at the peak without this; with it 28 MiB, and
        a sixth of the CPU time. On 4000 parsed CSV files it made no difference, and a collection costs 0.1 to 60 ms,
        by what the handler keeps. So: only when memory has grown.
        """
        self._looked = time.monotonic()
        rss = self._resident()
        if rss - self._settled > _GROWTH:
            gc.collect()
            rss = self._settled = self._resident()
        self._telling.rss = rss

    def _resident(self) -> int:
        """Bytes of memory in use: the second number of /proc/self/statm (proc_pid_statm(5)). As at the last look where
        that can't be read, since a handler has closed what is not its own.
        """
        try:
            return int(os.pread(self._memory, 128, 0).split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return self._telling.rss


if __name__ == "__main__":
    main(lambda channel: Worker(channel).serve())
