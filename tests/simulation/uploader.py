"""Uploaders, operators and administrators, as far as they act on files: between any two calls of the daemon."""

from __future__ import annotations

import contextlib
import hashlib
import stat
from dataclasses import dataclass

from simulation.handler import BEHAVIOURS
from simulation.tree import Inode
from simulation.world import World
from support.load import Dropped

ROOT = "/site/main"
INBOUND = f"{ROOT}/inbound"
_TWIN = b"the same in many files"
_FOLDERS = ("", "", "", "sub", "sub/deep")
_MOVED = ("processed", "errors", "outbound", "quarantine")  # what an administrator takes away for a while


@dataclass(eq=False, slots=True)
class Upload:
    """A file that was dropped, as its uploader left it."""

    name: str
    folder: str
    inode: Inode
    content: bytes

    @property
    def manifest(self) -> Dropped:
        return Dropped("main", self.name, hashlib.sha256(self.content).hexdigest(), len(self.content), self.folder)


class Uploader:
    """Keeps the list of what it has not taken back."""

    def __init__(self, world: World) -> None:
        self._world, self._tree = world, world.tree
        self.uploads: list[Upload] = []
        self._taken_back: list[Upload] = []
        self._count = 0
        self._away = ""

    def _now(self) -> int:
        return int(self._world.clock.time() * 1e9)

    def _content(self, arg: int) -> bytes:
        self._count += 1
        if self._world.schedule.duplicates != "process" and arg % 3 == 0:
            return _TWIN
        return b"%d of %d\n" % (self._count, arg) * (1 + arg % 3)

    def drop(self, arg: int) -> None:
        """A file appears complete under its name, by a rename; a name that is taken is replaced."""
        word = BEHAVIOURS[arg % len(BEHAVIOURS)]
        ending = ("csv", "x y", "")[arg // 13 % 3]
        name = f"{word}-{arg // 40 % 4}" + (f".{ending}" if ending else "")
        folder = self._folder(_FOLDERS[arg // 160 % len(_FOLDERS)])
        if folder is None:
            return
        place, content = folder, self._content(arg)
        if content == _TWIN:
            name = f"ok-{arg // 40 % 4}"  # which of several is deleted could not be told
        inode = self._tree.make(self._tree.root, f"upload-{self._count}", stat.S_IFREG | 0o644, self._now())
        inode.data = content
        with contextlib.suppress(OSError):
            at = self._tree.find(f"{INBOUND}/{place}")
            old = at.entries.get(name)
            self._tree.rename((self._tree.root, f"upload-{self._count}"), (at, name), replace=True)
            if old is not None:
                self._forget(old)
            self.uploads.append(Upload(name, place, inode, content))

    def _folder(self, folder: str) -> str | None:
        at, parts = INBOUND, folder.split("/") if folder else []
        with contextlib.suppress(OSError):
            for part in parts:
                parent = self._tree.find(at)
                if part not in parent.entries:
                    self._tree.make(parent, part, stat.S_IFDIR | 0o755, self._now())
                at = f"{at}/{part}"
            return folder
        return None

    def _forget(self, inode: Inode) -> None:
        self._taken_back += [one for one in self.uploads if one.inode is inode]
        self.uploads = [one for one in self.uploads if one.inode is not inode]

    def _in_inbound(self) -> list[Upload]:
        there = {id(inode) for _path, inode in self._tree.below(INBOUND)}
        return [one for one in self.uploads if id(one.inode) in there]

    def meddle(self, arg: int) -> None:
        """Something is done to a file that lies in inbound/; or something strange is put there."""
        mine = self._in_inbound()
        if arg % 8 == 7:
            self._strange(arg // 8)
        elif mine:
            one = mine[arg // 8 % len(mine)]
            places = [path for path, inode in self._tree.below(INBOUND) if inode is one.inode]
            folder, name = self._tree.place(f"{INBOUND}/{places[0]}")
            self._meddle_with(one, folder, name, arg)

    def _meddle_with(self, one: Upload, folder: Inode, name: str, arg: int) -> None:
        what = arg % 8
        if what in (0, 1):
            self._write(one, one.content + self._content(arg))
        elif what == 2:
            self._write(one, self._content(arg))
        elif what == 3:
            self._tree.unlink(folder, name)
            self._forget(one.inode)
        elif what == 4:
            other = f"ok-{arg // 8 % 5}.moved"
            if other not in folder.entries:
                self._tree.rename((folder, name), (folder, other), replace=False)
                self._tree.sync_all()  # two names of it would be two uploads
                one.name = other
        elif what == 5 and folder.number != self._tree.find(INBOUND).number:
            self._rename_folder(folder, arg)
        elif what == 6:  # its number is the next one's, at once
            content = self._content(arg)
            self._tree.unlink(folder, name)
            self._forget(one.inode)
            inode = self._tree.make(folder, name, stat.S_IFREG | 0o644, self._now())
            inode.data = content
            self.uploads.append(Upload(name, one.folder, inode, content))

    def _rename_folder(self, folder: Inode, arg: int) -> None:
        """It has another name now; where it was there may be a link to somewhere else."""
        at, other = self._tree.find(INBOUND), f"renamed-{arg % 3}"
        for name, inode in list(at.entries.items()):
            if inode is folder and other not in at.entries:
                self._tree.rename((at, name), (at, other), replace=False)
                if arg % 16 > 7:
                    self._tree.make(at, name, stat.S_IFLNK | 0o777, self._now(), "/elsewhere")

    def _write(self, one: Upload, content: bytes) -> None:
        one.inode.data = one.content = content
        one.inode.mtime_ns = self._now()

    def _strange(self, arg: int) -> None:
        """A link, a pipe, or a second name."""
        with contextlib.suppress(OSError):
            inbound, name = self._tree.find(INBOUND), f"strange-{arg % 5}"
            if arg % 3 == 0:
                self._tree.make(inbound, name, stat.S_IFLNK | 0o777, self._now(), "/elsewhere")
            elif arg % 3 == 1:
                self._tree.make(inbound, name, stat.S_IFIFO | 0o644, self._now())

    # An administrator

    def away(self, arg: int) -> None:
        """A folder in which files end is moved away, or comes back."""
        self._world.disturbed = True
        if self._away:
            self.back()
            return
        which = _MOVED[arg % len(_MOVED)]
        main = self._tree.find(ROOT)
        self._tree.rename((main, which), (self._tree.root, "away"), replace=False)
        self._tree.sync_all()  # an administrator who is careful
        self._away = which

    @property
    def is_away(self) -> bool:
        """Something is not where it belongs."""
        return bool(self._away)

    def back(self) -> None:
        """Whatever was moved away is where it was."""
        if not self._away:
            return
        main, root = self._tree.find(ROOT), self._tree.root
        if "away" in root.entries and self._away not in main.entries:
            self._tree.rename((root, "away"), (main, self._away), replace=False)
            self._tree.sync_all()
        self._away = ""

    # After a power cut

    def look(self, accepted: list[Inode]) -> None:
        """What was not accepted may be gone, shorter, or back: that is what was uploaded."""
        there = {id(inode) for _path, inode in self._tree.below(ROOT)}
        self.uploads += self._taken_back
        self._taken_back = []
        for one in list(self.uploads):
            if one.inode not in accepted:
                if id(one.inode) in there:
                    one.content = one.inode.data
                else:
                    self._forget(one.inode)
