"""Builds every object once, starts and stops them in order. The only module that knows all.

Start: configuration, folders, locks, workers, ledger, recovery, watches, pipeline, control socket, READY.
Stop: the same list backwards, after files in progress had their grace.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from inboxd import __version__, events, folders, logs, retention, threads
from inboxd.clock import Clock, SystemClock
from inboxd.config.load import load
from inboxd.config.models import Config, Inbox
from inboxd.config.units import show_duration
from inboxd.control import Server
from inboxd.custody import disk
from inboxd.custody.history import History
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.outcomes import Outcomes
from inboxd.custody.recovery import Recovery, Traces
from inboxd.custody.sends import Sends
from inboxd.dispatch import Dispatcher
from inboxd.errands import Errands
from inboxd.errors import EXIT_OK, EXIT_SOFTWARE, DiskError, InboxdError, LedgerRefused
from inboxd.events import emit
from inboxd.fronts import Fronts
from inboxd.intake.inbox import InboxView
from inboxd.lane import Lane
from inboxd.operator import Operator
from inboxd.outbox import Outbox
from inboxd.partners import Partners
from inboxd.pauses import Pauses
from inboxd.pipeline import Pipeline
from inboxd.pool.child import read_marks
from inboxd.pool.pool import Pool
from inboxd.reload import Reload
from inboxd.service import LONGEST, Service
from inboxd.setups import refuse_broken, setup_for
from inboxd.space import Space
from inboxd.status import Bulletin
from inboxd.story import Story

_LOOK = 1.0  # seconds between two looks whether the ledger is still in its place, at least
_SOON = 0.02  # seconds between two looks whether the first pass is over
_LAST_WORDS = 10.0  # seconds for the pipeline to record what came in last


def run(config_path: Path, log: logs.LogOptions, adapt: Callable[[Config], Config] = lambda config: config) -> int:
    """The whole life of the daemon. Returns its exit code; what it refuses is told on standard error."""
    signals: deque[int] = deque()
    signal.signal(signal.SIGHUP, lambda number, _frame: signals.append(number))  # the file may change from here on
    logs.setup(log)
    app = None
    try:
        app = App(adapt(load(config_path)), SystemClock(), signals)
        code = app.run()
    except InboxdError as error:
        for line in getattr(error, "problems", [str(error)]):
            logs.refuse(line)
        code = error.exit_code
    finally:
        logs.close()
    if app is not None and app.is_held_up():
        os._exit(code)  # the interpreter would wait for its threads
    return code


def repair(config_path: Path) -> dict[str, int]:
    """What a start does before its workers begin, and no more. Returns what it came to. Raises InboxdError."""
    logs.setup(logs.LogOptions())
    try:
        return App(load(config_path), SystemClock(), deque()).repair()
    finally:
        logs.close()


class App:
    """The daemon."""

    def __init__(self, config: Config, clock: Clock, signals: deque[int]) -> None:
        """`signals`: what has come and is to be obeyed."""
        self.config = config
        self.clock = clock
        self.state = "STARTING"
        self.service = Service()
        self._signals = signals
        self._look_at = 0.0  # monotonic seconds
        self._turns = 0  # of the pipeline, as long as it is the start that waits for them
        self._stopping = threading.Event()
        self._pipeline_thread = threading.Thread(target=self._run_pipeline, name="pipeline")
        self._reload = Reload(self)
        self._lock_fd = -1
        self._work = ExitStack()  # work folders that are locked, until the lanes hold them

    # Start and stop

    def run(self) -> int:
        """Start, serve until told to stop, stop."""
        emit(events.DAEMON_STARTING, version=__version__, config=str(self.config.file), pid=os.getpid())
        self.service.starting(longest=max(LONGEST, self.config.stop_grace + _LAST_WORDS))
        with self._life():
            self._recover()
            self._start_workers()
            self._start_pipeline()
            self._open()
            self.pool.run(self._turn)
        return EXIT_OK

    @contextmanager
    def _life(self) -> Iterator[None]:
        """From the locks to the end. What a start meets is refused in words."""
        try:
            self._take_state()
            try:
                yield
            finally:
                self._stop()
        except OSError as error:
            if self.state != "STARTING":
                raise
            if error.errno in disk.FULL:
                raise disk.full(Path(str(error.filename or self.config.state)), error) from error
            raise DiskError.of("inboxd can't start", error) from error

    def repair(self) -> dict[str, int]:
        """Recover, look at all of the ledger, and end."""
        with self._life():
            done = self._recover()
            self.ledger.refuse_damage()
            return {what: count for what, count in done.items() if count}

    def _take_state(self) -> None:
        folders.make(self.config)
        self._lock_fd = folders.hold_state(self.config.state)
        self._work = folders.hold(self.config)
        folders.check(self.config)

    def _recover(self) -> Counter[str]:
        """Finish what a dead daemon left; its workers must be gone, and ours must not have begun."""
        self.pool = Pool(
            self.config.workers, setup_for(self.config), self.config.state, self.clock, self._wake_pipeline,
            self.config.secret_variables,
        )  # fmt: skip
        self.service.extend_timeout(self.config.stop_grace + _LAST_WORDS)
        self.pool.take_generation(self.config.stop_grace)
        self.service.alive()
        known = self.config.state / "ledger.id"
        self.ledger = Ledger.open(self.config.ledger_url, self.config.durability, self.clock, known)
        self.history = History(self.config.ledger_url)
        folders.refuse_moved(self.config, self.history)
        folders.remember(self.config)
        lanes = [self.lane(name, inbox) for name, inbox in self.config.inboxes.items()]
        self._work.close()  # the lanes hold them now
        outcomes = Outcomes(self.config.state / "outcomes.log")
        durable = self.config.durability == "full"
        dispatcher = Dispatcher(self.pool, self.config.workers.batch_size, self.clock, outcomes, durable=durable)
        errands = Errands(self.pool.fetchers, Items(self.ledger), self.clock)
        outbox = Outbox(self.pool.senders, Sends(self.ledger), self.clock)
        self.pipeline = Pipeline(lanes, self.ledger, Fronts(dispatcher, errands, outbox), self.clock, durable=durable)
        self.partners = Partners(self.pipeline, self.pool, self.clock)
        self.pauses = Pauses(self.config.state / "paused", self.pipeline)
        began = self.clock.monotonic()
        traces = Traces(read_marks(self.config.state / "marks"), outcomes)
        keepers = {lane.name: lane.keeper() for lane in lanes}
        recovery = Recovery(self.ledger, keepers, traces, Story(self.clock), self.clock, self.service.alive)
        recovery.run()
        summary = ", ".join(f"{count} {what}" for what, count in recovery.summary.items() if count) or "nothing to do"
        emit(events.RECOVERED, seconds=self.clock.monotonic() - began, summary=summary)
        return recovery.summary

    def _start_workers(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it was ignored before us, no child could be waited for
        refuse_broken(self.config, self.pool.start())
        self.partners.connect(self.config)
        self.pauses.recall()

    def lane(self, name: str, inbox: Inbox) -> Lane:
        """All that belongs to one inbox; its work folder is held from here on."""
        batch_size = self.config.workers.batch_size
        view = InboxView(name, inbox, self.config.rescan, self.clock, self._wake_pipeline, batch_size)
        watched = [inbox.folder("work"), self.config.state, *([inbox.folder("incoming")] if inbox.sources else [])]
        space = Space(name, watched, self.config.min_free_space, self.config.min_free_inodes)
        lane = Lane(name, inbox, view, self.ledger, space, self.clock)
        lane.deliveries.config = self.config.file
        return lane

    def _start_pipeline(self) -> None:
        for lane in self.pipeline.lanes.values():
            lane.load(self.ledger)
            lane.view.start()
        threads.start(self._pipeline_thread)

    def _open(self) -> None:
        """Operators and signals are heard from here on."""
        self.bulletin = Bulletin(self)
        operator = Operator(self.pipeline, self.history, self, self.clock)
        self.control = Server(self.config.state / "control.sock", operator)
        self.control.start()
        doubt = retention.Doubt(self.clock, self.config.state / "clock.json")
        keeping = (operator.prune, doubt, self._stopping)
        threads.start(threading.Thread(target=retention.keep, args=keeping, name="retention", daemon=True))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _has_looked(self) -> bool:
        """Every inbox has been looked at once, or can't be just now."""
        looked = all(lane.view.has_looked for lane in list(self.pipeline.lanes.values()))
        return looked or bool(self.pipeline.outages.reasons())

    def _announce(self) -> None:
        """READY: recovered, and what lies in the inboxes is known."""
        threads.start(threading.Thread(target=self._reload.serve, name="reload", daemon=True))
        self.state = "RUNNING"
        emit(
            events.DAEMON_READY, inboxes=len(self.config.inboxes), workers=self.config.workers.count,
            durability=self.config.durability,
        )  # fmt: skip
        self.service.ready()

    def _stop(self) -> None:
        """Backwards. Called once, whatever came up. What an outage keeps from being recorded, recovery will find."""
        self._stopping.set()
        if hasattr(self, "control"):
            self.control.stop()
        if self._pipeline_thread.ident is not None:
            self._wake_pipeline()
            self._pipeline_thread.join(_LAST_WORDS)
        self.pool.kill()
        if hasattr(self, "pipeline") and not self._pipeline_thread.is_alive():
            for source in self.pipeline.errands.sources.values():
                source.close()
            for lane in self.pipeline.lanes.values():
                lane.close()
            self.ledger.close()
            os.ftruncate(self._lock_fd, 0)  # nobody holds it any more, and its number may become another's
        if self.is_held_up():
            reasons = self.pipeline.outages.reasons() or ["the last turn has not come to its end"]
            emit(events.DAEMON_UNRECORDED, reason="; ".join(reasons))
        if self.state != "STARTING":  # one that was refused says why, and has not begun
            emit(events.DAEMON_STOPPED)
            self.state = "STOPPED"

    def is_held_up(self) -> bool:
        """The pipeline goes on: since what it needs is away, it can't record what it has."""
        return self._pipeline_thread.is_alive()

    # The two loops

    def _run_pipeline(self) -> None:
        """The pipeline's thread. Its death is the daemon's: half alive would be worse.

        A ledger that is refused would be at the next start, too: that is for an operator, and not for systemd.
        """
        try:
            self.pipeline.run(self._stopping)
        except BaseException as error:  # noqa: BLE001 - the last stop: told, then the process ends
            refused = isinstance(error, LedgerRefused)
            emit(
                events.DAEMON_FAILED, thread="pipeline", error_class=type(error).__name__, message=str(error),
                detail="" if refused else traceback.format_exc(),
            )  # fmt: skip
            logs.close()
            os._exit(LedgerRefused.exit_code if refused else EXIT_SOFTWARE)

    def _turn(self) -> float | None:
        """Once per round of the supervisor's loop: signals, systemd, what is told regularly."""
        while self._signals:
            self._obey(self._signals.popleft())
        if self.state == "STARTING":
            if self._turns != self.pipeline.turns:
                self._turns = self.pipeline.turns
                self.service.alive()
            if not self._has_looked():
                return min(self.bulletin.turn(), _SOON)
            self._announce()
        if (now := self.clock.monotonic()) >= self._look_at:
            self._look_at = now + _LOOK
            if not self.ledger.is_in_place():
                self._wake_pipeline()  # it may have nothing to do for long, and ends when it sees that
        return self.bulletin.turn()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        self.pool.wakeup()

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload.ask()
        else:
            self.drain(signal.Signals(number).name)

    def _wake_pipeline(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.wake()

    # What operators may ask (operator.Daemon)

    def status(self) -> dict[str, Any]:
        """The whole of `inboxd status`."""
        return self.bulletin.status()

    def is_service(self) -> bool:
        """systemd has started this process, and may start the next one."""
        return self.service.is_heard

    def drain(self, cause: str) -> None:
        """Begin to stop. Saying it twice changes nothing."""
        if self.state == "DRAINING":
            return
        self.state = "DRAINING"
        emit(events.DAEMON_DRAINING, cause=cause, grace=show_duration(self.config.stop_grace))
        self.service.stopping()
        self.service.extend_timeout(self.config.stop_grace + 2 * _LAST_WORDS)
        self.pipeline.draining = True
        self.pool.drain(self.config.stop_grace)
        self.pool.wakeup()

    def reload(self) -> tuple[list[str], list[str]]:
        """Read the configuration again: all or nothing. Raises ConfigError.

        Returns what changes, and which inboxes must come to rest before it does.
        """
        return self._reload.run()

    def remember_pauses(self) -> None:
        """Write down which inboxes an operator has paused."""
        self.pauses.remember()
