"""Items in a folder of an FTP server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from inboxd.fetch import places
from inboxd.fetch.errors import Away, Gone, Refused, Unfit
from inboxd.fetch.ftp_session import Session, Unresumable
from inboxd.fetch.part import Part
from inboxd.wire import Listed, OrderedItem, SourceSpec


class FtpSource:
    """One folder, without those below it."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._session: Session | None = None
        self._where = f"{spec.place['host']}:{spec.place['port']}"

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[Session]:
        session = self._session
        if session is None or not session.answers():
            self.close()
            session = self._session = Session(self._spec)
        try:
            with session.within(seconds):
                yield session
        except (Away, OSError):
            self.close()
            raise

    def list(self) -> Iterator[Listed]:
        """All files that have a size. Raises Away, Refused."""
        place = self._spec.place
        advice = f"check `path`, and the rights of user {place['user']} there"
        with (
            self._within(self._spec.total) as session,
            places.of_the_listing(f"{place['path']} on {self._where}", advice),
            contextlib.closing(session.entries()) as entries,
        ):
            for seen in entries:
                if seen.is_file and places.is_plain(seen.name) and "\r" not in seen.name:
                    yield Listed(seen.name, seen.name, size=seen.size, version=seen.version)

    def fetch(self, item: OrderedItem, part: Part) -> None:
        """Raises Away, Refused, Gone, Unfit, TooLarge; OSError of our own disk."""
        try:
            with self._within(part.deadline - time.monotonic()) as session:
                path = _path(session, item)
                size = places.expected(session, path, item).size
                with places.gone_for_sure(session, path):
                    self._copy(session, path, item, part, size)
                places.expected(session, path, item)
            places.check_whole(part, size, self._where)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from error

    def _copy(self, session: Session, path: str, item: OrderedItem, part: Part, size: int) -> None:
        begin = places.start(part, item.version, size)
        if begin == size:
            return
        try:
            with contextlib.closing(session.blocks(path, begin)) as blocks:
                for block in blocks:
                    if part.size + len(block) > size:
                        part.restart("")
                        raise Unfit(f"more came than the {size} bytes that it has")
                    part.write(block)
        except Unresumable:
            part.restart("")
            self._copy(session, path, item, part, size)

    def ack(self, item: OrderedItem) -> None:
        """Leave, delete or move it. Raises Away, Refused, Gone, Unfit."""
        if self._spec.place["after"] == "leave":
            return
        try:
            with self._within(self._spec.total) as session:
                path = _path(session, item)
                places.expected(session, path, item)
                with places.gone_for_sure(session, path):
                    self._put_away(session, path, item)
        except (Gone, Unfit) as error:
            raise places.named(error, item.item) from error

    def _put_away(self, session: Session, path: str, item: OrderedItem) -> None:
        if self._spec.place["after"] == "delete":
            session.erase(path)
        else:
            self._move_away(session, path, item)

    def _move_away(self, session: Session, path: str, item: OrderedItem) -> None:
        folder = places.move_target({**self._spec.place, "path": session.path})
        _make_folder(session, folder)
        for name in places.free_names(item):
            target = places.join(folder, name)
            if not places.is_there(session, target):
                return session.shift(path, target)
        raise Unfit(f"it can't be moved to {folder}: too many of that name are there; clear that folder")

    def close(self) -> None:
        """Hang up."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _path(session: Session, item: OrderedItem) -> str:
    if "\r" in item.item or "\n" in item.item:
        raise Unfit("FTP has no way to ask for a name of several lines")
    return places.join(session.path, item.item)


def _make_folder(session: Session, folder: str) -> None:
    if session.is_folder(folder):
        return
    for each in places.parents(folder):
        if not session.is_folder(each):
            try:
                session.make_folder(each)
            except (Gone, Unfit) as error:
                raise Refused(f"the folder {each} can't be made: {error}") from error
