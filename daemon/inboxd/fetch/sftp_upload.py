"""SFTP as a sender needs it: bounded writes that are several ahead, and what OpenSSH's server can beyond version 3."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

import paramiko
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_INIT,
    CMD_OPEN,
    CMD_STATUS,
    CMD_VERSION,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_TRUNC,
    SFTP_FLAG_WRITE,
    SFTPError,
    int64,
)

from inboxd.fetch.errors import Gone
from inboxd.fetch.sftp_session import AHEAD, Answers, Session, as_bytes

_VERSION = 3
_FSYNC, _RENAME, _SPACE = "fsync@openssh.com", "posix-rename@openssh.com", "statvfs@openssh.com"  # PROTOCOL of OpenSSH


class UploadSession(Session):
    """A session that writes, too."""

    _offered: frozenset[str] = frozenset()

    def _send_version(self) -> int:
        """Called by paramiko, whose own does not look at what the server offers."""
        hello = Message()
        hello.add_int(_VERSION)
        self._send_packet(CMD_INIT, hello)  # type: ignore[attr-defined]
        kind, data = self._read_packet()  # type: ignore[attr-defined]
        if kind != CMD_VERSION:
            raise SFTPError("a version was asked for, something else came")
        told = Message(data)
        version = told.get_int()
        self._offered = frozenset(_names(told))
        return version

    def write(self, path: str, blocks: Iterator[bytes], move: Callable[[], None]) -> None:
        """Make the file, or what is left of it anew, write all blocks, and have them on disk where the server can.

        `move` is called whenever the server has taken some. What `blocks` raises is raised.
        """
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_TRUNC
        handle = self._handle(CMD_OPEN, path, flags, paramiko.SFTPAttributes())
        try:
            self._pour(handle, blocks, move)
            with self._asking():
                if _FSYNC in self._offered:
                    self._request(CMD_EXTENDED, _FSYNC, handle)
        except Exception:
            self._let_go(handle)
            raise
        with self._asking():
            self._request(CMD_CLOSE, handle)

    def _pour(self, handle: bytes, blocks: Iterator[bytes], move: Callable[[], None]) -> None:
        answers, begin = Answers(), 0
        pending: deque[int] = deque()
        try:
            for block in blocks:
                if len(pending) == AHEAD:
                    self._confirm(answers, pending.popleft())
                with self._asking():
                    pending.append(self._async_request(answers, CMD_WRITE, handle, int64(begin), block))
                begin += len(block)
                move()
            while pending:
                self._confirm(answers, pending.popleft())
                move()
        except Exception:
            with contextlib.suppress(Exception):  # the first failure has said what is wrong
                self._drain(answers, deque((number, 0) for number in pending))
            raise

    def _confirm(self, answers: Answers, number: int) -> None:
        with self._asking():
            while number not in answers.here:
                self._read_response()
            kind, message = answers.here.pop(number)
            if kind != CMD_STATUS:
                raise SFTPError("bytes were written, something else was answered")
            self._convert_status(message)

    def overtake(self, path: str, target: str) -> None:
        """Rename over what is there. Where the server can't, that is removed first: for a moment nothing is there."""
        if _RENAME in self._offered:
            with self._asking():
                super().posix_rename(as_bytes(path), as_bytes(target))
            return
        with contextlib.suppress(Gone):
            self.erase(target)
        self.shift(path, target)

    def free(self, path: str) -> int | None:
        """Bytes that we may still write below the folder; None where the server does not say."""
        if _SPACE not in self._offered:
            return None
        with self._asking():
            kind, told = self._request(CMD_EXTENDED, _SPACE, as_bytes(path))
            if kind != CMD_EXTENDED_REPLY:
                return None
            _, unit, _, _, available = (told.get_int64() for _ in range(5))
            return unit * available


def _names(told: Message) -> Iterator[str]:
    while told.get_remainder():
        yield told.get_string().decode("utf-8", "replace")
        told.get_string()  # of which version
