"""A file system in memory: inodes, names, and which of it would be there after a power cut.

What POSIX says of names and errors is here; what a descriptor is, in calls.py. Two models of a disk:

- `ordered`, as ext4 and XFS journal: changes of names become durable in their order; an fsync makes durable all that
  came before the last change of what it names.
- `subset`, the harshest that the daemon's promise allows: each change of a name is durable or not, by itself, until its
  folder is synced. A rename may leave both names, but of a folder; "neither" does not happen: no disk in use does that,
  nor with an rmdir that is durable before the rename out of that folder (both change it, and a journal orders them).

The bytes of a file that was not synced may be all there, cut off anywhere, or read as zeros.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

DEV = 7
_HOPS = 8  # symbolic links followed


@dataclass(eq=False, slots=True)
class Inode:
    """A file, folder, link or pipe. `kept…`: what is durable of it."""

    number: int
    mode: int
    mtime_ns: int = 0
    links: int = 0
    opens: int = 0
    kept_links: int = 0
    data: bytes = b""
    target: str = ""
    entries: dict[str, Inode] = field(default_factory=dict)
    kept_data: bytes | None = None  # None: never synced
    kept_entries: dict[str, Inode] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    def status(self) -> os.stat_result:
        size = len(self.target) if stat.S_ISLNK(self.mode) else len(self.data)
        links = 2 if self.is_folder else self.links
        seconds = self.mtime_ns // 1_000_000_000
        plain = (self.mode, self.number, DEV, links, 0, 0, size, seconds, seconds, seconds)
        return os.stat_result(plain, {"st_mtime_ns": self.mtime_ns, "st_mtime": self.mtime_ns / 1e9})


@dataclass(frozen=True, slots=True)
class Change:
    """One name of one folder has another inode now, or none."""

    folder: Inode
    name: str
    inode: Inode | None
    subject: Inode  # what was linked, unlinked or renamed


def fail(number: int, *names: object) -> OSError:
    """The error that the kernel would give."""
    return OSError(number, os.strerror(number), *names)


class Tree:
    """All there is on one disk."""

    def __init__(self, model: str = "ordered") -> None:
        self.model = model
        self._log: list[tuple[Change, ...]] = []  # not yet durable; each tuple is one call
        self._free: list[int] = []
        self._next = 2
        self._numbered: dict[int, Inode] = {}
        self.root = self._new(stat.S_IFDIR | 0o755, 0)
        self.root.links = self.root.kept_links = 1

    def _new(self, mode: int, now_ns: int) -> Inode:
        """The lowest number that is free, as ext4 takes it: a successor often has the number of what was there."""
        number = heapq.heappop(self._free) if self._free else self._next
        self._next = max(self._next, number + 1)
        inode = self._numbered[number] = Inode(number, mode, now_ns)
        return inode

    def release(self, inode: Inode) -> None:
        """Its number may be another's, when nothing leads to it any more."""
        used = inode.links or inode.opens or inode.kept_links or self._may_come_back(inode)
        if not used and self._numbered.get(inode.number) is inode:
            del self._numbered[inode.number]
            heapq.heappush(self._free, inode.number)

    def _may_come_back(self, inode: Inode) -> bool:
        """A power cut may leave a name of it still. No disk gives a number to two files that may both be there then."""
        return self.model == "subset" and any(one.subject is inode for call in self._log for one in call)

    # Finding

    def find(self, path: str, start: Inode | None = None, *, follow: bool = True, hops: int = _HOPS) -> Inode:
        """The inode that a path leads to. Raises ENOENT, ENOTDIR, ELOOP."""
        folder, name = self.place(path, start, hops=hops)
        if not name:
            return folder
        inode = folder.entries.get(name)
        if inode is None:
            raise fail(errno.ENOENT, path)
        if stat.S_ISLNK(inode.mode) and (follow or path.endswith("/")):
            if hops == 0:
                raise fail(errno.ELOOP, path)
            return self.find(inode.target, folder, hops=hops - 1)
        return inode

    def place(self, path: str, start: Inode | None = None, *, hops: int = _HOPS) -> tuple[Inode, str]:
        """The folder that the last component is in, and that component; "" where the path is a folder's own."""
        if not path:
            raise fail(errno.ENOENT, path)
        at = self.root if path.startswith("/") or start is None else start
        parts = [part for part in path.split("/") if part and part != "."]
        for part in parts[:-1]:
            at = self._step(at, part, path, hops)
        if not at.is_folder:
            raise fail(errno.ENOTDIR, path)
        if parts:
            _check(parts[-1])
        return at, parts[-1] if parts else ""

    def _step(self, at: Inode, part: str, path: str, hops: int) -> Inode:
        if not at.is_folder:
            raise fail(errno.ENOTDIR, path)
        _check(part)
        inode = at.entries.get(part)
        if inode is None:
            raise fail(errno.ENOENT, path)
        if stat.S_ISLNK(inode.mode):
            if hops == 0:
                raise fail(errno.ELOOP, path)
            return self.find(inode.target, at, hops=hops - 1)
        return inode

    def below(self, path: str) -> Iterator[tuple[str, Inode]]:
        """Every entry that is no folder, as a path relative to `path`, sorted."""
        try:
            top = self.find(path)
        except OSError:
            return
        stack = [("", top)]
        while stack:
            prefix, folder = stack.pop()
            for name, inode in sorted(folder.entries.items()):
                if inode.is_folder:
                    stack.append((f"{prefix}{name}/", inode))
                else:
                    yield prefix + name, inode

    # Changing

    def _change(self, *changes: Change) -> None:
        gone = []
        for one in changes:
            old = one.folder.entries.pop(one.name, None)
            if old is not None:
                old.links -= 1
                gone.append(old)
            if one.inode is not None:
                one.folder.entries[one.name] = one.inode
                one.inode.links += 1
        self._log.append(changes)
        for old in gone:
            self.release(old)

    def make(self, folder: Inode, name: str, mode: int, now_ns: int, target: str = "") -> Inode:
        """A new inode under a new name."""
        if name in folder.entries:
            raise fail(errno.EEXIST, name)
        if not folder.links:
            raise fail(errno.ENOENT, name)
        inode = self._new(mode, now_ns)
        inode.target = target
        self._change(Change(folder, name, inode, inode))
        return inode

    def link(self, inode: Inode, folder: Inode, name: str) -> None:
        """Another name."""
        if name in folder.entries:
            raise fail(errno.EEXIST, name)
        if inode.is_folder:
            raise fail(errno.EPERM, name)
        self._change(Change(folder, name, inode, inode))

    def unlink(self, folder: Inode, name: str, *, is_folder: bool = False) -> None:
        """unlink(2), or rmdir(2)."""
        inode = folder.entries.get(name)
        if inode is None:
            raise fail(errno.ENOENT, name)
        if inode.is_folder != is_folder:
            raise fail(errno.ENOTDIR if is_folder else errno.EISDIR, name)
        if is_folder and inode.entries:
            raise fail(errno.ENOTEMPTY, name)
        self._change(Change(folder, name, None, inode))

    def rename(self, source: tuple[Inode, str], target: tuple[Inode, str], *, replace: bool) -> None:
        """rename(2); without `replace`, renameat2(2) with RENAME_NOREPLACE."""
        (from_folder, from_name), (to_folder, to_name) = source, target
        inode, old = from_folder.entries.get(from_name), to_folder.entries.get(to_name)
        if inode is None:
            raise fail(errno.ENOENT, from_name, None, to_name)
        if old is not None and not replace:
            raise fail(errno.EEXIST, from_name, None, to_name)
        if not to_folder.links:
            raise fail(errno.ENOENT, from_name, None, to_name)
        if inode.is_folder and self._holds(inode, to_folder):
            raise fail(errno.EINVAL, from_name, None, to_name)
        if old is inode:
            return
        if old is not None:
            self._refuse_replacing(inode, old, to_folder)
        self._change(Change(from_folder, from_name, None, inode), Change(to_folder, to_name, inode, inode))

    def _refuse_replacing(self, inode: Inode, old: Inode, to_folder: Inode) -> None:
        if old.is_folder and not inode.is_folder:
            raise fail(errno.EISDIR)
        if inode.is_folder and not old.is_folder:
            raise fail(errno.ENOTDIR)
        if old.is_folder and old.entries:
            raise fail(errno.ENOTEMPTY)

    def _holds(self, folder: Inode, other: Inode) -> bool:
        return folder is other or any(self._holds(one, other) for one in folder.entries.values() if one.is_folder)

    # Becoming durable

    def sync(self, inode: Inode) -> None:
        """fsync(2)."""
        if inode.is_file:
            inode.kept_data = inode.data
        if self.model == "ordered":
            last = max((at for at, call in enumerate(self._log) if _touches(call, inode)), default=-1)
            self._settle(self._log[: last + 1])
            del self._log[: last + 1]
        elif inode.is_folder:
            mine, rest = self._split_log(inode)
            self._log = [call for call in rest if call]
            self._settle(mine)

    def _split_log(self, folder: Inode) -> tuple[list[tuple[Change, ...]], list[tuple[Change, ...]]]:
        """What a sync of the folder makes durable, and what it does not. Who forgets an old name knows the new one; and of
        a name whose change is durable, no earlier change comes after.
        """
        mine, rest = [], []
        names: set[tuple[int, str]] = set()
        for call in reversed(self._log):
            taken = [one for one in call if one.folder is folder or (id(one.folder), one.name) in names]
            if any(one.inode is None for one in taken):
                taken = list(call)
            names.update((id(one.folder), one.name) for one in taken)
            mine.append(tuple(taken))
            rest.append(tuple(one for one in call if one not in taken))
        return mine[::-1], rest[::-1]

    def sync_all(self) -> None:
        """syncfs(2); what the kernel does by itself now and then."""
        log, self._log = self._log, []
        self._settle(log)
        for inode in self._numbered.values():
            inode.kept_data = inode.data

    def _settle(self, calls: list[tuple[Change, ...]]) -> None:
        gone = []
        for change in (one for call in calls for one in call):
            old = change.folder.kept_entries.pop(change.name, None)
            if old is not None:
                old.kept_links -= 1
                gone.append(old)
            if change.inode is not None:
                change.folder.kept_entries[change.name] = change.inode
                change.inode.kept_links += 1
        gone += [one.subject for call in calls for one in call]
        for old in gone:
            self.release(old)

    def cut_power(self, chance: random.Random) -> None:
        """Only what is durable is left, and any of what was not yet, as the model has it. Nothing is open any more."""
        wanted = set(self._reachable("entries"))
        before = self._reachable("kept_entries")
        homes = [(folder, name, inode) for folder in before.values() for name, inode in folder.kept_entries.items()]
        if self.model == "ordered":
            self._settle(self._log[: chance.randint(0, len(self._log))])
        else:
            self._settle(_some(self._log, chance))
        after = self._reachable("kept_entries")
        strays = {id(inode) for inode in self.root.kept_entries.values() if inode.is_file}  # old names of uploads
        after = {number: inode for number, inode in after.items() if number not in strays or inode.kept_links > 1}
        for folder, _name, inode in reversed(homes):  # nor is a folder gone for good before what was moved out of it
            if id(inode) in wanted and id(inode) not in after:
                wanted.add(id(folder))
        for folder, name, inode in homes:  # a rename leaves the old name, the new one or both: never neither
            if (
                id(inode) in wanted
                and id(inode) not in after
                and id(folder) in after
                and name not in folder.kept_entries
            ):
                folder.kept_entries[name] = inode
                after |= self._reachable("kept_entries", inode)
        self._log = []
        self._leave_one_name()
        self._begin_from(self._reachable("kept_entries"), chance)

    def _leave_one_name(self) -> None:
        """Of a folder. All journals have the rename of one as a whole (Pillai et al., All File Systems Are Not Created
        Equal, OSDI 2014, table 1), and where there is no journal, e2fsck(8) removes the second name.
        """
        there = self._reachable("kept_entries").values()
        names = Counter(id(inode) for folder in there for inode in folder.kept_entries.values())
        for folder in there:
            for name, inode in list(folder.kept_entries.items()):
                if inode.is_folder and names[id(inode)] > 1 and folder.entries.get(name) is not inode:
                    del folder.kept_entries[name]
                    names[id(inode)] -= 1

    def _reachable(self, names: str, top: Inode | None = None) -> dict[int, Inode]:
        found: dict[int, Inode] = {}
        stack = [top or self.root]
        while stack:
            inode = stack.pop()
            if id(inode) not in found:
                found[id(inode)] = inode
                stack += getattr(inode, names).values()
        return found

    def _begin_from(self, after: dict[int, Inode], chance: random.Random) -> None:
        for inode in after.values():
            inode.links = inode.kept_links = 0
        for inode in after.values():
            inode.opens = 0
            inode.entries = dict(inode.kept_entries)
            for one in inode.entries.values():
                one.links += 1
                one.kept_links += 1
            if inode.is_file and inode.data != inode.kept_data:
                inode.data = _torn(inode.kept_data or b"", inode.data, chance)
            inode.kept_data = inode.data
        self.root.links = self.root.kept_links = 1
        self._numbered = {inode.number: inode for inode in after.values()}
        self._free = sorted(set(range(2, self._next)) - self._numbered.keys())


def _check(name: str) -> None:
    if len(os.fsencode(name)) > 255:
        raise fail(errno.ENAMETOOLONG, name)


def _touches(call: tuple[Change, ...], inode: Inode) -> bool:
    return any(inode in (one.folder, one.subject) for one in call)


def _some(log: list[tuple[Change, ...]], chance: random.Random) -> list[tuple[Change, ...]]:
    """For every name, its first changes up to any of them; or, so that the ordinary is seen as well, all or nothing."""
    mood = chance.randrange(4)
    if mood < 2:
        return log if mood else []
    changes = [one for call in log for one in call]
    upto = {(id(one.folder), one.name): chance.random() for one in changes}
    seen: dict[tuple[int, str], int] = {}
    count: dict[tuple[int, str], int] = {}
    for one in changes:
        count[id(one.folder), one.name] = count.get((id(one.folder), one.name), 0) + 1
    kept = []
    for one in changes:
        key = (id(one.folder), one.name)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= round(upto[key] * count[key]):
            kept.append((one,))
    return kept


def _torn(old: bytes, new: bytes, chance: random.Random) -> bytes:
    """What a file may hold that was written to and not synced."""
    cut = chance.randint(0, len(new))
    return chance.choice([old, new, new[:cut], new[:cut] + bytes(len(new) - cut)])
