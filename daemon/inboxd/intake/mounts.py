"""Which mount a folder is on, and whether that is a network (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inboxd.beneath import Identity, identity_of, mount_id, opened

#: File systems that tell this machine nothing of what others do to their files.
_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "9p",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.gcsfuse",
        "fuse.cephfs",
        "davfs",
        "fuse.davfs2",
        "vboxsf",
        "prl_fs",
        "vmhgfs",
        "fuse.vmhgfs-fuse",
        "beegfs",
        "gpfs",
        "orangefs",
    ]
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    id: int
    point: str
    kind: str
    device: str  # of the file system
    root: str  # what of the file system is here


def _unescape(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def mounts() -> list[Mount]:
    """All mounts this process sees, in the order they were made."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields = left.split(" ")
            root, point = (_unescape(field) if "\\" in field else field for field in fields[3:5])
            found.append(Mount(int(fields[0]), point, right.split(" ", 1)[0], fields[2], root))
    return found


def mount_of(path: Path, among: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that `path` is on: the one that the kernel names for a descriptor (proc_pid_fdinfo(5), mnt_id).

    `among`: those that there are, where many are asked for.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        number = mount_id(fd)
    finally:
        os.close(fd)
    return next((mount for mount in (mounts() if among is None else among) if mount.id == number), None)


def place_of(path: Path, among: Sequence[Mount]) -> tuple[str, Path] | None:
    """The device, and the path in its file system: the same by whichever mount of it `path` is reached.

    None where that is not known: NFS calls the root of every mount "/", whatever of its volume is mounted there.
    """
    real, mount = Path(os.path.realpath(path)), mount_of(path, among)
    if mount is None or mount.kind in _NETWORK or not real.is_relative_to(mount.point):
        return None
    return mount.device, Path(mount.root) / real.relative_to(mount.point)


def identify(root: Path) -> Identity:
    """Raises OSError when there is no folder, or a link to one."""
    with opened(root) as fd:
        return identity_of(fd)


def why_away(root: Path, known: Identity | None) -> str:
    """Why `root` is not the folder we know, nor a new one made in its place; "" when it is."""
    try:
        kind = os.lstat(root).st_mode
        if not stat.S_ISDIR(kind):
            return "it is a symbolic link now" if stat.S_ISLNK(kind) else "it is no folder now"
        if not os.access(root, os.R_OK | os.X_OK):
            return "it may not be read"
        found = identify(root)
    except OSError as error:
        return error.strerror or str(error)
    if known is None or (found.dev, found.ino) == (known.dev, known.ino):
        return ""
    return "" if (found.dev, found.mount) == (known.dev, known.mount) else "another file system is in its place"


def same_mount(one: Path, other: Path) -> bool:
    """A rename between the two can work: same device and same mount (bind mounts of one file system are two)."""
    if os.stat(one).st_dev != os.stat(other).st_dev:
        return False
    return mount_of(one) == mount_of(other)


def network_kind(path: Path) -> str:
    """The kind of network file system that `path` is on; "" on a local one."""
    mount = mount_of(path)
    return mount.kind if mount is not None and mount.kind in _NETWORK else ""


def is_network(path: Path) -> bool:
    """Others may change files there without our kernel knowing."""
    return bool(network_kind(path))
