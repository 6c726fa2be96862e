"""The control socket: one JSON object per line, over a Unix socket in the state folder.

Request {"verb": …, "args": {…}}; answer {"ok": true, "result": …} or {"ok": false, "error", "hint", "code"}. Who may
ask what is told by the peer's credentials (unix(7), SO_PEERCRED): everybody may read, the daemon's own user and root
may change things.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import traceback
from pathlib import Path
from typing import Any

from inboxd import events
from inboxd.errors import EXIT_SOFTWARE, EXIT_USAGE, InboxdError, NotRunning, UsageError
from inboxd.events import emit

READ = frozenset({"status", "files", "show", "explain"})
WRITE = frozenset({"retry", "pause", "resume", "drain", "reload", "prune", "doctor"})

_LARGEST = 1 << 20  # bytes of a request
_MOST = 16  # conversations at a time
_PATIENCE = 10.0  # seconds for a peer to say something
_PEER = struct.Struct("3i")


class Server:
    """Answers on the socket until stopped; each conversation in a thread of its own."""

    def __init__(self, path: Path, operator: Any) -> None:
        self._path = path
        self._operator = operator
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._room = threading.BoundedSemaphore(_MOST)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """Listen. What a dead daemon left is replaced: we hold the instance lock."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        with _reachable(self._path) as address:
            self._socket.bind(address)
        self._path.chmod(0o666)  # the state folder's own mode decides who comes this far
        self._socket.listen(_MOST)
        self._thread.start()

    def stop(self) -> None:
        """No more conversations."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._room.acquire()
            threading.Thread(target=self._converse, args=(peer,), name="control-peer", daemon=True).start()

    def _converse(self, peer: socket.socket) -> None:
        try:
            with peer, peer.makefile("rwb") as stream:
                peer.settimeout(_PATIENCE)
                while line := stream.readline(_LARGEST):
                    stream.write(json.dumps(self._answer(line, _uid(peer))).encode() + b"\n")
                    stream.flush()
        except OSError:
            pass  # the peer went away, or fell silent
        finally:
            self._room.release()

    def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        try:
            verb, arguments = _parse(line)
            if verb in WRITE and uid not in (0, os.geteuid()):
                raise UsageError(f"uid {uid} may not {verb}", hint="ask root, or the user that inboxd runs as")
            return {"ok": True, "result": getattr(self._operator, verb)(**arguments)}
        except InboxdError as error:
            return {"ok": False, "error": error.message, "hint": error.hint, "code": error.exit_code}
        except TypeError as error:
            return {"ok": False, "error": f"wrong arguments: {error}", "hint": "", "code": EXIT_USAGE}
        except Exception as error:  # noqa: BLE001 - the server outlives a fault in one answer, which is told
            emit(events.LIBRARY, logger="control", message=f"{error!r}", detail=traceback.format_exc())
            return {
                "ok": False,
                "error": repr(error),
                "hint": "a fault of inboxd; see its log",
                "code": EXIT_SOFTWARE,
            }


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
        verb, arguments = request["verb"], request.get("args") or {}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError("a request is one line of JSON with `verb` and `args`") from None
    if verb not in READ | WRITE:
        raise UsageError(f"there is no verb {verb!r}", hint=f"there are: {', '.join(sorted(READ | WRITE))}")
    return verb, dict(arguments)


def _uid(peer: socket.socket) -> int:
    _pid, uid, _gid = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


@contextlib.contextmanager
def _reachable(path: Path) -> Any:
    """A socket's address has 108 bytes at most (unix(7)); a longer path goes through its folder's descriptor."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class Failed(InboxdError):
    """The daemon refused, or failed; carries its exit code."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["error"], hint=answer.get("hint", ""))
        self.exit_code = answer.get("code", EXIT_SOFTWARE)


def ask(path: Path, verb: str, timeout: float = 120.0, **arguments: Any) -> Any:
    """Ask the daemon that listens at `path`. Raises NotRunning, or Failed with what it answered."""
    request = json.dumps({"verb": verb, "args": arguments}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            with _reachable(path) as address:
                connection.connect(address)
            connection.sendall(request)
            line = connection.makefile("rb").readline()
        except PermissionError as error:
            raise NotRunning(
                f"{path} can't be opened: {error.strerror}", hint="run this as root or as inboxd's user"
            ) from None
        except OSError as error:
            raise NotRunning(f"no daemon answers at {path}", hint="start it with `inboxd run`") from error
    if not line:
        raise NotRunning("the daemon ended in the middle of the answer", hint="look at its log")
    answer = json.loads(line)
    if not answer["ok"]:
        raise Failed(answer)
    return answer["result"]
