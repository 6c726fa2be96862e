"""Items in a folder of an SFTP server."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from inboxd.fetch import places
from inboxd.fetch.errors import Gone, Refused, RemoteError, Unfit
from inboxd.fetch.part import Part
from inboxd.wire import Listed, OrderedItem, SourceSpec

if TYPE_CHECKING:
    from inboxd.fetch.sftp_session import Session


class SftpSource:
    """One folder, and with `recursive` those below it. Links are not followed."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises Refused when paramiko is missing."""
        try:
            from inboxd.fetch.sftp_session import Session
            from inboxd.fetch.ssh import Connection
        except ModuleNotFoundError as error:
            raise Refused(f"SFTP needs a library, {error.name}: pip install 'inboxd[sftp]'") from error
        self._place = spec.place
        self._total = spec.total
        self._path = spec.place["path"].rstrip("/") or "/"
        self._move = places.move_target(spec.place)
        self._connection = Connection(spec, Session)

    def list(self) -> Iterator[Listed]:
        """All regular files. Raises Away, Refused."""
        waiting = deque([""])
        while waiting:
            below = waiting.popleft()
            folder = places.join(self._path, below) if below else self._path
            with (
                self._connection.within(self._total) as session,
                contextlib.closing(self._entries(session, folder, is_root=not below)) as entries,
            ):
                for seen in entries:
                    if not places.is_plain(seen.name):
                        continue
                    item = f"{below}/{seen.name}" if below else seen.name
                    if seen.is_file:
                        yield Listed(item, seen.name, size=seen.size, version=seen.version)
                    elif seen.is_folder and self._goes_into(item):
                        waiting.append(item)

    def _goes_into(self, item: str) -> bool:
        within = item.count("/") < places.DEEPEST
        return bool(self._place["recursive"]) and within and places.join(self._path, item) != self._move

    def _entries(self, session: Session, folder: str, is_root: bool) -> Generator[places.Seen, None, None]:
        advice = f"check `path`, and the rights of user {self._place['user']} there"
        with places.of_the_listing(f"{folder} on {self._connection.where}", advice):
            try:
                yield from session.entries(folder)
            except Gone:
                if is_root:
                    raise  # a folder below it may go at any time

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Raises Away, Refused, Gone, Unfit, TooLarge; OSError of our own disk."""
        path = places.join(self._path, item.item)
        try:
            with self._connection.within(part.deadline - time.monotonic()) as session:
                size = places.expected(session, path, item).size
                begin = places.start(part, item.version, size)
                with contextlib.closing(session.blocks(path, begin, size)) as blocks:
                    for block in blocks:
                        part.write(block)
                places.expected(session, path, item)
            places.check_whole(part, size, self._connection.where)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from error

    def ack(self, item: OrderedItem) -> None:
        """Leave, delete or move it. Raises Away, Refused, Gone, Unfit."""
        if self._place["after"] == "leave":
            return
        path = places.join(self._path, item.item)
        try:
            with self._connection.within(self._total) as session:
                places.expected(session, path, item)
                if self._move:
                    with places.gone_for_sure(session, path):
                        self._move_away(session, path, item)
                else:
                    session.erase(path)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from error

    def _move_away(self, session: Session, path: str, item: OrderedItem) -> None:
        self._make_target(session)
        for name in places.free_names(item):
            target = places.join(self._move, name)
            if places.is_there(session, target):
                continue
            try:
                return session.shift(path, target)
            except Unfit as error:
                if not places.is_there(session, target):
                    raise Unfit(f"it can't be moved to {target}: {error}") from error
        raise Unfit(f"it can't be moved to {self._move}: too many of that name are there; clear that folder")

    def _make_target(self, session: Session) -> None:
        if places.is_there(session, self._move):
            return
        for folder in places.parents(self._move):
            if not places.is_there(session, folder):
                try:
                    session.make_folder(folder)
                except RemoteError as error:
                    if not places.is_there(session, folder):
                        raise Refused(f"the folder {folder} can't be made: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
