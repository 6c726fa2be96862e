"""A new configuration for a daemon that runs: read and refused whole, or all of it takes effect at once."""

from __future__ import annotations

import threading
import traceback
from contextlib import ExitStack, suppress
from typing import Protocol

from inboxd import events, folders, reloading
from inboxd.config.load import describe, load
from inboxd.config.models import Config, Inbox
from inboxd.custody import disk
from inboxd.custody.history import History
from inboxd.custody.ledger import Ledger
from inboxd.errors import DiskError, InboxdError, LedgerUnavailable, PreconditionError
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.partners import Partners
from inboxd.pauses import Pauses
from inboxd.pipeline import Pipeline
from inboxd.pool.pool import Pool
from inboxd.service import Service
from inboxd.setups import probe, setup_for


class App(Protocol):
    """What it changes."""

    config: Config
    history: History
    ledger: Ledger
    partners: Partners
    pauses: Pauses
    pipeline: Pipeline
    pool: Pool
    service: Service
    state: str

    def lane(self, name: str, inbox: Inbox) -> Lane: ...


class Reload:
    """Any thread reads; the pipeline's changes. `serve` is for a thread of its own."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._one_at_a_time = threading.Lock()
        self._asked = threading.Event()  # by somebody who waits for no answer
        self._work = ExitStack()  # work folders that are locked, and not yet held by a lane

    def ask(self) -> None:
        """Have it done soon. However often that is said before it begins, once is enough."""
        self._asked.set()

    def serve(self) -> None:
        """Do what is asked. For ever: a thread that is begun when it is needed may not be had then."""
        while self._asked.wait():
            self._asked.clear()  # first: the file may change again while it is read
            try:
                self.run()
            except InboxdError:
                continue  # told as RELOAD_REFUSED; the old configuration keeps running
            except Exception as error:  # noqa: BLE001 - this thread outlives a fault of ours, which is told here
                emit(events.RELOAD_REFUSED, message=f"a fault of inboxd: {error!r}", detail=traceback.format_exc())

    def run(self) -> tuple[list[str], list[str]]:
        """Read the configuration again: all or nothing. Raises InboxdError.

        Returns what changes, and which inboxes must come to rest before it does.
        """
        with self._one_at_a_time, ExitStack() as work:
            new = self._read_anew(work)
            changes = [*describe(self._app.config, new), "workers load their handlers anew"]
            waits = self._app.pipeline.ask(lambda: self._change_to(new, changes, work.pop_all())).result()
        return changes, waits

    def _read_anew(self, work: ExitStack) -> Config:
        """The configuration as it is now; `work` holds its work folders from here on."""
        app = self._app
        started = app.state != "STARTING"  # else systemd would take our READY for that of the start
        if started:
            app.service.reloading()
        try:
            new = load(app.config.file)
            reloading.refuse(app.config, new, app.history.counts())
            self._prepare(new, work)
            return new
        except InboxdError as error:
            for problem in getattr(error, "problems", [str(error)]):
                emit(events.RELOAD_REFUSED, message=problem)
            raise
        finally:
            if started:
                app.service.ready()

    def _prepare(self, new: Config, work: ExitStack) -> None:
        """Its folders are there and fit, and its handlers can be loaded. Raises InboxdError."""
        try:
            folders.refuse_moved(new, self._app.history)
            folders.make(new)
            work.enter_context(folders.hold(new))
            folders.check(new)
            probe(new)
        except OSError as error:
            raise DiskError.of("it can't be tried", error) from error

    def _change_to(self, new: Config, changes: list[str], work: ExitStack) -> list[str]:
        """In the pipeline's thread: changed inboxes drain, then all changes take effect at once."""
        app = self._app
        self._work.close()  # an earlier change that has not taken effect is given up for this one
        self._work = work
        changed = {
            name for name, inbox in app.config.inboxes.items()
            if new.inboxes.get(name) != inbox or new.rescan != app.config.rescan
        }  # fmt: skip
        for name, lane in app.pipeline.lanes.items():  # an earlier change may have said otherwise
            if name in new.inboxes:
                lane.must_be_empty = new.inboxes[name].folder("work") != lane.work
            else:
                lane.must_be_empty = folders.user_of(lane.work, new, but=name) is not None
        app.partners.retire(app.config, changed)
        app.pipeline.retire(changed, lambda: self._swap(new, changes))
        waits = sorted(name for name, lane in app.pipeline.lanes.items() if lane.retiring)
        if waits:
            emit(events.RELOAD_WAITS, inboxes=", ".join(waits))
        return waits

    def _swap(self, new: Config, changes: list[str]) -> None:
        app = self._app
        staying = {name for name, lane in app.pipeline.lanes.items() if not lane.retiring}
        fresh = [app.lane(name, inbox) for name, inbox in new.inboxes.items() if name not in staying]
        try:
            for lane in fresh:
                lane.load(app.ledger)
            folders.remember(new)
        except (LedgerUnavailable, OSError) as error:
            for lane in fresh:
                lane.close()
            if isinstance(error, LedgerUnavailable):
                raise
            raise LedgerUnavailable(f"{new.state} can't be written to: {disk.why(error, new.state)}") from error
        app.config = new
        self._work.close()
        for name in set(app.pipeline.lanes) - staying:
            app.pipeline.lanes.pop(name).close()
            app.pipeline.outages.forget(name)
        for lane in fresh:
            with suppress(PreconditionError):  # it has gone since it was checked: so its first look says
                lane.view.start()
            app.pipeline.lanes[lane.name] = lane
        app.partners.connect(new)
        app.pipeline.lanes = {name: app.pipeline.lanes[name] for name in new.inboxes}
        app.pipeline.dispatcher.batch_size = new.workers.batch_size
        for lane in app.pipeline.lanes.values():
            lane.space.require(new.min_free_space, new.min_free_inodes)
        app.pauses.recall()
        app.pool.renew(setup_for(new), new.workers, new.secret_variables)
        for lane in app.pipeline.lanes.values():
            if lane.broken:  # workers that are started from now on may run it
                lane.resume()
        emit(events.RELOADED, changes="; ".join(changes))
