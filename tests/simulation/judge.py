"""What must hold: the checker's invariants, on the simulated disk and the real ledger; and what only we can know."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from inboxd.checker.ledger import Ledger
from inboxd.model import BESIDES
from simulation.handler import Handler
from simulation.ledger import Shelf
from simulation.tree import Inode
from simulation.uploader import ROOT, Uploader
from simulation.world import Violation, World
from support.invariants import CHECKS, KINDS, Entry, Evidence, Facts, Rules

_TABLES = ("files", "failures", "totals", "items", "sends")
_MACHINE = ("i13_no_survivors", "i14_back_to_baseline")  # nothing of it is simulated


class SimEntry(Entry):
    """An entry of the tree."""

    def __init__(self, kind: str, relative: str, inode: Inode) -> None:
        super().__init__("main", kind, relative, f"{ROOT}/{kind}/{relative}", inode.status())
        digest = hashlib.sha256(inode.data).hexdigest() if stat.S_ISREG(inode.mode) else None
        self.__dict__["sha256"] = digest


class SimLedger(Ledger):
    """All rows that are committed."""

    def __init__(self, shelf: Shelf) -> None:
        self.place, self.problems = str(shelf.path), []
        self.tables = {name: shelf.rows(f"SELECT * FROM {name}") for name in _TABLES}


class SimFacts(Facts):
    """What the checks look at."""

    def __init__(self, world: World, shelf: Shelf, evidence: Evidence, limits: dict[str, Any]) -> None:
        self.evidence = evidence
        self.state = Path("/site/state")
        self.inboxes = {"main": Rules(folders={kind: Path(ROOT, kind) for kind in KINDS}, **limits)}
        self.ledger = SimLedger(shelf)
        self.rows = self.ledger.rows
        self.entries = [
            SimEntry(kind, relative, inode) for kind in KINDS for relative, inode in world.tree.below(f"{ROOT}/{kind}")
        ]


class Judge:
    """Asked after every recovery, and at the end."""

    def __init__(
        self, world: World, shelf: Shelf, uploader: Uploader, handler: Handler, limits: dict[str, Any]
    ) -> None:
        self._world, self._shelf, self._uploader, self._handler, self._limits = world, shelf, uploader, handler, limits
        self.accepted: list[Inode] = []

    def committed(self) -> None:
        """A commit is done: what was accepted by it, and what has come to an end."""
        handler = self._handler
        for row in self._shelf.rows("SELECT id, state FROM files WHERE state NOT IN ('CLAIMING', 'ABANDONED')"):
            if row["id"] not in handler.accepted:
                found = self._held(row["id"])
                if found is None:
                    raise Violation(f"{row['id']} is recorded as {row['state']}, and is not in work/")
                handler.accepted[row["id"]] = found.data
                self.accepted.append(found)
                self._world.note(f"accepted: {row['id'][-8:]}")
            if row["state"] in ("DECIDED", "DONE"):
                handler.ended.add(row["id"])
            elif row["id"] in handler.ended:  # an operator took it back: its counters have begun again
                handler.ended.discard(row["id"])
                handler.witness = [line for line in handler.witness if line["id"] != row["id"]]

    def _held(self, file_id: str) -> Inode | None:
        work = self._world.tree.find(f"{ROOT}/work").entries
        names = [name for name in work if name[:32] == file_id and not name.endswith(BESIDES)]
        return work[names[0]] if names else None

    def look(self, *, finished: bool) -> None:
        """Raises Violation with all that does not hold."""
        manifest = [one.manifest for one in self._uploader.uploads]
        evidence = Evidence(
            manifest=manifest, witness=self._handler.witness, finished=finished
        )  # fmt: skip
        facts = SimFacts(self._world, self._shelf, evidence, self._limits)
        found = [
            f"{check.__name__.split('_')[0].upper()}: {fault}"
            for check in CHECKS if check.__name__ not in _MACHINE for fault in check(facts)
        ]  # fmt: skip
        waiting = [] if finished else [row["id"] for row in facts.rows if row["state"] == "DECIDED"]
        found = [fault for fault in found if not self._excused(fault, waiting)]
        found += self._bytes(facts) + self._results(facts)
        if found:
            raise Violation("\n".join(found))

    def _excused(self, fault: str, waiting: list[str]) -> bool:
        """A handler may remove its input and die before anybody hears of it; a clock may be set back.

        `waiting`: what could not be delivered yet, and may have two names since a power cut, as long as none can be removed.
        """
        if fault.startswith("I1") and any(file_id in fault for file_id in waiting):
            return True
        turned = any(event.kind == "clock" for event in self._world.schedule.events)
        lost = "'delete-" in fault and fault.startswith(("I2", "I5", "I7"))
        removed = [one.manifest.sha256 for one in self._uploader.uploads if one.name.startswith("delete-")]
        lost = lost or (fault.startswith("I7") and any(f"content {digest[:12]}" in fault for digest in removed))
        kept = fault.startswith("I4: left in work/") and fault.endswith(
            "-unsynced"
        )  # on a disk that was read-only then
        return lost or kept or (turned and fault.endswith("finished before it was claimed"))

    def _bytes(self, facts: SimFacts) -> list[str]:
        """Every accepted file has the bytes that it was accepted with."""
        found = []
        for row in facts.rows:
            accepted = self._handler.accepted.get(row["id"])
            entry = facts.held.get(row["id"]) or facts.destination(row)
            if accepted is None or entry is None or entry.sha256 is None:
                continue
            if entry.sha256 != hashlib.sha256(accepted).hexdigest():
                found.append(f"{row['id']}: {entry.path} holds other bytes than were accepted")
        return found

    def _results(self, facts: SimFacts) -> list[str]:
        """What stands in outbound/ is whole; at the end there is all of it, once."""
        found, there = [], {os.path.basename(entry.relative): entry for entry in facts.of_kind("outbound")}
        for row in facts.rows:
            if not row["name"].startswith("results-") or row["reason"] != "processed":
                continue
            for what in ("one", "two"):
                name = f"{what}-{row['id']}"
                entry = there.get(name)
                if entry is None and row["state"] == "DONE":
                    found.append(f"{name} is not in outbound/")
                elif entry and entry.sha256 != hashlib.sha256(f"{name} of {row['name']}".encode()).hexdigest():
                    found.append(f"{entry.path} is not whole")
        return found
