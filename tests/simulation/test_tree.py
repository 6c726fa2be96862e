"""The simulated file system says what the kernel says: the same calls on a folder of memory, and on the tree."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inboxd.custody import disk
from simulation.calls import Calls, Watch
from simulation.tree import Tree
from support.faults import scale

_names = st.sampled_from(["a", "b", "c", "n" * 255, "n" * 256])
_folders = st.sampled_from(["", "a", "b", "a/b", "c/a"])
_modes = st.sampled_from([
    os.O_RDONLY | os.O_NOFOLLOW, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, os.O_PATH | os.O_NOFOLLOW,
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY,
])  # fmt: skip


class TreeAndKernel(RuleBasedStateMachine):
    """Every call is made twice, and must come to the same."""

    @initialize()
    def begin(self) -> None:
        self.real = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.calls = Calls(Tree(), Watch(), lambda: 0, random.randbytes)
        self.calls.mkdir("/top")

    def teardown(self) -> None:
        if hasattr(self, "real"):
            shutil.rmtree(self.real, ignore_errors=True)

    def both(self, call: Callable[[Any, str, Callable[[int, str, int, str], None]], Any]) -> None:
        ours = _outcome(lambda: call(self.calls, "/top", self.calls.rename_new))
        kernels = _outcome(lambda: call(os, str(self.real), disk.rename_new))
        assert ours == kernels

    @rule(folder=_folders, name=_names, flags=_modes, content=st.binary(max_size=3))
    def open_and_write(self, folder: str, name: str, flags: int, content: bytes) -> None:
        def call(calls: Any, top: str, _rename: Any) -> int | None:
            with _opened(calls, f"{top}/{folder}") as at:
                fd = calls.open(name, flags, 0o644, dir_fd=at)
                try:
                    return calls.write(fd, content) if flags & os.O_WRONLY else None  # type: ignore[no-any-return]
                finally:
                    calls.close(fd)

        self.both(call)

    @rule(folder=_folders, name=_names)
    def read(self, folder: str, name: str) -> None:
        def call(calls: Any, top: str, _rename: Any) -> bytes:
            fd = calls.open(f"{top}/{folder}/{name}", os.O_RDONLY)
            with calls.fdopen(fd, "rb") as stream:
                return stream.read(10)  # type: ignore[no-any-return]

        self.both(call)

    @rule(folder=_folders, name=_names)
    def mkdir(self, folder: str, name: str) -> None:
        self.both(lambda calls, top, _rename: calls.mkdir(f"{top}/{folder}/{name}"))

    @rule(folder=_folders, name=_names, is_folder=st.booleans())
    def remove(self, folder: str, name: str, is_folder: bool) -> None:
        self.both(lambda calls, top, _rename: (calls.rmdir if is_folder else calls.unlink)(f"{top}/{folder}/{name}"))

    @rule(folder=_folders, name=_names, leads=st.sampled_from(["a", "b", "c", "nowhere"]))
    def symlink(self, folder: str, name: str, leads: str) -> None:
        self.both(lambda calls, top, _rename: calls.symlink(leads, f"{top}/{folder}/{name}"))

    @rule(folder=_folders, name=_names, other=_folders, new=_names)
    def link(self, folder: str, name: str, other: str, new: str) -> None:
        self.both(lambda calls, top, _rename: calls.link(f"{top}/{folder}/{name}", f"{top}/{other}/{new}"))

    @rule(folder=_folders, name=_names, other=_folders, new=_names, replace=st.booleans())
    def rename(self, folder: str, name: str, other: str, new: str, replace: bool) -> None:
        def call(calls: Any, top: str, rename_new: Any) -> None:
            with _opened(calls, f"{top}/{folder}") as one, _opened(calls, f"{top}/{other}") as two:
                if replace:
                    calls.rename(name, new, src_dir_fd=one, dst_dir_fd=two)
                else:
                    rename_new(one, name, two, new)

        self.both(call)

    @rule(folder=_folders, name=_names, follow=st.booleans())
    def look(self, folder: str, name: str, follow: bool) -> None:
        self.both(lambda calls, top, _rename: _facts(calls.stat(f"{top}/{folder}/{name}", follow_symlinks=follow)))

    @invariant()
    def the_same_is_there(self) -> None:
        if hasattr(self, "real"):
            self.both(lambda calls, top, _rename: _listed(calls, top))


@contextlib.contextmanager
def _opened(calls: Any, path: str) -> Any:
    fd = calls.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        calls.close(fd)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except OSError as error:
        return error.errno


def _facts(status: os.stat_result) -> tuple[int, int, int]:
    is_folder = stat.S_ISDIR(status.st_mode)
    return stat.S_IFMT(status.st_mode), 0 if is_folder else status.st_nlink, 0 if is_folder else status.st_size


def _listed(calls: Any, folder: str) -> list[Any]:
    found: list[Any] = []
    for name in sorted(calls.listdir(folder)):
        status = calls.lstat(f"{folder}/{name}")
        below = _listed(calls, f"{folder}/{name}") if stat.S_ISDIR(status.st_mode) else None
        found.append((name, _facts(status), below))
    return found


TestTreeAndKernel = TreeAndKernel.TestCase
TestTreeAndKernel.settings = settings(
    max_examples=scale(60, 3000), stateful_step_count=25, deadline=None, derandomize=True, database=None
)


def _disk(model: str) -> tuple[Tree, Calls]:
    tree = Tree(model)
    calls = Calls(tree, Watch(), lambda: 0, random.randbytes)
    calls.mkdir("/from")
    calls.mkdir("/to")
    tree.sync_all()
    return tree, calls


def _put(calls: Calls, path: str, content: bytes) -> int:
    fd = calls.open(path, os.O_WRONLY | os.O_CREAT)
    calls.write(fd, content)
    return fd


def _after_a_cut(model: str, prepare: Callable[[Tree, Calls], None]) -> set[tuple[tuple[str, bytes], ...]]:
    """All that may be there afterwards."""
    seen = set()
    for seed in range(200):
        tree, calls = _disk(model)
        prepare(tree, calls)
        tree.cut_power(random.Random(seed))
        seen.add(tuple(sorted((path, inode.data) for path, inode in tree.below("/"))))
    return seen


def test_what_is_synced_survives_a_power_cut() -> None:
    def prepare(tree: Tree, calls: Calls) -> None:
        calls.fsync(_put(calls, "/from/x", b"all"))
        calls.fsync(calls.open("/from", os.O_RDONLY))

    assert all(_after_a_cut(model, prepare) == {(("from/x", b"all"),)} for model in ("ordered", "subset"))


def test_what_is_not_synced_may_be_gone_torn_or_zeros() -> None:
    seen = _after_a_cut("ordered", lambda tree, calls: _put(calls, "/from/x", b"all") and None)
    assert {(), (("from/x", b"all"),), (("from/x", b""),), (("from/x", b"al"),), (("from/x", b"a\0\0"),)} <= seen


def test_a_rename_that_is_not_synced_leaves_the_old_name_the_new_one_or_both() -> None:
    def prepare(tree: Tree, calls: Calls) -> None:
        _put(calls, "/from/x", b"all")
        tree.sync_all()
        calls.rename("/from/x", "/to/x")

    old, new = (("from/x", b"all"),), (("to/x", b"all"),)
    assert _after_a_cut("ordered", prepare) == {old, new}
    assert _after_a_cut("subset", prepare) == {old, new, (*old, *new)}


def test_a_synced_folder_keeps_its_side_of_a_rename_alone() -> None:
    def prepare(tree: Tree, calls: Calls) -> None:
        _put(calls, "/from/x", b"all")
        tree.sync_all()
        calls.rename("/from/x", "/to/x")
        calls.fsync(calls.open("/to", os.O_RDONLY))

    new = (("to/x", b"all"),)
    assert _after_a_cut("ordered", prepare) == {new}
    assert _after_a_cut("subset", prepare) == {new, (("from/x", b"all"), *new)}
