"""The control socket: one JSON object per line, over a Unix socket in the state folder.

Request {"verb": …, "args": {…}}, see verbs.py; answer {"ok": true, "result": …} or {"ok": false, "error", "hint",
"code"}. The kernel tells who asks (unix(7), SO_PEERCRED): the daemon's own user and root may ask everything, others may
only look.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from inboxd import __version__, events, threads
from inboxd.errors import InboxdError, UsageError
from inboxd.events import emit
from inboxd.verbs import VERBS, Answers, Row, parse

SOCKET = "control.sock"  # its name in the state folder

_LARGEST = 1 << 20  # bytes of a request
_MOST = 16  # conversations at a time
_QUEUE = 128  # peers that may wait for one; connect(2) refuses more
_PATIENCE = 10.0  # seconds for a peer to finish a request, or to take an answer
_LAST_WORDS = 2.0  # seconds at a stop for answers that are on their way
_TOLD = 1000  # characters of a request in the log
_PEER = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Server:
    """Answers on the socket until stopped; each conversation in a thread of its own."""

    def __init__(self, path: Path, operator: Answers, *, owner: int | None = None) -> None:
        """`owner`: the uid that may ask everything, besides root; the daemon's own if not given."""
        self._path = path
        self._operator = operator
        self._trusted = {0, os.geteuid() if owner is None else owner}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._room = threading.BoundedSemaphore(_MOST)
        self._peers: dict[socket.socket, threading.Thread] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """Listen. What a dead daemon left is replaced: whoever starts this holds the instance lock. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        with address(self._path) as name:
            self._socket.bind(name)
        self._path.chmod(0o660)
        self._socket.listen(_QUEUE)
        threads.start(self._thread)

    def stop(self) -> None:
        """No more requests; answers that are being made are still given, for a moment."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        end = time.monotonic() + _LAST_WORDS
        for peer, thread in list(self._peers.items()):
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RD)
            thread.join(max(0.0, end - time.monotonic()))

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._room.acquire()
            try:
                self._admit(self._socket.accept()[0])
            except OSError:  # no descriptor or no thread left just now: later, perhaps
                self._room.release()
                self._stopping.wait(0.1)

    def _admit(self, peer: socket.socket) -> None:
        thread = threading.Thread(target=self._converse, args=(peer,), name="control-peer", daemon=True)
        self._peers[peer] = thread
        try:
            threads.start(thread)
        except OSError:
            del self._peers[peer]
            peer.close()
            raise

    def _converse(self, peer: socket.socket) -> None:
        try:
            for line in _requests(peer):
                answer = self._answer(line, _uid(peer))
                peer.settimeout(_PATIENCE)
                peer.sendall(answer + b"\n")
        except UsageError as error:
            with contextlib.suppress(OSError):
                peer.settimeout(_PATIENCE)
                peer.sendall(_refusal(error) + b"\n")
        except OSError:
            pass  # the peer went away, or fell silent
        finally:
            self._peers.pop(peer, None)
            peer.close()
            self._room.release()

    def _answer(self, line: bytes, uid: int) -> bytes:
        verb = "?"
        try:
            verb, arguments = parse(line)
            self._permit(verb, arguments, uid)
            return json.dumps({"ok": True, "result": self._result(verb, arguments)}).encode()
        except InboxdError as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - the server outlives a fault in one answer, which is told
            emit(
                events.CONTROL_FAILED, verb=verb, error_class=type(error).__name__, message=str(error),
                detail=traceback.format_exc(),
            )  # fmt: skip
            fault = InboxdError(f"a fault of inboxd in `{verb}`: {error!r}", hint="its log has the traceback")
            return _refusal(fault)

    def _result(self, verb: str, arguments: Row) -> Row:
        if verb == "ping":
            return {"version": __version__, "pid": os.getpid()}
        result: Row = getattr(self._operator, verb)(**arguments)
        return result

    def _permit(self, verb: str, arguments: Row, uid: int) -> None:
        if not VERBS[verb].restricted:
            return
        if uid not in self._trusted:
            raise UsageError(f"uid {uid} may not {verb}", hint="ask as root, or as the user that inboxd runs as")
        if VERBS[verb].told:
            told = json.dumps(arguments)[:_TOLD]
            request = f"{verb} {told}" if arguments else verb
            emit(events.CONTROL_ASKED, verb=verb, uid=uid, arguments=told, request=request)


def _requests(peer: socket.socket) -> Iterator[bytes]:
    """Lines, until the peer closes. Raises TimeoutError for a slow one, UsageError for one that is too long."""
    held = bytearray()
    deadline = time.monotonic() + _PATIENCE
    while True:
        end = held.find(b"\n")
        if end > _LARGEST or (end < 0 and len(held) > _LARGEST):
            raise UsageError(f"a request has {_LARGEST} bytes at most")
        if end >= 0:
            yield bytes(held[:end])
            del held[: end + 1]
            deadline = time.monotonic() + _PATIENCE
            continue
        peer.settimeout(max(0.001, deadline - time.monotonic()))
        part = peer.recv(1 << 16)
        if not part:
            return
        held += part


def _refusal(error: InboxdError) -> bytes:
    answer = {"ok": False, "error": error.message, "hint": error.hint, "code": error.exit_code}
    return json.dumps(answer).encode()


def _uid(peer: socket.socket) -> int:
    return credentials(peer)[1]


def credentials(peer: socket.socket) -> tuple[int, int]:
    """Pid and uid of the other end; pid 0 when it lives in a PID namespace that is not to be seen from here."""
    pid, uid, _gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """A socket's address has 108 bytes at most (unix(7)); a longer path goes through its folder's descriptor."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
