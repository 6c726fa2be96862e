"""The handler that the simulated workers run, and all that it has seen: a file's name says how it behaves."""

from __future__ import annotations

import hashlib
import stat
from typing import Any

from inboxd.model import Ending, Report, copy_name
from inboxd.wire import OrderedFile
from simulation.tree import Inode
from simulation.world import Violation, World

#: First word of a name -> how its runs end.
BEHAVIOURS = (
    "ok",
    "ok",
    "ok",
    "results",
    "fail",
    "once",
    "twice",
    "reject",
    "retry",
    "crash",
    "slow",
    "delete",
    "away",
)
_TIMES = {"once": 1, "twice": 2}


class Handler:
    """Runs in no process; works on the tree directly, and fails at nothing that it does."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.witness: list[dict[str, Any]] = []
        self.accepted: dict[str, bytes] = {}  # what each file held when it was accepted
        self.ended: set[str] = set()  # ids whose outcome is committed
        self._away: set[str] = set()

    def _note(self, what: str, file: OrderedFile, **more: Any) -> None:
        self._world.note(f"handler: {what} {file.name} ({file.id[-8:]}), attempt {file.attempt} {more or ''}")
        self.witness.append({
            "what": what, "id": file.id, "inbox": "main", "name": file.name, "attempt": file.attempt, "at": 0.0,
            "sha256": hashlib.sha256(self.accepted.get(file.id, b"")).hexdigest(), **more,
        })  # fmt: skip

    def _content(self, file: OrderedFile) -> bytes | None:
        """None where a run before has removed it, and nobody has heard of that."""
        try:
            return self._world.tree.find(file.path, follow=False).data
        except OSError:
            if file.name.startswith("delete"):
                return None
            raise Violation(f"the handler got {file.path}, which is not there") from None

    def begin(self, file: OrderedFile, batch: str) -> None:
        """It hears of a file."""
        if file.id in self.ended:
            raise Violation(f"{file.id} ({file.name}) is run after its outcome was recorded")
        if self._behaviour(file) != "away":
            self._note("start", file, batch=batch)
        if self._content(file) not in (None, self.accepted.get(file.id)):
            raise Violation(f"{file.id} ({file.name}) holds other bytes than were accepted")

    def _behaviour(self, file: OrderedFile) -> str:
        word = file.name.partition("-")[0]
        if word == "away" and file.id in self._away:
            return "ok"
        if word in _TIMES:
            return "fail" if file.attempt <= _TIMES[word] else "ok"
        return word

    def finish(self, file: OrderedFile) -> Report:
        """It has done with a file."""
        how = self._behaviour(file)
        if how == "away":
            self._away.add(file.id)
            return Report(file.id, Ending.UNAVAILABLE, message="its database is away", begun=False)
        report = getattr(self, f"_{how}", self._ok)(file)
        ending = "ok" if report.ending is Ending.PROCESSED else str(report.ending)
        self._note("end", file, ending=ending)
        return report  # type: ignore[no-any-return]

    def _ok(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.PROCESSED, seconds=0.1)

    def _results(self, file: OrderedFile) -> Report:
        """Two results, one of them in a folder; nothing of a run before is in its way."""
        tree, now = self._world.tree, 0
        parent, name = tree.place(file.results)
        folder = parent.entries.get(name) or tree.make(parent, name, stat.S_IFDIR | 0o755, now)
        below = folder.entries.get("sub") or tree.make(folder, "sub", stat.S_IFDIR | 0o755, now)
        for where, what in ((folder, f"one-{file.id}"), (below, f"two-{file.id}")):
            found = where.entries.get(what) or tree.make(where, what, stat.S_IFREG | 0o644, now)
            found.data = f"{what} of {file.name}".encode()
        return Report(file.id, Ending.PROCESSED, results=True)

    def _fail(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.FAILED, error_class="RuntimeError", message="told to")

    def _reject(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.REJECTED, message="told to")

    def _retry(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.RETRY, message="later", after=2.0)

    def _crash(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.CRASHED, message="told to")

    def _slow(self, file: OrderedFile) -> Report:
        return Report(file.id, Ending.TIMED_OUT, message="too slow")

    def _delete(self, file: OrderedFile) -> Report:
        folder, name = self._world.tree.place(file.path)
        if name in folder.entries:
            self._world.tree.unlink(folder, name)
        return Report(file.id, Ending.INPUT_CHANGED, message="the handler removed its input")

    def hashed(self, file: OrderedFile) -> Report:
        """It is only read."""
        content = self._content(file) or b""
        return Report(file.id, Ending.HASHED, result={"sha256": hashlib.sha256(content).hexdigest()})

    def begin_copy(self, file: OrderedFile) -> None:
        """A new file beside it, with half of its bytes so far."""
        content, tree = self._content(file) or b"", self._world.tree
        folder, _name = tree.place(file.path)
        name = copy_name(file.id)
        if name in folder.entries:
            tree.unlink(folder, name)
        self._copy_of(folder, name).data = content[: len(content) // 2]

    def _copy_of(self, folder: Inode, name: str) -> Inode:
        return folder.entries.get(name) or self._world.tree.make(folder, name, stat.S_IFREG | 0o644, 0)

    def copied(self, file: OrderedFile, kind: str) -> Report:
        """All of it, with its time of change, and synced."""
        content, tree = self._content(file) or b"", self._world.tree
        folder, name = tree.place(file.path)
        copy = self._copy_of(folder, copy_name(file.id))
        copy.data, copy.mtime_ns = content, folder.entries[name].mtime_ns
        if self._world.schedule.durability == "full":
            tree.sync(copy)
        return Report(file.id, Ending.COPIED, result={kind: hashlib.new(kind, content).hexdigest()} if kind else None)
