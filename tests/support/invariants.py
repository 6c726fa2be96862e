"""What must hold after anything at all: the fourteen invariants, checked from outside.

    python tests/support/invariants.py CONFIG [--manifest FILE] [--witness FILE] [--calm] [--finished] [--daemon PID]

Reads the configuration, the ledger (read-only) and the folders; imports nothing of inboxd, so that the two can't be
wrong in the same way. The daemon must be stopped, killed or idle meanwhile. Prints each violation; exit 1 if any.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sqlite3
import stat
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import yaml

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import itemchecks, sendchecks
from support.load import Dropped, read_manifest
from support.site import entries_below, read_witness

Row = dict[str, Any]

OPEN = {"CLAIMING", "CLAIMED", "RUNNING", "WAITING", "DECIDED"}
HELD = {"CLAIMED", "RUNNING", "WAITING"}
FINAL = {"DONE", "ABANDONED", "LOST"}
KINDS = ("inbound", "work", "processed", "errors", "quarantine", "outbound", "incoming")
PLACE_OF = {"processed": "processed", "error": "errors", "quarantine": "quarantine"}
ENDINGS = {
    "processed", "rejected", "retry", "failed", "crashed", "timed out", "input changed", "released", "unavailable",
    "broken", "done", "hashed",
}  # fmt: skip
#: The handler destroyed or changed these itself: their bytes are no longer ours to promise.
SPOILT = "input changed"
WAL_LIMIT = 64 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one process holds; `rss` in bytes."""

    fds: int
    threads: int
    rss: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        process = psutil.Process(pid)
        return cls(process.num_fds(), process.num_threads(), process.memory_info().rss)


@dataclass(frozen=True)
class Evidence:
    """What the harness knows, beside what lies on disk."""

    manifest: list[Dropped] | None = None  # every file that was dropped
    offered: tuple[Dropped, ...] = ()  # what sources have; of it, nothing need be here before all is finished
    acked: frozenset[tuple[str, str]] | None = None  # (source, item): what sources were told of
    received: frozenset[tuple[str, str, int]] | None = None  # (key, name, bytes): what destinations have received
    results_lost: bool = False  # somebody removed results from work/
    witness: list[dict[str, Any]] | None = None  # every line the handler wrote
    calm: bool = False  # nothing was killed, stopped or timed out: each run counts once
    finished: bool = False  # the daemon had the time to end everything
    retried: frozenset[str] = frozenset()  # ids an operator took back from errors/: their counters began again
    taken: frozenset[str] = frozenset()  # ids whose delivered file somebody took since
    daemon: int | None = None  # pid of the daemon that runs now
    before: Footprint | None = None  # ... and what it held when it was young


@dataclass(frozen=True)
class Entry:
    """A directory entry in one of an inbox's folders."""

    inbox: str
    kind: str
    relative: str
    path: str
    status: os.stat_result

    @property
    def inode(self) -> tuple[int, int]:
        return (self.status.st_dev, self.status.st_ino)

    @cached_property
    def sha256(self) -> str | None:
        """None for what is no regular file."""
        if not stat.S_ISREG(self.status.st_mode):
            return None
        with open(self.path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def is_sidecar(self) -> bool:
        return self.kind == "errors" and self.relative.endswith(".error.json")


class Facts:
    """Configuration, ledger and folders, read once."""

    def __init__(self, config: Path, evidence: Evidence) -> None:
        self.evidence = evidence
        self.base = config.resolve().parent
        self.settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
        self.state = self.base / self.settings.get("state", "var/state")
        self.ledger = Ledger(self._ledger_url())
        self.rows = self.ledger.rows
        self.entries = [
            entry for name in self.settings["inboxes"] for kind in KINDS for entry in self._look(name, kind)
        ]

    def _ledger_url(self) -> str:
        url: str = self.settings.get("ledger", "sqlite")
        return str(self.state / "ledger.sqlite") if url == "sqlite" else url

    def folder(self, inbox: str, kind: str) -> Path:
        rules = self.settings["inboxes"][inbox]
        return self.base / rules.get(kind, os.path.join(rules.get("root", ""), kind))

    def limit(self, inbox: str, name: str, default: int) -> int:
        """A limit of the inbox's retry policy."""
        return int(self.settings["inboxes"].get(inbox, {}).get("retry", {}).get(name, default))

    def _look(self, inbox: str, kind: str) -> Iterator[Entry]:
        top = self.folder(inbox, kind)
        for relative in entries_below(top):
            path = os.path.join(top, relative)
            with contextlib.suppress(FileNotFoundError):  # a fetcher of a daemon that was killed may still tidy up
                yield Entry(inbox, kind, relative, path, os.lstat(path))

    def of_kind(self, *kinds: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.kind in kinds)

    @cached_property
    def by_place(self) -> dict[tuple[str, str, str], Entry]:
        return {(entry.inbox, entry.kind, entry.relative): entry for entry in self.entries}

    def destination(self, row: Row) -> Entry | None:
        """What lies where the row says that the file went."""
        return self.by_place.get((row["inbox"], PLACE_OF.get(row["outcome"] or "", ""), row["destination"] or ""))

    @cached_property
    def held(self) -> dict[str, Entry]:
        """What lies in work/ under an id; drafts and results left out."""
        return {entry.relative[:32]: entry for entry in self.of_kind("work") if not is_draft(entry)}

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.rows}

    @property
    def items(self) -> list[Row]:
        """One for each item of a source."""
        return self.ledger.items

    @property
    def sends(self) -> list[Row]:
        """One for each result and destination."""
        return self.ledger.sends

    @cached_property
    def starts(self) -> dict[str, list[dict[str, Any]]]:
        """The witness's starts by id; of a retried file only those since its counters began again."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self.evidence.witness or ():
            if line["what"] == "start":
                if line["id"] in self.evidence.retried and line["attempt"] == 1:
                    found[line["id"]].clear()
                found[line["id"]].append(line)
        return found

    @cached_property
    def good_ends(self) -> Counter[str]:
        """How often the handler came to a good end, by id."""
        ends = (line for line in self.evidence.witness or () if line["what"] == "end")
        return Counter(line["id"] for line in ends if line["ending"] == "ok")


def is_draft(entry: Entry) -> bool:
    """A results folder's content or a sidecar on its way."""
    first = entry.relative.split("/")[0]
    return first.endswith(("-results", ".error.json", ".part"))


class Ledger:
    """All rows, read through one short read-only connection; tables are known by their columns."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.tables: dict[str, list[Row]] = {}
        self.problems: list[str] = []
        if "://" in place:
            self._read_postgresql()
        elif os.path.exists(place):
            self._read_sqlite()

    def _read_sqlite(self) -> None:
        with contextlib.closing(
            sqlite3.connect(f"file:{place_as_uri(self.place)}?mode=ro", uri=True, timeout=10)
        ) as db:
            db.row_factory = sqlite3.Row
            verdict = [row[0] for row in db.execute("PRAGMA integrity_check")]
            self.problems = [] if verdict == ["ok"] else verdict
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            self.tables = {name: [dict(row) for row in db.execute(f'SELECT * FROM "{name}"')] for name in names}

    def _read_postgresql(self) -> None:
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self.place.replace("+psycopg", ""), row_factory=dict_row) as db:
            db.read_only = True
            names = [
                row["tablename"]
                for row in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
            ]
            self.tables = {name: list(db.execute(f'SELECT * FROM "{name}"')) for name in names}  # type: ignore[arg-type]

    def _table(self, *columns: str) -> list[Row]:
        """The rows of the table that has these columns."""
        for rows in self.tables.values():
            if rows and set(columns) <= set(rows[0]):
                return rows
        return []

    @cached_property
    def rows(self) -> list[Row]:
        """One for each file; names as os.fsdecode gives them."""
        decoded = ("name", "folder", "destination")
        return [
            {key: os.fsdecode(bytes(value)) if key in decoded and isinstance(value, bytes | memoryview) else value
             for key, value in row.items()}
            for row in self._table("id", "state", "destination", "claimed_at")
        ]  # fmt: skip

    @cached_property
    def sends(self) -> list[Row]:
        rows = self._table("file_id", "destination", "due_at")
        return [{**row, "name": os.fsdecode(bytes(row["name"]))} for row in rows]

    @cached_property
    def failures(self) -> list[Row]:
        return self._table("file_id", "attempt", "ending")

    @cached_property
    def items(self) -> list[Row]:
        return self._table("source", "item", "version", "ack")

    @cached_property
    def totals(self) -> list[Row]:
        return self._table("inbox", "outcome", "files", "bytes")

    @property
    def wal_size(self) -> int:
        with contextlib.suppress(OSError):
            return os.stat(self.place + "-wal").st_size
        return 0


def place_as_uri(path: str) -> str:
    """A path inside an SQLite URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def i1_one_place(facts: Facts) -> Iterator[str]:
    """Each file is in at most one of work, processed, errors and quarantine, and nowhere twice."""
    places: dict[tuple[int, int], list[str]] = defaultdict(list)
    for entry in facts.of_kind("work", "processed", "errors", "quarantine"):
        places[entry.inode].append(entry.path)
    for paths in places.values():
        if len(paths) > 1:
            yield f"one file under {len(paths)} names: {paths}"
    if facts.evidence.manifest is not None:
        for (inbox, digest), more in (_found(facts) - _dropped(facts)).items():
            yield f"{more} more of {inbox}'s content {digest[:12]} than were dropped: {_where(facts, inbox, digest)}"


def _dropped(facts: Facts) -> Counter[tuple[str, str]]:
    return Counter((entry.inbox, entry.sha256) for entry in (*(facts.evidence.manifest or ()), *facts.evidence.offered))


def _found(facts: Facts) -> Counter[tuple[str, str]]:
    """Contents in all places a dropped file may be in."""
    known = _dropped(facts)
    return Counter(
        (entry.inbox, entry.sha256)
        for entry in facts.of_kind("inbound", "work", "processed", "errors", "quarantine")
        if (entry.inbox, entry.sha256) in known
    )


def _where(facts: Facts, inbox: str, digest: str) -> list[str]:
    return [entry.path for entry in facts.entries if (entry.inbox, entry.sha256) == (inbox, digest)]


def i2_work_and_rows(facts: Facts) -> Iterator[str]:
    """Each file in work has an open row; each open row has a file or a state that explains its absence."""
    for file_id, entry in facts.held.items():
        if facts.by_id.get(file_id, {}).get("state") not in OPEN:
            yield f"in work/ without an open row: {entry.path}"
    for row in facts.rows:
        there = row["id"] in facts.held
        if row["state"] in HELD and not there:
            yield f"{_say(row)} has no file in work/"
        if row["state"] == "DECIDED" and not there and facts.destination(row) is None and row["reason"] != SPOILT:
            yield f"{_say(row)} is neither in work/ nor at its destination"
        if row["state"] == "LOST":
            yield f"{_say(row)} was lost"


def i3_done_is_there(facts: Facts) -> Iterator[str]:
    """DONE means that the accepted file lies at its destination; and nothing lies there that no row knows."""
    known = set()
    for row in facts.rows:
        if row["state"] not in ("DONE", "DECIDED"):
            continue
        entry = facts.destination(row)
        if entry is not None:
            known.add(entry.path)
        if row["state"] == "DECIDED" or row["reason"] == SPOILT or row["id"] in facts.evidence.taken:
            continue
        if entry is None:
            yield f"{_say(row)} is not at its destination {row['destination']!r}"
        elif entry.inode != (row["dev"], row["ino"]):
            yield f"{_say(row)}: another file lies at its destination {entry.path}"
        elif entry.status.st_size != row["size"]:
            yield f"{_say(row)}: {entry.status.st_size} bytes delivered, {row['size']} accepted"
    for entry in facts.of_kind("processed", "errors", "quarantine"):
        if entry.path not in known and not entry.is_sidecar:
            yield f"no row knows {entry.path}"


def i4_no_leftovers(facts: Facts) -> Iterator[str]:
    """No temporary of a daemon that is gone."""
    yield from itemchecks.leftovers(facts)
    kept = sendchecks.kept(facts)
    for entry in facts.of_kind("work"):
        if entry.relative[:32] in kept and "-results" in entry.relative:
            continue
        if is_draft(entry) and facts.by_id.get(entry.relative[:32], {}).get("state") not in OPEN:
            yield f"left in work/: {entry.path}"
    for entry in facts.of_kind("processed", "errors", "quarantine", "outbound"):
        name = os.path.basename(entry.relative)
        if name.startswith(".") and name.endswith((".part", ".tmp")):
            yield f"a temporary under a final folder: {entry.path}"


def i5_runs_are_counted(facts: Facts) -> Iterator[str]:
    """Runs the handler counted <= attempts <= max_attempts; failures <= max_failures; no attempt number twice."""
    for row in facts.rows:
        most_attempts = facts.limit(row["inbox"], "max_attempts", 10)
        most_failures = facts.limit(row["inbox"], "max_failures", 3)
        if row["attempts"] > most_attempts:
            yield f"{_say(row)}: {row['attempts']} attempts, {most_attempts} allowed"
        if row["failures"] > most_failures:
            yield f"{_say(row)}: {row['failures']} failures, {most_failures} allowed"
        if row["failures"] > row["attempts"]:
            yield f"{_say(row)}: {row['failures']} failures in {row['attempts']} attempts"
        starts = facts.starts.get(row["id"], [])
        if len(starts) > row["attempts"]:
            yield f"{_say(row)}: the handler ran {len(starts)} times, {row['attempts']} attempts are recorded"
        twice = [number for number, count in Counter(line["attempt"] for line in starts).items() if count > 1]
        if twice:
            yield f"{_say(row)}: attempts {twice} were run more than once"
    for file_id in facts.starts.keys() - facts.by_id.keys():
        yield f"the handler ran on {file_id}, which has no row"


def i6_one_good_run(facts: Facts) -> Iterator[str]:
    """What the handler finished counts: `processed` needs a good run; in calm times exactly one, and no other end."""
    if facts.evidence.witness is None:
        return
    for row in facts.rows:
        good = facts.good_ends[row["id"]]
        processed = row["state"] == "DONE" and row["reason"] == "processed"
        if processed and not good:
            yield f"{_say(row)}: processed, and the handler never came to a good end"
        if facts.evidence.calm and good > 1:
            yield f"{_say(row)}: {good} good runs in calm times"
        if facts.evidence.calm and good and row["state"] == "DONE" and row["outcome"] != "processed":
            yield f"{_say(row)}: a good run, and it went to {row['outcome']} ({row['reason']})"


def i7_nothing_missing(facts: Facts) -> Iterator[str]:
    """Every dropped file is somewhere; when all had time to finish, at its end."""
    yield from sendchecks.missing_results(facts)
    manifest = facts.evidence.manifest
    if manifest is None:
        return
    missing = _dropped(facts) - _found(facts)
    excused = Counter((row["inbox"], row["folder"], row["name"]) for row in facts.rows if _excused(facts, row))
    excused.update((item["inbox"], "", item["name"]) for item in facts.items if item["state"] == "ABANDONED")
    for entry in (*manifest, *(facts.evidence.offered if facts.evidence.finished else ())):
        place = (entry.inbox, entry.folder, entry.name)
        if missing[entry.inbox, entry.sha256] and not excused[place]:
            yield f"{entry.inbox}: {entry.name!r} (content {entry.sha256[:12]}) is nowhere"
        elif missing[entry.inbox, entry.sha256]:
            missing[entry.inbox, entry.sha256] -= 1
            excused[place] -= 1
    if facts.evidence.finished:
        yield from _unfinished(facts)


def _excused(facts: Facts, row: Row) -> bool:
    return row["state"] == "DONE" and (row["reason"] == SPOILT or row["id"] in facts.evidence.taken)


def _unfinished(facts: Facts) -> Iterator[str]:
    dropped = _dropped(facts)
    for entry in facts.of_kind("inbound"):
        if (entry.inbox, entry.sha256) in dropped:
            yield f"still in inbound/: {entry.path}"
    for row in facts.rows:
        if row["state"] in OPEN:
            yield f"{_say(row)} has not come to an end"


def i8_no_early_ack(facts: Facts) -> Iterator[str]:
    """No item is acknowledged before its bytes and its row are safe; and what came from a source is an item."""
    yield from itemchecks.early_acks(facts)
    yield from itemchecks.unknown_files(facts)
    yield from sendchecks.unasked(facts)


def i9_acked_in_the_end(facts: Facts) -> Iterator[str]:
    """Every accepted item is acknowledged at least once, when all had time to finish."""
    yield from itemchecks.missing_acks(facts)
    yield from sendchecks.unheard(facts)


def i10_legal_path(facts: Facts) -> Iterator[str]:
    """Every row tells a story that the lifecycle allows."""
    for row in facts.rows:
        for fault in _illegal(row):
            yield f"{_say(row)}: {fault}"
        late = [line for line in facts.starts.get(row["id"], ()) if row["state"] == "DONE" and _after(line, row)]
        if late:
            yield f"{_say(row)}: the handler ran {len(late)} times after the outcome was decided"
    for failure in facts.ledger.failures:
        if failure["ending"] not in ENDINGS:
            yield f"a failed attempt of {failure['file_id']} ended {failure['ending']!r}"
    for item in facts.items:
        yield from (f"{itemchecks.tell(item)}: {fault}" for fault in itemchecks.illegal(item))
    yield from sendchecks.illegal(facts)


def _after(line: dict[str, Any], row: Row) -> bool:
    return bool(row["finished_at"] is not None and line["at"] > row["finished_at"])


def _illegal(row: Row) -> Iterator[str]:
    decided = row["state"] in ("DECIDED", "DONE")
    if row["state"] not in OPEN | FINAL:
        yield "no such state"
    if decided and (row["outcome"] not in PLACE_OF or not row["destination"] or row["finished_at"] is None):
        yield f"decided without outcome, destination or time: {row['outcome']}, {row['destination']!r}"
    if row["state"] in OPEN - {"DECIDED"} and row["outcome"] is not None:
        yield f"has the outcome {row['outcome']} already"
    if row["reason"] == "processed" and decided and row["attempts"] < 1:
        yield "processed without an attempt"
    if row["state"] == "RUNNING" and row["attempts"] < 1:
        yield "running, and no attempt is counted"
    if row["outcome"] == "quarantine" and row["attempts"]:
        yield "in quarantine, and a handler has seen it"
    if row["state"] == "DONE" and row["finished_at"] is not None and row["finished_at"] < row["claimed_at"]:
        yield "finished before it was claimed"


def i11_same_bytes(facts: Facts) -> Iterator[str]:
    """The hash at the destination is the hash of what was dropped, of what the handler read, of what the row says."""
    dropped = _dropped(facts)
    for row in facts.rows:
        entry = facts.destination(row) if row["state"] == "DONE" and row["reason"] != SPOILT else None
        if entry is None or entry.sha256 is None:
            continue
        if row.get("sha256") not in (None, entry.sha256):
            yield f"{_say(row)}: the row says {row['sha256'][:12]}, delivered is {entry.sha256[:12]}"
        if any(line["sha256"] != entry.sha256 for line in facts.starts.get(row["id"], ())):
            yield f"{_say(row)}: the handler read other bytes than were delivered"
        if facts.evidence.manifest is not None and (row["inbox"], entry.sha256) not in dropped:
            yield f"{_say(row)}: delivered bytes that nobody dropped"


def i12_sound_ledger(facts: Facts) -> Iterator[str]:
    """The ledger is whole, its log bounded, its totals equal to its rows."""
    for problem in facts.ledger.problems:
        yield f"integrity_check: {problem}"
    if facts.ledger.wal_size > WAL_LIMIT:
        yield f"the write-ahead log has {facts.ledger.wal_size} bytes"
    counted = Counter((row["inbox"], row["outcome"]) for row in facts.rows if row["outcome"])
    told = Counter({(row["inbox"], row["outcome"]): row["files"] for row in facts.ledger.totals})
    for key in sorted(counted.keys() | told.keys()):
        if counted[key] != told[key]:
            yield f"totals of {key} say {told[key]}, there are {counted[key]} rows"


def i13_no_survivors(facts: Facts) -> Iterator[str]:
    """Every process that holds the generation lock belongs to the daemon that runs now."""
    for pid in holders(facts.state / "generation.lock"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            family = {pid, *(parent.pid for parent in process.parents())}
            if facts.evidence.daemon not in family:
                yield f"process {pid} ({' '.join(process.cmdline())[:80]}) outlived its daemon"


def holders(lock: Path) -> Iterator[int]:
    """Processes that have the file open; only our own user's can be seen (proc(5))."""
    if not lock.exists():
        return
    wanted = os.stat(lock)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), wanted):
                        yield int(pid)
                        break


def i14_back_to_baseline(facts: Facts) -> Iterator[str]:
    """Descriptors, threads and memory of the daemon are what they were."""
    before, pid = facts.evidence.before, facts.evidence.daemon
    if before is None or pid is None:
        return
    now = Footprint.of(pid)
    if now.fds > before.fds + 8:
        yield f"{now.fds} open descriptors, {before.fds} before"
    if now.threads > before.threads + 2:
        yield f"{now.threads} threads, {before.threads} before"
    if now.rss > before.rss * 1.5 + (32 << 20):
        yield f"{now.rss >> 20} MiB of memory, {before.rss >> 20} before"


def _say(row: Row) -> str:
    return f"{row['id']} ({row['inbox']}: {row['name']!r}, {row['state']}, attempt {row['attempts']})"


CHECKS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    i1_one_place,
    i2_work_and_rows,
    i3_done_is_there,
    i4_no_leftovers,
    i5_runs_are_counted,
    i6_one_good_run,
    i7_nothing_missing,
    i8_no_early_ack,
    i9_acked_in_the_end,
    i10_legal_path,
    i11_same_bytes,
    i12_sound_ledger,
    i13_no_survivors,
    i14_back_to_baseline,
)


def violations(config: Path, evidence: Evidence | None = None) -> list[str]:
    """Everything that does not hold, as "I7: ..."; an empty list when all is well."""
    facts = Facts(config, evidence or Evidence())
    return [f"{check.__name__.split('_')[0].upper()}: {fault}" for check in CHECKS for fault in check(facts)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check the fourteen invariants of an inboxd installation.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--manifest", type=Path, help="files that were dropped (tests/support/load.py)")
    parser.add_argument("--witness", type=Path, help="lines of the witness handler")
    parser.add_argument("--calm", action="store_true", help="nothing was killed or stopped meanwhile")
    parser.add_argument("--finished", action="store_true", help="everything had time to come to its end")
    parser.add_argument("--daemon", type=int, help="pid of the daemon that runs now")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    evidence = Evidence(
        manifest=read_manifest(arguments.manifest) if arguments.manifest else None,
        witness=read_witness(arguments.witness) if arguments.witness else None,
        calm=arguments.calm,
        finished=arguments.finished,
        daemon=arguments.daemon,
    )
    found = violations(arguments.config, evidence)
    for fault in found:
        print(fault.encode("utf-8", "backslashreplace").decode())
    print(f"{len(found)} violations of {len(CHECKS)} invariants")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
