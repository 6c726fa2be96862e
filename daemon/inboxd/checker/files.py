"""I1 to I7, I10 and I11: what must hold of files, their rows and their runs."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from inboxd.checker import items, sends
from inboxd.checker.facts import PLACE_OF, Entry, Facts
from inboxd.checker.ledger import Row

OPEN = {"CLAIMING", "CLAIMED", "RUNNING", "WAITING", "DECIDED"}
HELD = {"CLAIMED", "RUNNING", "WAITING"}
FINAL = {"DONE", "ABANDONED", "LOST"}
ENDINGS = {
    "processed", "rejected", "retry", "failed", "crashed", "timed out", "input changed", "released", "unavailable",
    "broken", "done", "hashed", "copied",
}  # fmt: skip
#: The handler destroyed or changed these itself: their bytes are no longer ours to promise.
SPOILT = "input changed"
_ALARM = 86400.0  # seconds for which a loss is told again and again


def i1_one_place(facts: Facts) -> Iterator[str]:
    """Each file is in at most one of work, processed, errors and quarantine, and but in quarantine nowhere twice."""
    places: dict[tuple[int, int], list[str]] = defaultdict(list)
    aside = set()
    for entry in facts.of_kind("work", "processed", "errors", "quarantine"):
        if entry.is_draft and entry.relative.endswith(".error.json"):
            continue  # after a power cut the sidecar, too, may have both names until its file is delivered
        places[entry.inode].append(entry.path)
        if entry.kind == "quarantine":
            aside.add(entry.path)
    for paths in places.values():
        if len(paths) > 1 and not aside.issuperset(paths):
            yield f"one file under {len(paths)} names: {paths}"
    if facts.evidence.manifest is not None:
        for (inbox, digest), more in (_found(facts) - _dropped(facts)).items():
            yield f"{more} more of {inbox}'s content {digest[:12]} than were dropped: {_where(facts, inbox, digest)}"


def _dropped(facts: Facts) -> Counter[tuple[str, str]]:
    return Counter((entry.inbox, entry.sha256) for entry in (*(facts.evidence.manifest or ()), *facts.evidence.offered))


def _found(facts: Facts) -> Counter[tuple[str, str]]:
    """Contents in all places a dropped file may be in."""
    known = _dropped(facts)
    entries = facts.of_kind("inbound", "work", "processed", "errors", "quarantine")
    whole = (entry for entry in entries if not entry.is_draft)
    return Counter(place for entry in whole if (place := (entry.inbox, entry.sha256 or "")) in known)


def _where(facts: Facts, inbox: str, digest: str) -> list[str]:
    return [entry.path for entry in facts.entries if (entry.inbox, entry.sha256) == (inbox, digest)]


def i2_work_and_rows(facts: Facts) -> Iterator[str]:
    """Each file in work has an open row; each open row has a file or a state that explains its absence."""
    for file_id, entry in facts.held.items():
        row = facts.by_id.get(file_id, {})
        if row.get("state") not in OPEN and not _is_being_retried(facts, row):
            yield f"in work/ without an open row: {entry.path}"
    unknown = Counter(row["inbox"] for row in facts.rows if row["state"] in OPEN and row["inbox"] not in facts.inboxes)
    for inbox, count in unknown.items():
        yield f"inbox {inbox}, with {count} unfinished {'file' if count == 1 else 'files'}, is not in the configuration"
    for row in facts.rows:
        if row["inbox"] in unknown:
            continue
        there = row["id"] in facts.held
        if row["state"] in HELD and not there:
            yield f"{_say(row)} has no file in work/"
        if row["state"] == "DECIDED" and not there and facts.destination(row) is None and row["reason"] != SPOILT:
            yield f"{_say(row)} is neither in work/ nor at its destination"
        if row["state"] == "LOST" and not (facts.evidence.lived and time.time() - row["finished_at"] > _ALARM):
            yield f"{_say(row)} was lost"


def _is_being_retried(facts: Facts, row: Row) -> bool:
    """An error on its way back into work/, cut off before its row could follow."""
    is_error = row.get("state") == "DONE" and row["outcome"] == "error"
    return is_error and row["id"] in facts.held and facts.destination(row) is None


def i3_done_is_there(facts: Facts) -> Iterator[str]:
    """DONE means that the accepted file lies at its destination; and nothing lies there that no row knows."""
    known = set()
    for row in facts.rows:
        if row["state"] not in ("DONE", "DECIDED"):
            continue
        entry = facts.destination(row)
        if entry is not None:
            known.add(entry.path)
        if row["state"] == "DECIDED" or row["reason"] == SPOILT:
            continue
        if not facts.evidence.may_be_taken(row["id"]):
            yield from _misplaced(facts, row, entry)
        elif entry is not None and entry.status.st_size != row["size"] and not facts.may_have_given_way(row):
            yield _other_size(row, entry)
    for entry in facts.of_kind("processed", "errors", "quarantine"):
        if entry.path not in known and not entry.is_sidecar and not facts.is_known_aside(entry):
            yield f"no row knows {entry.path}"


def _misplaced(facts: Facts, row: Row, entry: Entry | None) -> Iterator[str]:
    """`entry`: what lies where the row, DONE, says that the file went."""
    if entry is None:
        if not _is_being_retried(facts, row):
            yield f"{_say(row)} is not at its destination {row['destination']!r}"
    elif entry.status.st_ino != row["ino"]:  # its device may have another number since the last boot
        yield f"{_say(row)}: another file lies at its destination {entry.path}"
    elif entry.status.st_size != row["size"]:
        yield _other_size(row, entry)


def _other_size(row: Row, entry: Entry) -> str:
    return f"{_say(row)}: {row['size']} bytes were accepted, and {entry.path} has {entry.status.st_size}"


def i4_no_leftovers(facts: Facts) -> Iterator[str]:
    """No temporary of a daemon that is gone."""
    yield from items.leftovers(facts)
    kept = sends.kept(facts)
    for entry in facts.of_kind("work"):
        if entry.file_id in kept and entry.is_result:
            continue
        if entry.is_draft and facts.by_id.get(entry.file_id, {}).get("state") not in OPEN:
            yield f"left in work/: {entry.path}"
    for entry in facts.of_kind("processed", "errors", "quarantine", "outbound"):
        name = os.path.basename(entry.relative)
        if name.startswith(".") and name.endswith((".part", ".tmp")):
            yield f"a temporary under a final folder: {entry.path}"


def i5_runs_are_counted(facts: Facts) -> Iterator[str]:
    """Runs the handler counted <= attempts <= max_attempts; failures <= max_failures; no attempt number twice."""
    for row in facts.rows:
        rules = facts.inboxes.get(row["inbox"])
        most_attempts, most_failures = (rules.max_attempts, rules.max_failures) if rules else (10, 3)
        limited = row["state"] in OPEN or not facts.evidence.lived
        if limited and row["attempts"] > most_attempts:
            yield f"{_say(row)}: {row['attempts']} attempts, {most_attempts} allowed"
        if limited and row["failures"] > most_failures:
            yield f"{_say(row)}: {row['failures']} failures, {most_failures} allowed"
        if row["failures"] > row["attempts"]:
            yield f"{_say(row)}: {row['failures']} failures in {row['attempts']} attempts"
        starts = [] if facts.evidence.rebuilt else facts.starts.get(row["id"], [])
        if len(starts) > row["attempts"]:
            yield f"{_say(row)}: the handler ran {len(starts)} times, {row['attempts']} attempts are recorded"
        twice = [number for number, count in Counter(line["attempt"] for line in starts).items() if count > 1]
        if twice:
            yield f"{_say(row)}: attempts {twice} were run more than once"
    for file_id in () if facts.evidence.rebuilt else facts.starts.keys() - facts.by_id.keys():
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
    yield from sends.missing_results(facts)
    manifest = facts.evidence.manifest
    if manifest is None:
        return
    missing = _dropped(facts) - _found(facts)
    excused = Counter((row["inbox"], row["folder"], row["name"]) for row in facts.rows if _excused(facts, row))
    excused.update((item["inbox"], "", item["name"]) for item in facts.items if item["state"] == "ABANDONED")
    expected = [*manifest, *(facts.evidence.offered if facts.evidence.finished else ())]
    # Of several with the same content, those that may be gone are the ones that are.
    for entry in sorted(expected, key=lambda one: not excused[one.inbox, one.folder, one.name]):
        place = (entry.inbox, entry.folder, entry.name)
        if missing[entry.inbox, entry.sha256] and not excused[place]:
            yield f"{entry.inbox}: {entry.name!r} (content {entry.sha256[:12]}) is nowhere"
        elif missing[entry.inbox, entry.sha256]:
            missing[entry.inbox, entry.sha256] -= 1
            excused[place] -= 1
    if facts.evidence.finished:
        yield from _unfinished(facts)


def _excused(facts: Facts, row: Row) -> bool:
    return row["state"] == "DONE" and (row["reason"] == SPOILT or facts.evidence.may_be_taken(row["id"]))


def _unfinished(facts: Facts) -> Iterator[str]:
    dropped = _dropped(facts)
    for entry in facts.of_kind("inbound"):
        if (entry.inbox, entry.sha256) in dropped and not entry.is_draft:
            yield f"still in inbound/: {entry.path}"
    for row in facts.rows:
        if row["state"] in OPEN:
            yield f"{_say(row)} has not come to an end"


def i10_legal_path(facts: Facts) -> Iterator[str]:
    """Every row tells a story that the lifecycle allows."""
    for row in facts.rows:
        for fault in _illegal(row):
            yield f"{_say(row)}: {fault}"
        late = [line for line in facts.starts.get(row["id"], ()) if row["state"] == "DONE" and _after(line, row)]
        if late and not facts.evidence.set_back:
            yield f"{_say(row)}: the handler ran {len(late)} times after the outcome was decided"
    for failure in facts.ledger.failures:
        if failure["ending"] not in ENDINGS:
            yield f"a failed attempt of {failure['file_id']} ended {failure['ending']!r}"
    for item in facts.items:
        yield from (f"{items.tell(item)}: {fault}" for fault in items.illegal(item))
    yield from sends.illegal(facts)


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


def i11_same_bytes(facts: Facts) -> Iterator[str]:
    """The hash at the destination is the hash of what was dropped, of what the handler read, of what the row says."""
    dropped = _dropped(facts)
    for row in facts.rows if facts.evidence.bytes else ():
        entry = facts.destination(row) if row["state"] == "DONE" and row["reason"] != SPOILT else None
        if entry is None or entry.sha256 is None or facts.may_have_given_way(row):
            continue
        if row.get("sha256") not in (None, entry.sha256):
            yield f"{_say(row)}: the row says {row['sha256'][:12]}, delivered is {entry.sha256[:12]}"
        if any(line["sha256"] != entry.sha256 for line in facts.starts.get(row["id"], ())):
            yield f"{_say(row)}: the handler read other bytes than were delivered"
        if facts.evidence.manifest is not None and (row["inbox"], entry.sha256) not in dropped:
            yield f"{_say(row)}: delivered bytes that nobody dropped"


def _say(row: Row) -> str:
    return f"{row['id']} ({row['inbox']}: {row['name']!r}, {row['state']}, attempt {row['attempts']})"
