"""A handler that tells what was done to it: one line per start and per end in witness.log beside this file.

A file's name says how to behave: its first word, up to a dash, is looked up in BEHAVIOURS; `fail-…` fails always,
`fail-2-…` in the first two attempts only (for `sleep` the number is seconds, for `memory` MiB). Anything else
succeeds. Each line is one write(2) to a descriptor opened with O_APPEND, so lines of many processes never mix and
survive the death of their writer; one that is killed in the middle of it may leave the beginning of a line.

Copied beside a configuration by the tests: imports nothing but inboxd and the standard library.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from inboxd import File, Reject, Retry

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "witness.log")
_fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def handle(file: File) -> dict[str, Any]:
    """Note the start, behave as the name says, note the end."""
    digest = _digest(file)
    _note("start", file, digest)
    try:
        result = _behave(file) or {}
    except BaseException as error:
        _note("end", file, digest, ending=type(error).__name__)
        raise
    _note("end", file, digest, ending="ok")
    return {"sha256": digest, **result}


def _digest(file: File) -> str:
    with open(file.path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _note(what: str, file: File, digest: str, **more: str) -> None:
    line = {
        "what": what, "id": file.id, "inbox": file.inbox, "name": str(file.name), "sha256": digest,
        "attempt": file.attempt, "pid": os.getpid(), "at": time.time(), **more,
    }  # fmt: skip
    os.write(_fd, json.dumps(line).encode("ascii") + b"\n")


def _words(file: File) -> list[str]:
    return str(file.name).split(".")[0].split("-")


def _number(file: File, default: float) -> float:
    """The second word of the name where it is a number and not the last word."""
    words = _words(file)
    try:
        return float(words[1].replace("_", ".")) if len(words) > 2 else default
    except ValueError:
        return default


def _behave(file: File) -> dict[str, Any] | None:
    behaviour = BEHAVIOURS.get(_words(file)[0])
    return behaviour(file) if behaviour else None


def _for_a_while(act: Callable[[File], None]) -> Callable[[File], None]:
    """Only in the first attempts, where the name gives their number."""

    def behave(file: File) -> None:
        if file.attempt <= _number(file, 1_000_000):
            act(file)

    return behave


def _fail(file: File) -> None:
    raise RuntimeError(f"told to fail in attempt {file.attempt}")


def _reject(file: File) -> None:
    raise Reject("not ours")


def _retry(file: File) -> None:
    raise Retry("busy", after="50ms")


def _crash(file: File) -> None:
    ctypes.string_at(0)


def _kill(file: File) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(file: File) -> None:
    os._exit(0)


def _exit(file: File) -> None:
    sys.exit(3)


def _hang(file: File) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        signal.pause()


def _sleep(file: File) -> None:
    time.sleep(_number(file, 1.0))


def _steps(file: File) -> None:
    """So many tenths of a second of our own time: what stands still does not come closer to the end."""
    for _ in range(int(_number(file, 10))):
        time.sleep(0.1)


def _memory(file: File) -> dict[str, Any]:
    held = bytearray(int(_number(file, 64)) << 20)
    held[::4096] = b"x" * len(held[::4096])
    _KEPT.append(held)
    return {"held": len(held)}


def _grandchild(file: File) -> dict[str, Any]:
    """Leave a process behind that keeps standard output open."""
    child = subprocess.Popen(["sleep", str(_number(file, 600))])
    _CHILDREN.append(child)
    return {"grandchild": child.pid}


def _delete(file: File) -> None:
    os.unlink(file.path)


def _change(file: File) -> None:
    with open(file.path, "ab") as stream:
        stream.write(b"changed")


def _link(file: File) -> None:
    """Put a symbolic link where the input was."""
    os.unlink(file.path)
    os.symlink("/etc/hostname", file.path)


def _results(file: File) -> None:
    for part in ("one", "two"):
        with open(os.path.join(file.results, f"{part}-{file.name}"), "wb") as stream:
            stream.write(f"{part} of {file.id}\n".encode())


def _lasting(file: File) -> None:
    """It has written its results long before it ends."""
    _results(file)
    _sleep(file)


def _print(file: File) -> None:
    sys.stdout.write("printed \x1b[31m by the handler\n")
    sys.stderr.write("no newline at the end")
    sys.stdout.flush()


def _big(file: File) -> dict[str, Any]:
    return {"big": "x" * (200 << 20)}


def _unspeakable(file: File) -> dict[str, Any]:
    return {"not JSON": {1, 2, 3}}


_KEPT: list[bytearray] = []
_CHILDREN: list[subprocess.Popen[bytes]] = []

BEHAVIOURS: dict[str, Callable[[File], dict[str, Any] | None]] = {
    "fail": _for_a_while(_fail),
    "reject": _for_a_while(_reject),
    "retry": _for_a_while(_retry),
    "crash": _for_a_while(_crash),
    "kill": _for_a_while(_kill),
    "leave": _for_a_while(_leave),
    "exit": _for_a_while(_exit),
    "hang": _for_a_while(_hang),
    "sleep": _sleep,
    "steps": _steps,
    "memory": _memory,
    "grandchild": _grandchild,
    "delete": _delete,
    "change": _change,
    "link": _link,
    "results": _results,
    "lasting": _lasting,
    "print": _print,
    "big": _big,
    "unspeakable": _unspeakable,
}


def handle_batch(files: list[File]) -> list[dict[str, Any]]:
    """The same for many at once; one that kills takes the whole batch with it."""
    return [handle(file) for file in files]
