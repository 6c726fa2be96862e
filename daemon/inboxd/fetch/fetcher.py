"""The fetcher process: takes errands for one source or destination from its socket, does them one by one, reports."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from inboxd.fetch.errors import RemoteError, Unfit
from inboxd.fetch.names import harmless_name
from inboxd.fetch.opening import open_destination, open_remote
from inboxd.fetch.outgoing import Outgoing
from inboxd.fetch.part import Bounds, Part
from inboxd.fetch.remote import Destination, Remote
from inboxd.items import SOURCE_FAULTS
from inboxd.listing import is_usable, new_listing, write_listed
from inboxd.model import Ending, Report
from inboxd.wire import Errand, Note, OrderedItem, Ready, SourceSetup, SourceSpec
from inboxd.work.channel import Channel, Stopped, main
from inboxd.work.telling import Telling

Result = dict[str, Any]


class Fetcher:
    """One fetcher process. SIGTERM: leave off in the middle, give everything back, end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._telling = Telling(channel.say)

    def serve(self) -> None:
        """Until SIGTERM, or until the daemon is gone."""
        setup = self._channel.next()
        if not isinstance(setup, SourceSetup):
            return
        self._spec = setup.spec
        self._remote: Remote | Destination | None = None
        self._channel.say(Ready(os.getpid()))
        while isinstance(errand := self._channel.next(), Errand):
            self._do(errand)
        self._hang_up()

    def _do(self, errand: Errand) -> None:
        self._telling.begin(errand.batch)
        self._channel.begin()
        run = self._errands()[errand.verb]
        for index, item in enumerate(errand.files):
            if self._channel.is_over():
                self._give_back(errand.files[index:], "not begun: its fetcher was asked to end")
                break
            self._channel.write(self._channel.mark(errand, index))
            report = self._report(item, run)
            self._telling.add(report)
            if report.ending in SOURCE_FAULTS:
                self._give_back(errand.files[index + 1 :], f"not begun: {report.message}")
                break
        self._channel.write(self._channel.mark(errand, len(errand.files)))
        self._telling.leaving = self._channel.stopping
        self._telling.tell(last=True)

    def _errands(self) -> dict[str, Callable[[Any, OrderedItem], Result]]:
        """By verb, those that there are for our kind of place."""
        if self._spec.sends:
            return {"send": self._send, "look": self._look}
        return {"poll": self._poll, "fetch": self._fetch, "ack": self._ack}

    def _give_back(self, items: tuple[OrderedItem, ...], message: str) -> None:
        for item in items:
            self._telling.add(Report(item.id, Ending.RELEASED, message=message, begun=False))

    def _report(self, item: OrderedItem, run: Callable[[Any, OrderedItem], Result]) -> Report:
        """A failure is a value. After one, the source is connected to afresh: nobody knows in what state it is."""
        start = time.monotonic()
        report = partial(Report, item.id, pid=os.getpid())
        try:
            with self._channel.may_be_cut_off():
                done = report(Ending.DONE, result=run(self._connected(), item))
        except Stopped:  # what is here stays, and is gone on from
            self._hang_up()
            done = report(Ending.RELEASED, message="cut off: its fetcher was asked to end")
        except RemoteError as error:
            self._hang_up()
            done = report(error.ending, message=str(error), after=error.after, error_class=type(error).__name__)
        except OSError as error:  # our own disk: the part can't be written
            self._hang_up()
            message = f"{error.strerror or error} ({error.filename or item.path})"
            done = report(Ending.UNAVAILABLE, message=message, error_class=type(error).__name__)
        return done._replace(seconds=time.monotonic() - start)

    def _connected(self) -> Remote | Destination:
        if self._remote is None:
            self._remote = open_destination(self._spec) if self._spec.sends else open_remote(self._spec)
        return self._remote

    def _hang_up(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()

    # The errands of a source

    def _poll(self, remote: Remote, poll: OrderedItem) -> Result:
        """Write what there is, an item a line, for the daemon to read at its own pace."""
        count = skipped = 0
        with new_listing(poll.path) as listing:
            items = remote.list()
            for found in itertools.islice(items, self._spec.max_items):
                item = found._replace(name=harmless_name(found.name))
                if is_usable(item):
                    write_listed(listing, item)
                    count += 1
                else:
                    skipped += 1
            cut = count + skipped == self._spec.max_items and next(items, None) is not None
        return {"items": count, "skipped": skipped, "cut": cut}

    def _fetch(self, remote: Remote, item: OrderedItem) -> Result:
        with contextlib.closing(Part(item.path, _bounds(self._spec), partial(self._tell, "fetching", item))) as part:
            try:
                remote.fetch(item, part)
            except Unfit:
                if part.size != part.resumed:  # else the next try goes on from what came, or takes it for all there is
                    part.restart("")
                raise
            return part.finish(item.size, item.digest)

    def _tell(self, event: str, item: OrderedItem, size: int) -> None:
        self._channel.say(Note(event, {"id": item.id, "bytes": size}))

    def _ack(self, remote: Remote, item: OrderedItem) -> Result:
        remote.ack(item)
        return {}

    # The errands of a destination

    def _send(self, destination: Destination, item: OrderedItem) -> Result:
        tell = partial(self._tell, "sending", item)
        with contextlib.closing(Outgoing(item.path, item.size, self._spec.total, tell)) as result:
            known = destination.send(item, result)
            return {"bytes": result.size, "sha256": result.sha256(), "known": known}

    def _look(self, destination: Destination, _item: OrderedItem) -> Result:
        return {"found": destination.look()}


def _bounds(spec: SourceSpec) -> Bounds:
    return Bounds(spec.max_size, spec.total, spec.min_speed, spec.durable)


if __name__ == "__main__":
    main(lambda channel: Fetcher(channel).serve())
