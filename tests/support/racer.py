"""Uploaders who race against the daemon: each kind swaps, replaces or removes what it offers, as fast as it can.

    python racer.py KIND INBOUND TARGET        until SIGTERM; prints how many files it has offered

Started by `racing`; a process of its own, so that it really runs at the same time.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_NAMES = 4  # offered at a time: so few that each changes places many times before it is taken
_EXCHANGE = 2  # linux/fs.h: RENAME_EXCHANGE
_libc = ctypes.CDLL(None, use_errno=True)

Round = Callable[[int], int]  # the number of files offered so far in, and out


def exchange(folder_fd: int, one: str, other: str) -> None:
    """renameat2(2): the two names change places, at no instant is one of them missing."""
    if _libc.renameat2(folder_fd, os.fsencode(one), folder_fd, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def _write(folder_fd: int, name: str, content: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=folder_fd)
    os.write(fd, content)
    os.close(fd)


def _remove(folder_fd: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)


def _offer(folder_fd: int, name: str, content: bytes) -> None:
    _write(folder_fd, ".draft", content)
    os.rename(".draft", name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def swapping(kind: str, inbound: int, target: str) -> Round:
    """A file and something else change places under one name: a symbolic link, or a file just like it."""

    def renew(name: str, number: int) -> None:
        hidden = "." + name
        _remove(inbound, hidden)
        if kind == "link":
            os.symlink(target, hidden, dir_fd=inbound)
        else:
            _write(inbound, hidden, b"%08d other" % number)
            os.utime(hidden, ns=(0, 10**18), dir_fd=inbound)
        _write(inbound, ".draft", b"%08d first" % number)
        os.utime(".draft", ns=(0, 10**18), dir_fd=inbound)
        os.rename(".draft", name, src_dir_fd=inbound, dst_dir_fd=inbound)

    def once(number: int) -> int:
        for name in (f"race-{index}" for index in range(_NAMES)):
            try:
                exchange(inbound, name, "." + name)
            except FileNotFoundError:  # it was taken
                renew(name, number := number + 1)
        return number

    return once


def doors(_kind: str, inbound: int, target: str) -> Round:
    """A folder that files lie in changes places with a link to another one, where files of the same names lie."""
    os.mkdir("folder", dir_fd=inbound)
    folder = os.open("folder", os.O_RDONLY | os.O_DIRECTORY, dir_fd=inbound)
    os.symlink(target, ".door", dir_fd=inbound)

    def once(number: int) -> int:
        for name in (f"race-{index}" for index in range(_NAMES)):
            try:
                exchange(inbound, "folder", ".door")
            except FileNotFoundError:  # the link went to quarantine/
                _link_again(inbound, target)
            _offer(folder, name, b"%08d" % (number := number + 1))
        return number

    return once


def _link_again(inbound: int, target: str) -> None:
    for name in ("folder", ".door"):
        with contextlib.suppress(FileExistsError):
            os.symlink(target, name, dir_fd=inbound)


def removing(_kind: str, inbound: int, _target: str) -> Round:
    """Each file is removed at another instant after it was offered, between none and two milliseconds."""

    def once(number: int) -> int:
        number += 1
        name = f"race-{number % _NAMES}"
        _offer(inbound, name, b"%08d" % number)
        end = time.monotonic() + number % 41 * 0.00005
        while time.monotonic() < end:
            pass
        _remove(inbound, name)
        return number

    return once


KINDS = {"link": swapping, "like": swapping, "door": doors, "remove": removing}


class Race:
    """One racer that runs; `offered` is known once it is over."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.offered = 0
        self._process = process

    def must_run(self) -> bool:
        """Raises AssertionError when it has ended."""
        assert self._process.poll() is None, f"the racer ended with {self._process.returncode}"
        return True

    def end(self) -> None:
        """It stops, and tells what it has done."""
        self._process.terminate()
        output, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, f"the racer ended with {self._process.returncode}"
        self.offered = int(output)


@contextlib.contextmanager
def racing(kind: str, inbound: Path, target: Path) -> Iterator[Race]:
    """The racer runs meanwhile."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__, kind, str(inbound), str(target)],
        stdout=subprocess.PIPE,
    )
    race = Race(process)
    with process:
        try:
            yield race
            race.end()
        finally:
            process.kill()


def main() -> None:
    kind, inbound, target = sys.argv[1:]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    once = KINDS[kind](kind, os.open(inbound, os.O_RDONLY | os.O_DIRECTORY), target)
    number = 0
    for _ in itertools.takewhile(lambda _turn: not stopped, itertools.count()):
        number = once(number)
    print(number)


if __name__ == "__main__":
    main()
