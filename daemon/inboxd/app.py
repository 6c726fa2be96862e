"""Builds every object once, starts and stops them in order. The only module that knows all.

Start: configuration, folders, locks, workers, ledger, recovery, watches, pipeline, control socket, READY.
Stop: the same list backwards, after files in progress had their grace.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
import traceback
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from inboxd import __version__, events, folders, logs
from inboxd.clock import Clock, SystemClock
from inboxd.config.load import describe, load
from inboxd.config.models import Config, Inbox
from inboxd.config.units import show_duration
from inboxd.control import Server
from inboxd.custody.history import History
from inboxd.custody.items import Items
from inboxd.custody.ledger import Ledger
from inboxd.custody.recovery import Recovery
from inboxd.custody.sends import Sends
from inboxd.dispatch import Dispatcher
from inboxd.errands import Errands
from inboxd.errors import EXIT_OK, EXIT_SOFTWARE, AlreadyRunning, ConfigError, InboxdError, LedgerUnavailable
from inboxd.events import emit
from inboxd.intake.inbox import InboxView
from inboxd.lane import Lane
from inboxd.operator import Operator
from inboxd.outbox import Outbox
from inboxd.partners import Partners
from inboxd.pipeline import Fronts, Pipeline
from inboxd.pool.child import read_marks
from inboxd.pool.pool import Pool
from inboxd.service import Service
from inboxd.setups import probe, refuse_broken, setup_for
from inboxd.space import Space
from inboxd.status import Bulletin
from inboxd.story import Story

_PRUNE_EVERY = 3600.0  # seconds between two looks for files that are older than their inbox keeps them
_SOON = 0.02  # seconds between two looks whether the first pass is over
_LAST_WORDS = 10.0  # seconds for the pipeline to record what came in last


def run(config_path: Path, log: logs.LogOptions) -> int:
    """The whole life of the daemon. Returns its exit code; what it refuses is told on standard error."""
    logs.setup(log)
    try:
        return App(load(config_path), SystemClock()).run()
    except InboxdError as error:
        for line in getattr(error, "problems", [str(error)]):
            logs.refuse(line)
        return error.exit_code
    finally:
        logs.close()


class App:
    """The daemon."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.state = "STARTING"
        self.service = Service()
        self._signals: deque[int] = deque()
        self._stopping = threading.Event()
        self._pipeline_thread = threading.Thread(target=self._run_pipeline, name="pipeline")
        self._reloading = threading.Lock()
        self._lock_fd = -1
        self._work = ExitStack()  # work folders that are locked, and not yet held by a lane

    # Start and stop

    def run(self) -> int:
        """Start, serve until told to stop, stop."""
        emit(events.DAEMON_STARTING, version=__version__, config=str(self.config.file), pid=os.getpid())
        self._take_state()
        try:
            self._recover()
            self._start_workers()
            self._start_pipeline()
            self._open()
            self.pool.run(self._turn)
        finally:
            self._stop()
        return EXIT_OK

    def _take_state(self) -> None:
        folders.make(self.config)
        self._lock_fd = os.open(self.config.state / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunning(
                f"another inboxd (pid {holder}) holds {self.config.state}",
                hint="stop it, or give this one its own `state`",
            ) from None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)
        self._work = folders.hold(self.config)
        folders.check(self.config)

    def _recover(self) -> None:
        """Finish what a dead daemon left; its workers must be gone, and ours must not have begun."""
        self.pool = Pool(
            self.config.workers, setup_for(self.config), self.config.state, self.clock, self._wake_pipeline,
            self.config.secret_variables,
        )  # fmt: skip
        self.service.extend_timeout(self.config.stop_grace + _LAST_WORDS)
        self.pool.take_generation(self.config.stop_grace)
        known = self.config.state / "ledger.id"
        self.ledger = Ledger.open(self.config.ledger_url, self.config.durability, self.clock, known)
        self.history = History(self.config.ledger_url)
        folders.refuse_moved(self.config, self.history.holding())
        folders.remember(self.config)
        lanes = [self._lane(name, inbox) for name, inbox in self.config.inboxes.items()]
        self._work.close()  # the lanes hold them now
        dispatcher = Dispatcher(self.pool, self.config.workers.batch_size, self.clock)
        errands = Errands(self.pool.fetchers, Items(self.ledger), self.clock)
        durable = self.config.durability == "full"
        outbox = Outbox(self.pool.senders, Sends(self.ledger), self.clock)
        self.pipeline = Pipeline(lanes, self.ledger, Fronts(dispatcher, errands, outbox), self.clock, durable=durable)
        self.partners = Partners(self.pipeline, self.pool, self.clock)
        began = time.monotonic()
        marks = read_marks(self.config.state / "marks")
        keepers = {lane.name: lane.keeper() for lane in lanes}
        recovery = Recovery(self.ledger, keepers, marks, Story(self.clock), self.clock, self.service.alive)
        recovery.run()
        summary = ", ".join(f"{count} {what}" for what, count in recovery.summary.items() if count) or "nothing to do"
        emit(events.RECOVERED, seconds=time.monotonic() - began, summary=summary)

    def _start_workers(self) -> None:
        refuse_broken(self.config, self.pool.start())
        self.partners.connect(self.config)
        self._recall_pauses()

    def _lane(self, name: str, inbox: Inbox) -> Lane:
        view = InboxView(name, inbox, self.config.rescan, self.clock, self._wake_pipeline)
        watched = [inbox.folder("work"), self.config.state, *([inbox.folder("incoming")] if inbox.sources else [])]
        space = Space(name, watched, self.config.min_free_space, self.config.min_free_inodes)
        lane = Lane(name, inbox, view, self.ledger, space, self.clock)
        lane.deliveries.config = self.config.file
        return lane

    def _start_pipeline(self) -> None:
        for lane in self.pipeline.lanes.values():
            lane.load(self.ledger)
            lane.view.start()
        self._pipeline_thread.start()

    def _open(self) -> None:
        """Operators and signals are heard from here on."""
        self.bulletin = Bulletin(self)
        operator = Operator(self.pipeline, self.history, self, self.clock)
        self.control = Server(self.config.state / "control.sock", operator)
        self.control.start()
        threading.Thread(target=self._keep_retention, args=(operator,), name="retention", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _has_looked(self) -> bool:
        """Every inbox has been looked at once, or can't be just now."""
        looked = all(lane.view.has_looked for lane in list(self.pipeline.lanes.values()))
        return looked or bool(self.pipeline.outages.reasons())

    def _announce(self) -> None:
        """READY: recovered, and what lies in the inboxes is known."""
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
            for lane in self.pipeline.lanes.values():
                lane.close()
            self.ledger.close()
            os.ftruncate(self._lock_fd, 0)  # nobody holds it any more, and its number may become another's
        if self.state != "STARTING":  # one that was refused says why, and has not begun
            emit(events.DAEMON_STOPPED)
        self.state = "STOPPED"

    # The two loops

    def _run_pipeline(self) -> None:
        """The pipeline's thread. Its death is the daemon's: half alive would be worse."""
        try:
            self.pipeline.run(self._stopping)
        except BaseException as error:  # noqa: BLE001 - the last stop: told, then the process ends
            emit(
                events.DAEMON_FAILED, thread="pipeline", error_class=type(error).__name__, message=str(error),
                detail=traceback.format_exc(),
            )  # fmt: skip
            logs.close()
            os._exit(EXIT_SOFTWARE)

    def _keep_retention(self, operator: Operator) -> None:
        """What is older than its inbox keeps it goes by itself, in slices between the pipeline's turns."""
        while not self._stopping.wait(_PRUNE_EVERY):
            try:
                operator.prune()
            except (InboxdError, OSError) as error:  # an inbox's disk may be away
                emit(events.LIBRARY, logger="retention", message=f"put off: {error}")

    def _turn(self) -> float | None:
        """Once per round of the supervisor's loop: signals, systemd, what is told regularly."""
        while self._signals:
            self._obey(self._signals.popleft())
        if self.state == "STARTING":
            self.service.alive()
            if not self._has_looked():
                return min(self.bulletin.turn(), _SOON)
            self._announce()
        return self.bulletin.turn()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        self.pool.wakeup()

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            threading.Thread(target=self._reload_quietly, name="reload", daemon=True).start()
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

    def reload(self) -> list[str]:
        """Read the configuration again: all or nothing. Returns what changes; raises ConfigError."""
        with self._reloading:
            return self._reload()

    def _reload(self) -> list[str]:
        with ExitStack() as work:
            new = self._read_anew(work)
            changes = [*describe(self.config, new), "workers load their handlers anew"]
            self.pipeline.ask(lambda: self._change_to(new, changes, work.pop_all())).result()
        return changes

    def _read_anew(self, work: ExitStack) -> Config:
        """The configuration as it is now; `work` holds its work folders from here on."""
        self.service.reloading()
        try:
            new = load(self.config.file)
            _refuse_fixed(self.config, new)
            folders.refuse_moved(new, self.history.holding())
            folders.make(new)
            work.enter_context(folders.hold(new))
            folders.check(new)
            probe(new)
            return new
        except InboxdError as error:
            for problem in getattr(error, "problems", [str(error)]):
                emit(events.RELOAD_REFUSED, message=problem)
            raise
        finally:
            self.service.ready()

    def _reload_quietly(self) -> None:
        try:
            self.reload()
        except InboxdError:
            return  # told as RELOAD_REFUSED; the old configuration keeps running

    def _change_to(self, new: Config, changes: list[str], work: ExitStack) -> None:
        """In the pipeline's thread: changed inboxes drain, then all changes take effect at once."""
        self._work.close()  # an earlier change that has not taken effect is given up for this one
        self._work = work
        changed = {
            name for name, inbox in self.config.inboxes.items()
            if new.inboxes.get(name) != inbox or new.rescan != self.config.rescan
        }  # fmt: skip
        for name, lane in self.pipeline.lanes.items():  # an earlier change may have said otherwise
            lane.must_be_empty = name in new.inboxes and new.inboxes[name].folder("work") != lane.work
        self.partners.retire(self.config, changed)
        self.pipeline.retire(changed, lambda: self._swap(new, changes))

    def _swap(self, new: Config, changes: list[str]) -> None:
        staying = {name for name, lane in self.pipeline.lanes.items() if not lane.retiring}
        fresh = [self._lane(name, inbox) for name, inbox in new.inboxes.items() if name not in staying]
        try:
            for lane in fresh:
                lane.load(self.ledger)
        except LedgerUnavailable:
            for lane in fresh:
                lane.close()
            raise
        self.config = new
        self._work.close()
        folders.remember(new)
        for name in set(self.pipeline.lanes) - staying:
            self.pipeline.lanes.pop(name).close()
            self.pipeline.outages.forget(name)
        for lane in fresh:
            lane.view.start()
            self.pipeline.lanes[lane.name] = lane
        self.partners.connect(new)
        self.pipeline.lanes = {name: self.pipeline.lanes[name] for name in new.inboxes}
        self.pipeline.dispatcher.batch_size = new.workers.batch_size
        for lane in self.pipeline.lanes.values():
            lane.space.require(new.min_free_space, new.min_free_inodes)
        self._recall_pauses()
        self.pool.renew(setup_for(new), new.workers)
        for lane in self.pipeline.lanes.values():
            if lane.broken:  # workers that are started from now on may run it
                lane.resume()
        emit(events.RELOADED, changes="; ".join(changes))

    # Pauses outlive the daemon

    def remember_pauses(self) -> None:
        """Write down which inboxes an operator has paused."""
        paused = {name: lane.paused for name, lane in self.pipeline.lanes.items() if lane.paused and not lane.broken}
        draft = self.config.state / "paused.part"
        draft.write_text("".join(f"{name}\n" for name in paused))
        draft.replace(self.config.state / "paused")

    def _recall_pauses(self) -> None:
        known = self.config.state / "paused"
        for name in known.read_text().split() if known.exists() else ():
            if name in self.pipeline.lanes and self.pipeline.lanes[name].paused is None:
                self.pipeline.lanes[name].pause("an operator said so, before the last start")


def _refuse_fixed(old: Config, new: Config) -> None:
    """What can't change under a running daemon."""
    fixed = ("state", "ledger", "durability")
    changed = [key for key in fixed if getattr(old, key) != getattr(new, key)]
    if changed:
        raise ConfigError([f"{new.file}: {key}: can't change while inboxd runs; restart it" for key in changed])
