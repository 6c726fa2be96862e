"""Configuration, ledger and folders, read once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inboxd.checker.evidence import Evidence
from inboxd.checker.ledger import Ledger, Row

KINDS = ("inbound", "work", "processed", "errors", "quarantine", "outbound", "incoming")
PLACE_OF = {"processed": "processed", "error": "errors", "quarantine": "quarantine"}
_PROBE = ".inboxd-rename-"  # of a start that was killed; the next one removes it


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of one inbox."""

    folders: Mapping[str, Path]  # by kind
    max_attempts: int = 10
    max_failures: int = 3
    keeps: bool = True  # no retention removes its files


@dataclass(frozen=True, slots=True)
class Installation:
    """Where everything is. `ledger`: the path of a SQLite file, or a URL."""

    state: Path
    ledger: str
    inboxes: Mapping[str, Rules]

    @classmethod
    def read(cls, config: Path) -> Installation:
        """As a plain configuration says. Raises OSError, yaml.YAMLError."""
        import yaml

        base = config.resolve().parent
        settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
        state = base / settings.get("state", "var/state")
        ledger: str = settings.get("ledger", "sqlite")
        return cls(
            state=state,
            ledger=str(state / "ledger.sqlite") if ledger == "sqlite" else ledger,
            inboxes={name: _rules(base, rules) for name, rules in settings["inboxes"].items()},
        )


def _rules(base: Path, rules: dict[str, Any]) -> Rules:
    retry = rules.get("retry", {})
    return Rules(
        folders={kind: base / rules.get(kind, os.path.join(rules.get("root", ""), kind)) for kind in KINDS},
        max_attempts=int(retry.get("max_attempts", 10)),
        max_failures=int(retry.get("max_failures", 3)),
        keeps=not rules.get("retention"),
    )


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
        """Device and number."""
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
        """It tells of another file."""
        return self.kind == "errors" and self.relative.endswith(".error.json")

    @property
    def is_draft(self) -> bool:
        """In work/: a result, a sidecar on its way, a copy that has not taken its file's place. There and in inbound/
        the empty file by which a start tries a rename, and which a power cut may leave."""
        first = self.relative.split("/")[0]
        if self.kind in ("inbound", "work") and first.startswith(".inboxd-rename-"):
            return True
        unfinished = first.endswith(("-copy", "-unsynced", ".error.json", ".part"))
        return self.is_result or (self.kind == "work" and unfinished)

    @property
    def is_result(self) -> bool:
        """In work/, below what a handler has left."""
        return self.kind == "work" and self.relative.startswith("results/")

    @property
    def file_id(self) -> str:
        """Of something in work/: the id of the file that it is, or belongs to."""
        return self.relative.removeprefix("results/")[:32]


class Facts:
    """All that the checks look at."""

    def __init__(self, installation: Installation, evidence: Evidence) -> None:
        self.evidence = evidence
        self.state = installation.state
        self.inboxes = installation.inboxes
        self.ledger = Ledger(installation.ledger, evidence.newest)
        self.rows = self.ledger.rows
        self.entries = [entry for name in self.inboxes for kind in KINDS for entry in self._look(name, kind)]

    def _look(self, inbox: str, kind: str) -> Iterator[Entry]:
        """Where only the newest rows are looked at, only their files are, among all that are processed."""
        top = self.inboxes[inbox].folders[kind]
        some = kind == "processed" and self.evidence.newest is not None
        for relative in self._destinations(inbox, kind) if some else entries_below(top):
            if kind == "work" and relative.startswith(_PROBE):
                continue
            path = os.path.join(top, relative)
            with contextlib.suppress(FileNotFoundError):  # it may have gone on, or be tidied up by a fetcher
                yield Entry(inbox, kind, relative, path, os.lstat(path))

    def _destinations(self, inbox: str, kind: str) -> set[str]:
        """Each once, though the files of several rows may have lain there, one after the other."""
        return {row["destination"] for row in self.rows if row["destination"] and _place(row)[:2] == (inbox, kind)}

    def of_kind(self, *kinds: str) -> Iterator[Entry]:
        """What lies in the folders of these kinds."""
        return (entry for entry in self.entries if entry.kind in kinds)

    @cached_property
    def by_place(self) -> dict[tuple[str, str, str], Entry]:
        """By inbox, kind and path below the folder."""
        return {(entry.inbox, entry.kind, entry.relative): entry for entry in self.entries}

    def destination(self, row: Row) -> Entry | None:
        """What lies where the row says that the file went."""
        return self.by_place.get(_place(row))

    def may_have_given_way(self, row: Row) -> bool:
        """It may be taken, and another has ended in its place since: what lies there now is not of this row."""
        return self.evidence.may_be_taken(row["id"]) and self._last[_place(row)] is not row

    @cached_property
    def _last(self) -> dict[tuple[str, str, str], Row]:
        """By place, the row that ended there last. What is decided and still in work/ has not."""
        last: dict[tuple[str, str, str], Row] = {}
        for row in self.rows:
            if row["state"] != "DONE" and (row["state"] != "DECIDED" or row["id"] in self.held):
                continue
            other = last.setdefault(_place(row), row)
            if (other["finished_at"] or 0.0, other["id"]) < (row["finished_at"] or 0.0, row["id"]):
                last[_place(row)] = row
        return last

    def is_known_aside(self, entry: Entry) -> bool:
        """A row says that it ended here, in errors/ or quarantine/, however old that is."""
        return (entry.inbox, entry.kind, entry.relative) in self._aside

    @cached_property
    def _aside(self) -> set[tuple[str, str, str]]:
        return {(inbox, PLACE_OF.get(outcome, ""), place) for inbox, outcome, place in self.ledger.aside}

    @cached_property
    def held(self) -> dict[str, Entry]:
        """What lies in work/ under an id; drafts and results left out."""
        return {entry.file_id: entry for entry in self.of_kind("work") if not entry.is_draft}

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """The rows of files."""
        return {row["id"]: row for row in self.rows}

    @property
    def ledger_is_gone(self) -> bool:
        """It has been here: its identity, which is kept beside it, says so."""
        known = self.state / "ledger.id"
        return not self.ledger.tables and known.exists() and known.stat().st_size > 0

    @property
    def on_their_way(self) -> int:
        """How many files have been accepted, and have not come to an end."""
        return sum(bool(row["open"]) for row in self.rows)

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


def _place(row: Row) -> tuple[str, str, str]:
    """As `by_place` has it; of no entry while nothing is decided."""
    return (row["inbox"], PLACE_OF.get(row["outcome"] or "", ""), row["destination"] or "")


def entries_below(top: Path) -> Iterator[str]:
    """Every entry below `top` that is no folder, as a path relative to it; names as os.fsdecode gives them."""
    stack = [""]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(top / folder) as found:
                for entry in found:
                    relative = os.path.join(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(relative)
                    else:
                        yield relative
        except FileNotFoundError:
            continue
