"""No folder serves two purposes, or lies in one that does, whatever its path says: links and mounts are looked through.

What the paths say by themselves is refused before (config/rules.py), by the same rule of what is harmless.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inboxd.beneath import identity_of
from inboxd.config.models import FOLDERS, Config
from inboxd.intake import mounts

_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Folder(NamedTuple):
    """A folder that has a purpose; `inbox` is "" for the state."""

    path: Path
    purpose: str
    inbox: str
    takes_inbounds: bool  # an inbound that is not looked through below its own level


def problems(config: Config) -> Iterator[str]:
    """All folders must be there. Raises OSError."""
    folders = list(_folders(config))
    by_inode: dict[tuple[int, int], Folder] = {}
    for folder in folders:
        found = os.stat(folder.path)
        other = by_inode.setdefault((found.st_dev, found.st_ino), folder)
        if other is not folder:
            yield f"{folder.path} is {folder.purpose} and {other.purpose} at once; give each its own folder"
    known = mounts.mounts()
    places = [mounts.place_of(folder.path, known) for folder in folders]
    by_place = dict(zip(places, folders, strict=True))
    told = set()  # a root in the wrong place clashes seven times
    for inner, place in zip(folders, places, strict=True):
        around = [by_inode.get(above) for above in _above(inner.path)]
        if place is not None:
            around += [by_place.get((place[0], parent)) for parent in place[1].parents]
        for outer in around:
            if outer and not (outer.takes_inbounds and inner.takes_inbounds) and (outer, inner.inbox) not in told:
                told.add((outer, inner.inbox))
                yield _told(outer, inner)


def _folders(config: Config) -> Iterator[Folder]:
    yield Folder(config.state, "state", "", takes_inbounds=False)
    for name, inbox in config.inboxes.items():
        for which in FOLDERS:
            flat = which == "inbound" and not inbox.recursive
            yield Folder(inbox.folder(which), f"{which} of inbox {name}", name, flat)


def _above(folder: Path) -> list[tuple[int, int]]:
    """The folders that it really lies in, up to the root: a link that leads to it is none of them."""
    found = []
    fd = os.open(folder, _HANDLE)
    try:
        here = identity_of(fd)
        with contextlib.suppress(PermissionError):  # no path of ours leads through what is closed to us
            while True:
                up = os.open("..", _HANDLE, dir_fd=fd)
                os.close(fd)
                fd, below, here = up, here, identity_of(up)
                if here == below:  # the root is its own parent
                    break
                found.append((here.dev, here.ino))
    finally:
        os.close(fd)
    return found


def _told(outer: Folder, inner: Folder) -> str:
    return (
        f"{inner.path} ({inner.purpose}) lies inside {outer.path} ({outer.purpose}), by a link or a mount; "
        "move one of the two"
    )
