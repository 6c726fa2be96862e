"""What folders on other machines have in common: paths, versions, and what happens to an item that we have."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from inboxd.fetch.errors import Away, Gone, Refused, RemoteError, Unfit
from inboxd.fetch.part import Part
from inboxd.wire import OrderedItem

DEEPEST = 16  # folders below folders that are looked into
_NUMBERS = 99
_LONGEST_NAME = 255  # bytes, what file systems take


class Seen(NamedTuple):
    """One name in a folder, or what it stands for."""

    name: str
    is_file: bool
    is_folder: bool
    size: int
    version: str


class Looking(Protocol):
    """A session with a machine that has files."""

    def look(self, path: str) -> Seen:
        """What is there. Raises Gone."""


def is_plain(name: str) -> bool:
    """Whether it names something in its folder, and nothing elsewhere."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def check_name(name: str) -> None:
    """Raises Unfit for the name of an item or result that leads out of its folder."""
    if not all(map(is_plain, name.split("/"))):
        raise Unfit(f"{name!r} is no path below the folder")


def join(path: str, name: str) -> str:
    """Where the item or result of that name is. Raises Unfit for one that would lead out of `path`."""
    check_name(name)
    return posixpath.join(path, name)


def version_of(size: object, changed: object) -> str:
    """Tells one content of a file from the next, where there is nothing better."""
    return f"{size}-{changed}"


def size_of(digits: str) -> int:
    """What they say; 1 << 63, which is no size, for more of them than any has (int() itself refuses thousands)."""
    return int(digits) if len(digits) < 20 else 1 << 63


def start(part: Part, version: str, size: int | None) -> int:
    """Where to go on from: what an earlier try has of this version stays, anything else goes."""
    if part.validator != version or (size is not None and part.size > size):
        part.restart(version)
    return part.size


def check_version(found: str, item: OrderedItem) -> None:
    """Raises Unfit when the item is not the one that was listed."""
    if found != item.version:
        raise Unfit(f"it has changed: version {item.version} was listed, {found} is there; the next poll lists it anew")


def check_whole(part: Part, size: int, where: str) -> None:
    """After a transfer that ended in good order. Raises Away when the rest may come next time, Unfit when it won't.

    A file that has less than is said of it must be charged for that: its source would rest for ever, with all others.
    """
    if part.size < size and part.size > part.resumed:
        raise Away(f"{where} ended it after {part.size} of {size} bytes")
    if (count := part.size) < size:
        part.restart("")
        raise Unfit(f"{where} says that it has {size} bytes, and gives no more than {count}")


def expected(session: Looking, path: str, item: OrderedItem) -> Seen:
    """What is there, if it is what was listed. Raises Gone, Unfit."""
    seen = session.look(path)
    if not seen.is_file:
        raise Unfit("it is no regular file any more")
    check_version(seen.version, item)
    return seen


def is_there(session: Looking, path: str) -> bool:
    """Something of that name is."""
    try:
        session.look(path)
    except Gone:
        return False
    return True


@contextlib.contextmanager
def gone_for_sure(session: Looking, path: str) -> Iterator[None]:
    """Servers say of much that it is not there. Raises Unfit for Gone when a second look finds the file there."""
    try:
        yield
    except Gone as error:
        if is_there(session, path):
            raise Unfit(f"it is still there ({error})") from error
        raise


def move_target(place: dict[str, Any]) -> str:
    """The folder that items are moved to when we have them, "" for none. A relative one is below the source's."""
    after = place["after"]
    return posixpath.join(place["path"], after["move"]).rstrip("/") if isinstance(after, dict) else ""


def free_names(item: OrderedItem) -> Iterator[str]:
    """Names to move it under, until one is free: a.csv, a.1.csv … and at last one with the end of our id."""
    name = posixpath.basename(item.item)
    yield name
    stem, dot, ending = name.rpartition(".")
    stem, dot, ending = (stem, dot, ending) if stem else (name, "", "")
    for number in range(1, _NUMBERS + 1):
        yield f"{stem}.{number}{dot}{ending}"
    yield f"{stem}.{item.id[-8:]}{dot}{ending}"


def temporary_name(name: str, id: str) -> str:
    """What a result is called until it is whole: in its folder, the same at every try, as long as a name may be."""
    ending = f".{id}.part"
    kept = os.fsencode(posixpath.basename(name))[: _LONGEST_NAME - 1 - len(ending)]
    return f".{os.fsdecode(kept)}{ending}"


def parents(folder: str) -> Iterator[str]:
    """The folder and all above it but the root, the highest first."""
    parts = [part for part in folder.split("/") if part]
    lead = "/" if folder.startswith("/") else ""
    for count in range(1, len(parts) + 1):
        yield lead + "/".join(parts[:count])


@contextlib.contextmanager
def of_the_listing(where: str, what_to_do: str) -> Iterator[None]:
    """What is wrong with a folder is wrong with the source: Gone and Unfit become Refused."""
    try:
        yield
    except (Gone, Unfit) as error:
        raise Refused(f"{where} can't be listed: {error}; {what_to_do}") from error


def named(error: RemoteError, item: str) -> RemoteError:
    """The same, with the item's name in front."""
    return type(error)(f"{item}: {error}", after=error.after)
