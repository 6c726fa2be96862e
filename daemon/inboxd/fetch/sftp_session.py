"""SFTP version 3 (draft-ietf-secsh-filexfer-02) as we need it: bounded reads that are several ahead, names as bytes.

paramiko's own listing fails on a name that is not UTF-8, and its prefetching leaves threads and answers behind.
"""

from __future__ import annotations

import contextlib
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import paramiko
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_DATA,
    CMD_HANDLE,
    CMD_NAME,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    SFTPError,
    int64,
)

from inboxd.fetch.errors import Away, Denied, Gone, Unfit
from inboxd.fetch.places import Seen, version_of

BLOCK = 32 * 1024  # bytes; what every server gives or takes at once
AHEAD = 32  # blocks asked for and not there yet, or sent and not confirmed: 1 MiB in memory at most


class Answers:
    """Where paramiko puts the answers to questions that it does not wait for itself."""

    def __init__(self) -> None:
        self.here: dict[int, tuple[int, Message]] = {}

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        self.here[number] = (kind, message)


class Session(paramiko.SFTPClient):
    """A channel that speaks SFTP. All that fails is Gone (no such file), Denied, Unfit (not done) or Away."""

    _expecting: dict[int, Any]  # protected members of paramiko's class, which its stubs leave out
    _request: Callable[..., tuple[int, Message]]
    _async_request: Callable[..., int]
    _read_response: Callable[..., Any]
    _convert_status: Callable[[Message], None]

    def __init__(self, channel: paramiko.Channel, where: str) -> None:
        super().__init__(channel)
        self._channel = channel
        self._where = where
        self._idle = 0.0

    def begin(self, idle: float) -> None:
        """An operation begins, in which no answer may take longer than `idle` seconds."""
        self._idle = idle
        self._channel.settimeout(idle)

    def is_at_rest(self) -> bool:
        """Whether nothing that was asked for is still on its way."""
        return not self._expecting and not self._channel.closed

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Gone("there is no such file or folder") from error
        except PermissionError as error:
            raise Denied("permission denied") from error
        except TimeoutError as error:
            self._end()
            raise Away(f"{self._where} gave no answer for {self._idle:g} s (timeout.idle)") from error
        except (paramiko.SSHException, SFTPError, EOFError) as error:
            self._end()
            raise Away(f"{self._where} broke off: {error or type(error).__name__}") from error
        except OSError as error:
            if self._channel.closed:
                raise Away(f"{self._where} broke off: {error}") from error
            raise Unfit(f"the server says: {error}") from error

    def _end(self) -> None:
        with contextlib.suppress(Exception):  # to say goodbye over a broken connection fails, too
            self.close()

    def look(self, path: str) -> Seen:
        """What is there now; a link is a link."""
        with self._asking():
            return _seen(path, super().lstat(as_bytes(path)))

    def follow(self, path: str) -> Seen:
        """The same; of a link, what it leads to."""
        with self._asking():
            return _seen(path, super().stat(as_bytes(path)))

    def erase(self, path: str) -> None:
        """Remove a file."""
        with self._asking():
            super().remove(as_bytes(path))

    def shift(self, path: str, target: str) -> None:
        """Rename; Unfit when the target is there, as this version of the protocol wants it."""
        with self._asking():
            super().rename(as_bytes(path), as_bytes(target))

    def make_folder(self, path: str) -> None:
        """One folder, whose parent is there."""
        with self._asking():
            super().mkdir(as_bytes(path))

    def entries(self, path: str) -> Generator[Seen, None, None]:
        """All names in a folder but . and .., as the server gives them."""
        handle = self._handle(CMD_OPENDIR, path)
        try:
            while found := self._more(path, handle):
                yield from found
        finally:
            self._let_go(handle)

    def _more(self, path: str, handle: bytes) -> list[Seen]:
        with self._asking():
            try:
                kind, message = self._request(CMD_READDIR, handle)
            except EOFError:
                return []
            if kind != CMD_NAME:
                raise SFTPError("a listing was asked for, something else came")
            found = [_next_name(message) for _ in range(message.get_int())]
            full = [(name, self._in_full(path, name, seen)) for name, seen in found if name not in (".", "..")]
        return [_seen(name, seen) for name, seen in full] or (self._more(path, handle) if found else [])

    def _in_full(self, path: str, name: str, seen: paramiko.SFTPAttributes) -> paramiko.SFTPAttributes:
        """Some servers leave out in a listing what they say when asked."""
        if None in (seen.st_mode, seen.st_size, seen.st_mtime) and "/" not in name:
            return super().lstat(as_bytes(f"{path}/{name}"))
        return seen

    def blocks(self, path: str, begin: int, end: int) -> Generator[bytes, None, None]:
        """The bytes from `begin` to `end`, in order, or to where the file ends before."""
        with self._asking():
            file = super().open(as_bytes(path), "r")
            handle: Any = file.handle
        try:
            size = BLOCK
            while begin < end:
                data = b""
                for data in self._run(handle, begin, end, size):
                    begin += len(data)
                    yield data
                if not data:
                    return
                size = min(size, len(data))  # less than asked: this server has smaller blocks, or the file ends here
        finally:
            with contextlib.suppress(Exception):
                file.close()

    def _run(self, handle: Any, begin: int, end: int, size: int) -> Iterator[bytes]:
        """Blocks as long as each is whole; ends after the first that is not, with what was still on its way dropped."""
        answers = Answers()
        pending: deque[tuple[int, int]] = deque()
        while begin < end or pending:
            while begin < end and len(pending) < AHEAD:
                count = min(size, end - begin)
                with self._asking():
                    pending.append((self._async_request(answers, CMD_READ, handle, int64(begin), count), count))
                begin += count
            number, count = pending.popleft()
            data = self._data(answers, number, count)
            if len(data) < count:
                self._drain(answers, pending)
                if data:
                    yield data
                return
            yield data

    def _data(self, answers: Answers, number: int, count: int) -> bytes:
        with self._asking():
            while number not in answers.here:
                self._read_response()
            kind, message = answers.here.pop(number)
            if kind != CMD_DATA:
                try:
                    self._convert_status(message)
                except EOFError:
                    return b""
                raise SFTPError("bytes were asked for, something else came")
            data: bytes = message.get_string()
            if len(data) > count:
                raise SFTPError(f"{count} bytes were asked for, {len(data)} came")
            return data

    def _drain(self, answers: Answers, pending: deque[tuple[int, int]]) -> None:
        with self._asking():
            while any(number not in answers.here for number, _ in pending):
                self._read_response()

    def _handle(self, command: Any, path: str, *more: Any) -> bytes:
        with self._asking():
            kind, message = self._request(command, as_bytes(path), *more)
            if kind != CMD_HANDLE:
                raise SFTPError("a handle was asked for, something else came")
            handle: bytes = message.get_string()
            return handle

    def _let_go(self, handle: bytes) -> None:
        with contextlib.suppress(Exception):  # the operation itself has said what is wrong
            self._request(CMD_CLOSE, handle)


def as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _next_name(message: Message) -> tuple[str, paramiko.SFTPAttributes]:
    name = message.get_string().decode("utf-8", "surrogateescape")
    message.get_string()  # what `ls -l` would print
    attributes: Any = paramiko.SFTPAttributes
    return name, attributes._from_msg(message)


def _seen(name: str, found: paramiko.SFTPAttributes) -> Seen:
    mode, size = found.st_mode or 0, found.st_size or 0
    return Seen(name, stat.S_ISREG(mode), stat.S_ISDIR(mode), size, version_of(size, found.st_mtime))
