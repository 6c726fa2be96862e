"""Results for a folder of an SFTP server: written under a temporary name, shown by a rename."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from typing import TYPE_CHECKING

from inboxd.fetch import places
from inboxd.fetch.errors import Away, Denied, Gone, Refused, RemoteError, Unfit
from inboxd.fetch.outgoing import Outgoing
from inboxd.wire import OrderedItem, SourceSpec

if TYPE_CHECKING:
    from inboxd.fetch.places import Seen
    from inboxd.fetch.sftp_upload import UploadSession

_TRIES = 3  # to show one result


class SftpDestination:
    """One folder. What is there is never overwritten, unless `replace` says so."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises Refused when paramiko is missing."""
        try:
            from inboxd.fetch.sftp_session import BLOCK
            from inboxd.fetch.sftp_upload import UploadSession
            from inboxd.fetch.ssh import Connection
        except ModuleNotFoundError as error:
            raise Refused(f"SFTP needs a library, {error.name}: pip install 'inboxd[sftp]'") from error
        self._block = BLOCK
        self._total = spec.total
        self._user = spec.place["user"]
        self._path = spec.place["path"].rstrip("/") or "/"
        self._replace: bool = spec.place["replace"]
        self._connection = Connection(spec, UploadSession)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def send(self, item: OrderedItem, result: Outgoing) -> bool:
        """Raises Away, Refused, Unfit, Unreadable."""
        path = places.join(self._path, item.name)
        try:
            with self._connection.within(result.left) as session:
                return self._bring(session, path, item, result)
        except Denied as error:
            raise self._shut_out(posixpath.dirname(path)) from error
        except Gone as error:
            raise Unfit(f"{item.name}: {error}") from error
        except Unfit as error:
            raise places.named(error, item.name) from error

    def _shut_out(self, folder: str) -> Refused:
        where = self._connection.where
        return Refused(f"{where} does not let user {self._user} write to {folder}: ask its operator, or correct `path`")

    def _bring(self, session: UploadSession, path: str, item: OrderedItem, result: Outgoing) -> bool:
        temporary = posixpath.join(posixpath.dirname(path), places.temporary_name(item.name, item.id))
        there = _seen(session, path)
        if there and not self._replace:
            known = self._is_same(session, path, there, result)
            if known and item.attempt > 1:
                _sweep(session, temporary)  # some servers rename by a second link, and may have died before the end
            return known
        if there and there.is_folder:
            raise Unfit("a folder of that name is there; move it away there")
        try:
            self._write(session, temporary, item, result)
            known = self._show(session, temporary, path, result)
        except Exception:
            _sweep(session, temporary)
            raise
        if known:
            _sweep(session, temporary)
        return known

    # Written

    def _write(self, session: UploadSession, temporary: str, item: OrderedItem, result: Outgoing) -> None:
        try:
            try:
                self._pour(session, temporary, result)
            except Gone:
                self._make_folders(session, item.name)
                self._pour(session, temporary, result)
        except Unfit as error:
            raise self._full(session, result) or error from None
        size = session.look(temporary).size
        if size != result.size:
            raise Unfit(f"{size} of {result.size} bytes are there after it was written")

    def _pour(self, session: UploadSession, temporary: str, result: Outgoing) -> None:
        with self._connection.moving() as move, contextlib.closing(result.blocks(self._block)) as blocks:
            session.write(temporary, blocks, move)

    def _full(self, session: UploadSession, result: Outgoing) -> Away | None:
        """A disk that is full is called a failure like any other."""
        with contextlib.suppress(RemoteError):
            free = session.free(self._path)
            if free is not None and free < result.size:
                return Away(f"{self._connection.where} has no space for it: {free} bytes are free in {self._path}")
        return None

    def _make_folders(self, session: UploadSession, name: str) -> None:
        self._check_folder(session)
        for below in places.parents(posixpath.dirname(name)):
            folder = posixpath.join(self._path, below)
            try:
                session.make_folder(folder)
            except Unfit as error:
                if not _is_folder(session, folder):
                    if isinstance(error, Denied):
                        raise
                    raise Unfit(f"the folder {folder} can't be made: {error}") from error

    def _check_folder(self, session: UploadSession) -> None:
        if not _is_folder(session, self._path):
            raise Refused(f"{self._path} on {self._connection.where} is no folder; make it there, or correct `path`")

    # Shown

    def _show(self, session: UploadSession, temporary: str, path: str, result: Outgoing) -> bool:
        """Whether it was there already: somebody may have been faster, and their file may be collected at any time."""
        if self._replace:
            session.overtake(temporary, path)
            return False
        for left in reversed(range(_TRIES)):
            try:
                session.shift(temporary, path)  # OpenSSH's server never renames over what is there; nor may any other
                break
            except Unfit:
                there = _seen(session, path)
                if not there and not left:
                    raise
            if there:
                return self._is_same(session, path, there, result)
        return False

    def _is_same(self, session: UploadSession, path: str, there: Seen, result: Outgoing) -> bool:
        """True: an earlier try had brought it, and its answer was lost. Raises Unfit for anything else."""
        try:
            if there.is_file and there.size == result.size and _sha256(session, path, result) == result.sha256():
                return True
        except Denied:
            pass
        except Gone:
            raise Away(f"another file of that name on {self._connection.where} went away while it was read") from None
        raise Unfit("another file of that name is there; move it away there, or write `replace: true` to overwrite it")

    def look(self) -> str:
        """Log in, and look at the folder. Raises Away, Refused."""
        with self._connection.within(self._total) as session:
            try:
                self._check_folder(session)
            except Unfit as error:
                raise self._shut_out(self._path) from error
        return (
            f"{self._connection.where} lets user {self._user} in, and {self._path} is a folder; "
            "nothing was sent, so whether we may write to it is not known"
        )


def _seen(session: UploadSession, path: str) -> Seen | None:
    try:
        return session.look(path)
    except Gone:
        return None


def _is_folder(session: UploadSession, path: str) -> bool:
    try:
        return session.follow(path).is_folder
    except Gone:
        return False


def _sha256(session: UploadSession, path: str, result: Outgoing) -> str:
    found = hashlib.sha256()
    with contextlib.closing(session.blocks(path, 0, result.size)) as blocks:
        for block in blocks:
            found.update(block)
            _ = result.left
    return found.hexdigest()


def _sweep(session: UploadSession, temporary: str) -> None:
    """Where that is still possible; the next try begins it anew anyway."""
    if session.is_at_rest():
        with contextlib.suppress(RemoteError):
            session.erase(temporary)
