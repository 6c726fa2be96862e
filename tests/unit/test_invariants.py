"""The checker can fail: for each invariant, a sound installation with one thing broken."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import invariants
from support.invariants import Evidence, Footprint, violations
from support.load import Dropped, write_manifest
from support.site import Site, read_witness

ID = "0190a5f0c1d27a3b8c4d5e6f7081920"
ITEM_COLUMNS = (
    "source", "item", "version", "inbox", "id", "state", "name", "ack", "attempts", "fetched_at", "acked_at",
)  # fmt: skip
SEND_COLUMNS = (
    "file_id", "destination", "name", "id", "inbox", "size", "state", "open", "attempts", "failures", "due_at", "ended_at",
)  # fmt: skip
COLUMNS = (
    "id", "inbox", "folder", "name", "dev", "ino", "size", "mtime_ns", "state", "batch", "attempts", "failures",
    "not_before", "claimed_at", "started_at", "finished_at", "outcome", "reason", "message", "destination", "result",
    "sha256", "source",
)  # fmt: skip


class World:
    """One file processed, one in errors, one running in work, one still in inbound; a ledger that says so."""

    def __init__(self, base: Path) -> None:
        self.site = Site(base)
        for kind in invariants.KINDS:
            (self.site.root() / kind).mkdir(parents=True, exist_ok=True)
        self.site.state.mkdir()
        (self.site.state / "generation.lock").touch()
        self.rows: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.items: dict[str, dict[str, Any]] = {}
        self.sends: dict[str, dict[str, Any]] = {}
        self.totals = {("main", "processed"): 1, ("main", "error"): 1}
        self.witness: list[dict[str, Any]] = []
        self._end("good", "processed", "processed", reason="processed", attempts=1, failures=0)
        self._end("bad", "error", "errors", reason="too many failures", attempts=3, failures=3)
        self._hold("busy")
        self.site.drop("new.dat", b"new")
        self.evidence = Evidence(manifest=self.site.manifest, witness=self.witness)

    def _file(self, name: str, kind: str, as_name: str) -> tuple[Dropped, dict[str, Any]]:
        entry = self.site.drop(name, name.encode())
        path = self.site.root() / kind / as_name
        os.rename(self.site.root() / "inbound" / name, path)
        found = path.stat()
        row = dict.fromkeys(COLUMNS) | {
            "id": ID + str(len(self.rows)), "inbox": "main", "folder": b"", "name": name.encode(),
            "dev": found.st_dev, "ino": found.st_ino, "size": found.st_size, "mtime_ns": found.st_mtime_ns,
            "claimed_at": 1.0, "not_before": 0.0,
        }  # fmt: skip
        self.rows[name] = row
        return entry, row

    def _end(self, name: str, outcome: str, kind: str, **values: Any) -> None:
        entry, row = self._file(name, kind, name)
        row |= {"state": "DONE", "outcome": outcome, "destination": name.encode(), "finished_at": 9.0, **values}
        good = outcome == "processed"
        for attempt in range(1, values["attempts"] + 1):
            self.note("start", row, entry.sha256, attempt)
            self.note("end", row, entry.sha256, attempt, ending="ok" if good else "RuntimeError")
            if not good:
                self.failures.append({"file_id": row["id"], "attempt": attempt, "ending": "failed"})

    def _hold(self, name: str) -> None:
        entry, row = self._file(name, "work", ID + str(len(self.rows)))
        row |= {"state": "RUNNING", "attempts": 1, "failures": 0, "started_at": 5.0}
        self.note("start", row, entry.sha256, 1)

    def note(self, what: str, row: dict[str, Any], digest: str, attempt: int, **more: Any) -> None:
        """A line of the witness."""
        name = row["name"].decode()
        line = {"what": what, "id": row["id"], "name": name, "sha256": digest, "attempt": attempt, "at": 5.0, **more}
        self.witness.append(line)

    def path(self, kind: str, name: str) -> Path:
        return self.site.root() / kind / name

    def work_path(self, name: str) -> Path:
        return self.path("work", self.rows[name]["id"])

    def change(self, name: str, **values: Any) -> None:
        """What the row says of the file."""
        self.rows[name] |= values

    def came(self, name: str, state: str, ack: str = "held", **values: Any) -> None:
        """The file of this name came from a source, and so far has its item come. Sound for good and busy."""
        self.change(name, source="partner")
        self.list_item(name, state, ack, id=self.rows[name]["id"], **values)

    def list_item(self, name: str, state: str, ack: str = "held", **values: Any) -> None:
        """A row of an item, sound by itself."""
        self.items[name] = {
            "source": "partner", "item": name, "version": "", "inbox": "main", "id": "e" * 31 + str(len(self.items)),
            "state": state, "name": name, "ack": ack, "attempts": 0 if state == "DISCOVERED" else 1,
            "fetched_at": 1.0 if state in ("HELD", "ACK_DUE", "ACKED") else None,
            "acked_at": 2.0 if state == "ACKED" else None, **values,
        }  # fmt: skip

    def queue(self, name: str, state: str = "DUE", *, here: bool = True, **values: Any) -> None:
        """Its handler left one result for a destination; sound for good."""
        file_id, key = self.rows[name]["id"], "f" * 31 + str(len(self.sends))
        if here:
            result = self.path("work", f"results/{file_id}") / "a.csv"
            result.parent.mkdir(parents=True)
            result.write_bytes(b"1234")
        is_open = state in ("DUE", "ABANDONED")
        self.sends[key] = {
            "file_id": file_id, "destination": "customer", "name": b"a.csv", "id": key, "inbox": "main", "size": 4,
            "state": state, "open": int(is_open), "attempts": 0 if state == "DUE" else 1, "failures": 0,
            "due_at": 9.0, "ended_at": None if is_open else 9.5, **values,
        }  # fmt: skip

    def received(self, *sizes: int) -> None:
        """The destination has had the first result so often, with so many bytes."""
        heard = frozenset(("f" * 31 + "0", "a.csv", size) for size in sizes)
        self.evidence = replace(self.evidence, received=heard)

    def told(self, *names: str) -> None:
        """The source has heard of these."""
        acked = frozenset(("partner", name) for name in names)
        self.evidence = replace(self.evidence, acked=acked)

    def store(self) -> None:
        """Write the ledger."""
        with sqlite3.connect(self.site.state / "ledger.sqlite") as db:
            db.execute(f"CREATE TABLE files ({', '.join(COLUMNS)})")
            for row in self.rows.values():
                db.execute(f"INSERT INTO files VALUES ({', '.join('?' * len(COLUMNS))})", tuple(row.values()))
            db.execute(f"CREATE TABLE items ({', '.join(ITEM_COLUMNS)})")
            for item in self.items.values():
                db.execute(f"INSERT INTO items VALUES ({', '.join('?' * len(ITEM_COLUMNS))})", tuple(item.values()))
            db.execute(f"CREATE TABLE sends ({', '.join(SEND_COLUMNS)})")
            for send in self.sends.values():
                db.execute(f"INSERT INTO sends VALUES ({', '.join('?' * len(SEND_COLUMNS))})", tuple(send.values()))
            db.execute("CREATE TABLE failures (file_id, attempt, ending)")
            db.executemany("INSERT INTO failures VALUES (:file_id, :attempt, :ending)", self.failures)
            db.execute("CREATE TABLE totals (inbox, outcome, files, bytes)")
            told = [(*key, count, 0) for key, count in self.totals.items()]
            db.executemany("INSERT INTO totals VALUES (?, ?, ?, ?)", told)
        db.close()

    def broken(self) -> set[str]:
        """The invariants that do not hold."""
        self.store()
        return {fault.split(":")[0] for fault in violations(self.site.config, self.evidence)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "site")


def test_a_sound_world_is_sound(world: World) -> None:
    assert world.broken() == set()


def test_a_second_name_in_quarantine_is_what_it_is_for(world: World) -> None:
    for name in ("one", "other"):
        world._end(name, "quarantine", "quarantine", reason="it has more than one name", attempts=0, failures=0)
    world.path("quarantine", "other").unlink()
    os.link(world.path("quarantine", "one"), world.path("quarantine", "other"))
    numbers = world.path("quarantine", "one").stat()
    world.change("other", ino=numbers.st_ino, size=numbers.st_size, mtime_ns=numbers.st_mtime_ns)
    world.totals["main", "quarantine"] = 2
    world.evidence = replace(world.evidence, manifest=None)
    assert world.broken() == set()


@pytest.mark.parametrize(("is_there", "broken"), [(True, {"I3"}), (False, set())])
def test_a_file_that_may_be_taken_has_its_size_as_long_as_it_is_there(
    world: World, is_there: bool, broken: set[str]
) -> None:
    world.evidence = replace(world.evidence, manifest=None, taken=None, bytes=False)
    with world.path("processed", "good").open("ab") as file:
        file.write(b"more")
    if not is_there:
        world.path("processed", "good").unlink()
    assert world.broken() == broken


def _had_its_place(world: World, **values: Any) -> str:
    """Before the file that is processed there was another of its name, and somebody took it; its id."""
    world.rows["before"] = {
        **world.rows["good"], "id": ID + "9", "ino": 1, "size": 99, "sha256": "0" * 64, "finished_at": 8.0, **values,
    }  # fmt: skip
    world.totals["main", "processed"] = 2
    return ID + "9"


def test_a_file_is_not_taken_for_the_one_that_had_its_place(world: World) -> None:
    _had_its_place(world)
    world.evidence = Evidence(taken=None, lived=True)
    assert world.broken() == set()


@pytest.mark.parametrize(("state", "broken"), [("DECIDED", {"I3", "I11"}), ("DONE", set())])
def test_what_is_still_in_work_has_taken_no_place(world: World, state: str, broken: set[str]) -> None:
    """The next of its name: decided, and in work/ still; or delivered, and taken."""
    world.change("good", size=99, sha256="0" * 64)
    world.change("busy", state=state, outcome="processed", destination="good", finished_at=10.0, size=4)
    if state == "DONE":
        world.work_path("busy").unlink()
    world.totals["main", "processed"] = 2
    world.evidence = Evidence(taken=None, lived=True)
    assert world.broken() == broken


def test_what_may_not_be_taken_has_given_way_to_none(world: World) -> None:
    before = _had_its_place(world)
    world.evidence = Evidence(taken=frozenset())
    world.store()
    found = [fault for fault in violations(world.site.config, world.evidence) if before in fault]
    assert sorted(fault.split(":")[0] for fault in found) == ["I11", "I3"]


@pytest.mark.parametrize("taken", [None, frozenset([ID + "9"])])
def test_the_last_that_ended_in_a_place_is_looked_at(world: World, taken: frozenset[str] | None) -> None:
    _had_its_place(world, finished_at=10.0)
    world.evidence = Evidence(taken=taken, lived=True)
    assert world.broken() == {"I3", "I11"}


def test_items_on_their_way_are_sound(world: World) -> None:
    """In each state, with what may lie in incoming/ then."""
    world.came("good", "ACKED")
    world.came("bad", "HELD", "processed")
    world.came("busy", "ACK_DUE")
    for state in ("DISCOVERED", "FETCHING", "ABANDONED"):
        world.list_item(state, state)
    for name in (".part", ".part.from"):
        world.path("incoming", world.items["FETCHING"]["id"] + name).write_bytes(b"half")
    world.path("incoming", "x.listing").touch()
    world.told("good", "busy")
    assert world.broken() == set()


def test_items_at_their_end_are_sound(world: World) -> None:
    """What failed here is not acknowledged where its source waits for success; what is pruned has been told."""
    offered = [replace(world.site.manifest[0], name="given up", sha256="1" * 64)]
    world.site.inbox("main", retention={"processed": "1d"})
    world.came("good", "ACKED", "processed")
    world.came("bad", "HELD", "processed")
    world.list_item("given up", "ABANDONED")
    world.list_item("pruned", "ACKED", "")
    world.told("good")
    world.path("inbound", "new.dat").unlink()
    world.work_path("busy").unlink()
    del world.rows["busy"], world.witness[-1]
    manifest = [entry for entry in world.site.manifest if entry.name in ("good", "bad")]
    world.evidence = replace(world.evidence, manifest=manifest, offered=tuple(offered), finished=True)
    assert world.broken() == set()


def _link_twice(world: World) -> None:
    os.link(world.path("processed", "good"), world.path("errors", "good"))


def _copy_made(world: World) -> None:
    world.path("inbound", "again").write_bytes(b"good")


def _orphan_in_work(world: World) -> None:
    world.path("work", "f" * 32).write_bytes(b"whose?")


def _row_without_file(world: World) -> None:
    world.work_path("busy").unlink()


def _lost(world: World) -> None:
    world.change("busy", state="LOST")
    world.work_path("busy").unlink()


def _decided_nowhere(world: World) -> None:
    world.change("good", state="DECIDED")
    world.path("processed", "good").unlink()


def _done_but_gone(world: World) -> None:
    world.path("processed", "good").unlink()


def _another_file_there(world: World) -> None:
    world.path("processed", "other").write_bytes(b"good")
    os.replace(world.path("processed", "other"), world.path("processed", "good"))


def _unknown_in_processed(world: World) -> None:
    world.path("processed", "stranger").write_bytes(b"stranger")


def _part_left(world: World) -> None:
    world.path("incoming", "x.part").write_bytes(b"half")


def _draft_left(world: World) -> None:
    world.path("work", world.rows["bad"]["id"] + ".error.json").write_bytes(b"{}")


def _results_left(world: World) -> None:
    folder = world.path("work", f"results/{world.rows['good']['id']}")
    folder.mkdir(parents=True)
    (folder / "one").touch()


def _too_many_runs(world: World) -> None:
    world.note("start", world.rows["busy"], world.witness[-1]["sha256"], 2)


def _attempt_twice(world: World) -> None:
    world.change("busy", attempts=2)
    world.note("start", world.rows["busy"], world.witness[-1]["sha256"], 1)


def _too_many_failures(world: World) -> None:
    world.change("bad", failures=4, attempts=4)


def _too_many_attempts(world: World) -> None:
    world.change("bad", attempts=11)


def _no_good_run(world: World) -> None:
    world.witness[1]["ending"] = "RuntimeError"


def _two_good_runs(world: World) -> None:
    world.change("good", attempts=2)
    world.note("start", world.rows["good"], world.witness[0]["sha256"], 2)
    world.note("end", world.rows["good"], world.witness[0]["sha256"], 2, ending="ok")
    world.evidence = replace(world.evidence, calm=True)


def _vanished(world: World) -> None:
    world.path("inbound", "new.dat").unlink()


def _not_finished(world: World) -> None:
    world.evidence = replace(world.evidence, finished=True)


def _row_with_source(world: World) -> None:
    world.change("good", source="partner")


def _part_of_a_held_item(world: World) -> None:
    world.came("good", "ACKED")
    world.path("incoming", world.rows["good"]["id"] + ".part").write_bytes(b"again")


def _part_of_an_abandoned_item(world: World) -> None:
    world.list_item("x", "ABANDONED")
    world.path("incoming", world.items["x"]["id"] + ".part.from").write_bytes(b"{}")


def _listing_at_the_end(world: World) -> None:
    world.path("incoming", "x.listing").touch()
    world.evidence = replace(world.evidence, finished=True)


def _acked_without_a_file(world: World) -> None:
    world.list_item("x", "ACKED")


def _owed_before_the_claim(world: World) -> None:
    world.came("busy", "ACK_DUE")
    world.change("busy", state="CLAIMING")


def _told_too_early(world: World) -> None:
    world.came("busy", "FETCHING")
    world.told("busy")


def _told_of_a_stranger(world: World) -> None:
    world.came("good", "ACKED")
    world.told("good", "stranger")


def _told_before_success(world: World) -> None:
    world.came("busy", "ACKED", "processed")


def _told_of_a_failure(world: World) -> None:
    world.came("bad", "ACK_DUE", "processed")


def _kept_from_its_source(world: World) -> None:
    world.came("good", "HELD", "held")


def _of_another_inbox(world: World) -> None:
    world.came("good", "ACKED", inbox="second")


def _fetched_but_not_claimed(world: World) -> None:
    world.came("busy", "DISCOVERED")


def _never_acked(world: World) -> None:
    world.came("good", "ACK_DUE")
    world.evidence = replace(world.evidence, finished=True)


def _never_fetched(world: World) -> None:
    world.list_item("x", "DISCOVERED")
    world.evidence = replace(world.evidence, finished=True)


def _never_heard(world: World) -> None:
    world.came("good", "ACKED")
    world.told()
    world.evidence = replace(world.evidence, finished=True)


def _unknown_item_state(world: World) -> None:
    world.list_item("x", "LOST")


def _acked_without_a_time(world: World) -> None:
    world.came("good", "ACKED", acked_at=None)


def _fetched_without_an_attempt(world: World) -> None:
    world.came("good", "ACKED", attempts=0)


def _offered_and_missing(world: World) -> None:
    one = replace(world.site.manifest[0], name="offered", sha256="1" * 64)
    world.evidence = replace(world.evidence, offered=(one,), finished=True)


def _unknown_state(world: World) -> None:
    world.change("good", state="FILED")


def _outcome_too_early(world: World) -> None:
    world.change("busy", outcome="error")
    world.totals["main", "error"] = 2


def _run_after_the_end(world: World) -> None:
    world.witness[0]["at"] = 99.0


def _bytes_changed(world: World) -> None:
    world.path("processed", "good").write_bytes(b"GOOD")
    world.evidence = replace(
        world.evidence, manifest=[*world.site.manifest, replace(world.site.manifest[0], sha256="0")]
    )


def _other_hash_in_row(world: World) -> None:
    world.change("good", sha256="0" * 64)


def _totals_wrong(world: World) -> None:
    world.totals["main", "processed"] = 2


def _result_gone(world: World) -> None:
    world.queue("good", here=False)


def _result_cut(world: World) -> None:
    world.queue("good", size=5)


def _sent_and_never_received(world: World) -> None:
    world.queue("good", "SENT", here=False)
    world.received()


def _received_cut(world: World) -> None:
    world.queue("good", "SENT", here=False)
    world.received(3)


def _never_sent(world: World) -> None:
    world.evidence = replace(world.evidence, finished=True)
    world.queue("good")


def _sent_for_an_error(world: World) -> None:
    world.queue("bad")


def _received_from_nobody(world: World) -> None:
    world.received(4)


def _left_though_sent(world: World) -> None:
    world.evidence = replace(world.evidence, finished=True)
    world.queue("good", "SENT")


def _sent_without_a_time(world: World) -> None:
    world.queue("good", "SENT", here=False, ended_at=None)


def _sent_without_an_attempt(world: World) -> None:
    world.queue("good", "SENT", here=False, attempts=0)


@pytest.mark.parametrize(
    ("broken", "invariant"),
    [
        (_link_twice, "I1"), (_copy_made, "I1"),
        (_orphan_in_work, "I2"), (_row_without_file, "I2"), (_lost, "I2"), (_decided_nowhere, "I2"),
        (_done_but_gone, "I3"), (_another_file_there, "I3"), (_unknown_in_processed, "I3"),
        (_part_left, "I4"), (_draft_left, "I4"), (_results_left, "I4"),
        (_too_many_runs, "I5"), (_attempt_twice, "I5"), (_too_many_failures, "I5"), (_too_many_attempts, "I5"),
        (_no_good_run, "I6"), (_two_good_runs, "I6"),
        (_vanished, "I7"), (_not_finished, "I7"), (_done_but_gone, "I7"),
        (_part_of_a_held_item, "I4"), (_part_of_an_abandoned_item, "I4"), (_listing_at_the_end, "I4"),
        (_offered_and_missing, "I7"),
        (_row_with_source, "I8"), (_acked_without_a_file, "I8"), (_owed_before_the_claim, "I8"), (_told_too_early, "I8"),
        (_told_of_a_stranger, "I8"), (_told_before_success, "I8"), (_told_of_a_failure, "I8"),
        (_kept_from_its_source, "I8"), (_of_another_inbox, "I8"), (_fetched_but_not_claimed, "I8"),
        (_never_acked, "I9"), (_never_fetched, "I9"), (_never_heard, "I9"),
        (_unknown_item_state, "I10"), (_acked_without_a_time, "I10"),
        (_fetched_without_an_attempt, "I10"),
        (_unknown_state, "I10"), (_outcome_too_early, "I10"), (_run_after_the_end, "I10"),
        (_bytes_changed, "I11"), (_other_hash_in_row, "I11"),
        (_totals_wrong, "I12"),
        (_result_gone, "I7"), (_result_cut, "I7"), (_sent_and_never_received, "I9"), (_received_cut, "I9"),
        (_never_sent, "I9"), (_sent_for_an_error, "I8"), (_received_from_nobody, "I8"),
        (_left_though_sent, "I4"), (_sent_without_a_time, "I10"), (_sent_without_an_attempt, "I10"),
    ],
)  # fmt: skip
def test_what_is_broken_is_found(world: World, broken: Callable[[World], None], invariant: str) -> None:
    broken(world)
    assert invariant in world.broken()


def test_an_endless_log_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inboxd.checker.machine.WAL_LIMIT", -1)
    assert world.broken() == {"I12"}


def test_a_damaged_ledger_is_found(world: World) -> None:
    world.store()
    ledger = world.site.state / "ledger.sqlite"
    with sqlite3.connect(ledger) as db:
        db.execute("CREATE INDEX by_name ON files (name)")
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_name'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with ledger.open("r+b") as stream:
        stream.seek(root * size - 4)  # the newest index entry lies at the end of the page
        stream.write(b"\0" * 4)
    assert any(fault.startswith("I12: integrity_check") for fault in violations(world.site.config))


def test_each_invariant_stands_in_the_manual() -> None:
    """With what must hold, in the words of its check, and what to do."""
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| I")]
    told = {number.removeprefix("| "): words for number, words, _remedy in rows}
    checks = {check.__name__.split("_")[0].upper(): check.__doc__ or "" for check in invariants.CHECKS}
    assert told == {number: " ".join(words.split()) for number, words in checks.items()}


def test_a_survivor_is_found(world: World) -> None:
    world.store()
    with (world.site.state / "generation.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as child:
            try:
                as_family = violations(world.site.config, replace(world.evidence, daemon=os.getpid()))
                as_stranger = violations(world.site.config, replace(world.evidence, daemon=1 << 22))
            finally:
                child.kill()
    assert as_family == []
    assert len(as_stranger) == 2
    assert all(fault.startswith("I13") for fault in as_stranger)


def test_results_on_their_way_are_sound(world: World) -> None:
    world.queue("good", "SENT", here=False)
    world.received(4, 4)
    assert world.broken() == set()


@pytest.mark.parametrize(
    "before", [Footprint(0, 99, 1 << 40), Footprint(99, -3, 1 << 40), Footprint(99, 99, -(1 << 40))]
)
def test_growth_is_found(world: World, before: Footprint) -> None:
    world.evidence = replace(world.evidence, daemon=os.getpid(), before=before)
    assert world.broken() == {"I14"}


def test_what_the_handler_spoilt_is_not_missed(world: World) -> None:
    world.change("bad", reason="input changed")
    world.path("errors", "bad").unlink()
    assert world.broken() == set()


def test_a_retried_file_counts_anew(world: World) -> None:
    row = world.rows["good"]
    world.note("start", row, world.witness[0]["sha256"], 1)
    world.evidence = replace(world.evidence, retried=frozenset([row["id"]]))
    assert world.broken() == set()


def test_names_of_any_bytes(tmp_path: Path) -> None:
    world = World(tmp_path / "site")
    world.site.drop(b"\xff\n\x1b", b"hostile")
    os.unlink(os.fsencode(world.site.root() / "inbound") + b"/\xff\n\x1b")
    assert world.broken() == {"I7"}


def test_as_a_command(world: World, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    world.store()
    write_manifest(manifest, world.site.manifest)
    program = [sys.executable, "-m", "inboxd.checker", str(world.site.config), "--manifest", str(manifest)]
    sound = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (sound.returncode, sound.stdout) == (0, "0 violations of 14 invariants\n")
    _vanished(world)
    broken = subprocess.run(program, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert broken.stdout.startswith("I7: main: 'new.dat'")


def test_a_torn_line_of_the_witness_is_no_line(tmp_path: Path) -> None:
    log = tmp_path / "witness.log"
    log.write_bytes(b'{"what": "start", "id": "a"}\n{"what": "st{"what": "end", "id": "b"}\n{"what": "en')
    assert [line["id"] for line in read_witness(log)] == ["a", "b"]
