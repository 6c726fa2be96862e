"""Reaching folders and entries below a root without ever following a symbolic link (openat(2), O_NOFOLLOW)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def look(folder_fd: int, name: str) -> os.stat_result | None:
    """lstat(2) of an entry, or None when there is none."""
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_folder(root: Path, relative: str = "", *, make: bool = False) -> int:
    """A descriptor of `relative` below `root`, each component without following a link.

    `make` makes what is missing (mode 0777 less the umask), durably. Raises OSError: ENOTDIR or ELOOP where a link
    stands, ENOENT where nothing does.
    """
    fd = os.open(root, FOLDER)
    for part in relative.split("/") if relative else ():
        fd = _step(fd, part, make)
    return fd


def _step(parent: int, part: str, make: bool) -> int:
    try:
        if make and look(parent, part) is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=parent)
                os.fsync(parent)
        return os.open(part, FOLDER, dir_fd=parent)
    finally:
        os.close(parent)


@contextlib.contextmanager
def opened(root: Path, relative: str = "", *, make: bool = False) -> Iterator[int]:
    """`open_folder`, closed at the end."""
    fd = open_folder(root, relative, make=make)
    try:
        yield fd
    finally:
        os.close(fd)
