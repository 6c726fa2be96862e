"""Disks of a test's own: small, mounted where it wants them, and gone when it ends.

    with Disk(folder, point, "ext4") as disk:
        ...
        disk.cut_power()     # what was not synced is gone; whoever writes now gets EIO
        disk.restart()       # mounted anew, its journal replayed

What `cut_power` leaves is what the kernel had handed to the device: a device that loses what it has acknowledged as flushed
is no part of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from itertools import count
from pathlib import Path

from support.wait import wait_until

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h)
_NO_LOG_FLUSH = 2  # ..._FLAGS_NOLOGFLUSH: nothing more of the journal is written

#: How each kind is made, and how large it has to be at least.
_KINDS = {
    "ext4": (("mkfs.ext4", "-q", "-F"), "64M"),
    "xfs": (("mkfs.xfs", "-q"), "300M"),
    "btrfs": (("mkfs.btrfs", "-q", "--mixed"), "128M"),
}

#: For sh(1), in a mount namespace of its own: let go of other tests' disks, which would not end before it does. `$mine`:
#: where its own is mounted, if it has one.
LET_GO = """
awk -v mine="${mine:-}" '$(NF-1) ~ "^/dev/loop" && $5 != mine {print $5}' /proc/self/mountinfo |
    while read -r point; do umount --lazy "$point"; done
"""


class Disk:
    """A file system in a file, mounted at `point`. A context manager: unmounts, whatever happened."""

    def __init__(self, folder: Path, point: Path, kind: str = "ext4", size: str = "") -> None:
        """`folder`: where the file lies. `size`: as truncate(1) has it; as small as the kind allows unless given."""
        assert os.geteuid() == 0, "mounts are made by root: run this test as root"
        self.point = point
        self._image = folder / f"{point.name}.{kind}"
        make, least = _KINDS[kind]
        _run("truncate", "-s", size or least, self._image)
        _run(*make, self._image)
        point.mkdir(parents=True, exist_ok=True)
        self._mount()

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *_: object) -> None:
        while os.path.ismount(self.point):
            _run("umount", "--lazy", self.point)
        self._image.unlink()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.point)

    def cut_power(self) -> None:
        """From here on nothing reaches the disk, and what has not reached it is lost."""
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def turn_read_only(self) -> None:
        """An error that the kernel finds, with errors=remount-ro (ext4(5)); until `restart`."""
        _run("mount", "-o", "remount,errors=remount-ro", self.point)
        device = os.stat(self.point).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        Path("/sys/fs/ext4", name, "trigger_fs_error").write_text("inboxd's tests")

    def restart(self) -> None:
        """Once nobody has a file of it open any more: as the machine finds it when the power is back."""
        wait_until(lambda: not subprocess.run(["umount", str(self.point)], check=False).returncode, "all to let go")
        wait_until(lambda: not self._loops(), "the kernel to let go")  # else it is the old one that is mounted
        self._mount()

    def _loops(self) -> str:
        """Devices that the file is behind."""
        listed = subprocess.run(["losetup", "--associated", str(self._image)], check=True, capture_output=True)
        return listed.stdout.decode()


def limit(subvolume: Path, size: str) -> None:
    """Make a subvolume of a btrfs, and give it a quota: what is above is refused with EDQUOT (btrfs-qgroup(8))."""
    _run("btrfs", "quota", "enable", subvolume.parent)
    _run("btrfs", "-q", "subvolume", "create", subvolume)
    _run("btrfs", "qgroup", "limit", size, subvolume)


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)


class Room:
    """How much of a mount is left: taken up, and given back, without its users' doing."""

    def __init__(self, point: Path) -> None:
        self._ballast = point / ".ballast"
        self._ballast.mkdir(mode=0o700, exist_ok=True)

    def fill(self, all_but: int = 0) -> None:
        """To the last byte, or so that so many are left."""
        with contextlib.suppress(OSError), open(self._ballast / "rest", "wb", buffering=0) as rest:
            rest.write(bytes(all_but))
        for size in (1 << 20, 1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError), open(self._ballast / f"bytes-{size}", "wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(size))
        (self._ballast / "rest").unlink()

    def fill_inodes(self, all_but: int = 0) -> None:
        """To the last inode, or so that so many are left."""
        made = []
        with contextlib.suppress(OSError):
            for number in count():
                made.append(self._ballast / f"inode-{number}")
                made[-1].touch()
        for one in made[: all_but + 1 if all_but else 0]:
            one.unlink(missing_ok=True)

    def free(self) -> None:
        """All of it again."""
        for one in list(self._ballast.iterdir()):
            one.unlink()


class Tmpfs:
    """A small disk in memory. A context manager: unmounts, whatever happened."""

    def __init__(self, point: Path, *options: str) -> None:
        """`options`: `size=4m`, `nr_inodes=200`, … (tmpfs(5))."""
        assert os.geteuid() == 0, "mounts are made by root: run this test as root"
        self.point = point
        point.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", ",".join(("mode=0755", *options)), "tmpfs", point)

    def __enter__(self) -> Tmpfs:
        return self

    def __exit__(self, *_: object) -> None:
        while os.path.ismount(self.point):
            _run("umount", "--lazy", self.point)

    def read_only(self, *, on: bool) -> None:
        """For all that is on it."""
        _run("mount", "-o", f"remount,{'ro' if on else 'rw'}", self.point)
