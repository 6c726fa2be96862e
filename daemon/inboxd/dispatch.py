"""Between the pipeline and the pool: which batches go out, and what their reports change.

No file is moved here. `conclude` reads the ledger; rows are written by what it and `form` return, in the pipeline's
transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from inboxd import events, wire
from inboxd.batching import shares
from inboxd.clock import Clock
from inboxd.conclude import ended
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.custody.outcomes import Outcomes, Run
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.lifecycle import as_lost
from inboxd.model import Concluded, Ending, InboxFile, Outcome, Report, Sighting, State, called_twin, new_id

_MOST_NAMED = 400  # files in one line of the log, as in story.py


class PoolFront(Protocol):
    """What the pipeline knows of the pool; nothing here says that a worker is local."""

    def free(self) -> int:
        """How many orders it would take now."""

    def idle(self) -> int:
        """How many workers wait for one."""

    def dispatch(self, order: wire.Order) -> None:
        """Have an order run."""

    def reports(self) -> list[tuple[str, Report]]:
        """What has been reported since the last call: (batch id, report)."""


@dataclass(slots=True)
class Outgoing:
    """A batch on its way to the pool. `purpose`: `run` the handler; or `hash`, for the duplicates policy, or `copy`."""

    id: str
    lane: Lane
    files: list[InboxFile]  # the new records for "run", else the old ones
    before: list[InboxFile]
    purpose: str

    def write(self, ledger: Ledger) -> None:
        """RUNNING, before the worker hears of it. Reading or copying a file is no attempt."""
        if self.purpose == "run":
            ledger.dispatch(self.files)


@dataclass(slots=True)
class Running:
    """A batch that the pool has."""

    lane: Lane
    files: dict[str, InboxFile]
    purpose: str
    bisected: list[InboxFile] = field(default_factory=list)
    halved: Report | None = None  # why: one of the reports that ask for it
    sightings: dict[str, Sighting] = field(default_factory=dict)


@dataclass(slots=True)
class Conclusions:
    """What the reports of one turn change, before and after it is committed."""

    reports: list[tuple[str, Report]]
    hashed: list[tuple[Lane, InboxFile]]
    concluded: list[tuple[Lane, Report, Concluded]]
    duplicates: list[tuple[Lane, InboxFile, InboxFile]]  # a file, and its twin that was processed

    def write(self, ledger: Ledger) -> None:
        """In the open transaction."""
        by_verb: dict[str, list[InboxFile]] = {"decide": [], "wait": [], "release": [], "lose": []}
        for _lane, _report, one in self.concluded:
            by_verb[one.verb].append(one.file)
        ledger.decide(by_verb["decide"])
        ledger.wait(by_verb["wait"])
        ledger.release(by_verb["release"])
        ledger.lose(by_verb["lose"])
        ledger.failed([one.failure for _lane, _report, one in self.concluded if one.failure])


class Dispatcher:
    """Forms batches, hands them to the pool, and judges what comes back."""

    def __init__(self, pool: PoolFront, batch_size: int, clock: Clock, outcomes: Outcomes, *, durable: bool) -> None:
        self.batch_size = batch_size
        self.reported: list[tuple[str, Report]] = []
        self._pool = pool
        self._clock = clock
        self._outcomes = outcomes
        self._kept = 0  # so many of `reported` are written down in the outcome log
        self._durable = durable
        self._running: dict[str, Running] = {}
        self._hashed: list[tuple[Lane, InboxFile]] = []  # their twin is still to be looked for
        self._turn = 0

    def busy(self) -> bool:
        """Something is out, or has come back and is not judged."""
        return bool(self._running or self.reported)

    def has(self, lane: Lane) -> bool:
        """Something of this inbox is out, or has come back and is not judged."""
        return any(lane is running.lane for running in self._running.values()) or any(
            lane is one for one, _file in self._hashed
        )

    def collect(self) -> None:
        """A turn begins: take in what the pool has to report."""
        self._turn += 1
        self.reported += [(batch, self._unblamed(batch, report)) for batch, report in self._pool.reports()]
        if self.reported:
            failpoint("decide.reported")

    def keep(self) -> str:
        """The ledger is away: write down beside it what runs have come to. Where that can't be done, why; else ""."""
        ended = [
            (Run.of(self._running[batch].files[report.file_id]), report)
            for batch, report in self.reported[self._kept :]
            if self._running[batch].purpose == "run" and report.ending is not Ending.MISSING
        ]
        self._sync_results(self.reported[self._kept :])
        trouble = self._outcomes.keep(ended)
        if not trouble:
            self._kept = len(self.reported)
        return trouble

    def _sync_results(self, reported: Iterable[tuple[str, Report]]) -> None:
        if self._durable:
            for lane in {self._running[batch].lane for batch, report in reported if report.results}:
                lane.deliveries.results.sync()

    def pending(self) -> bool:
        """There is something for `conclude`."""
        return bool(self.reported or self._hashed)

    # Which batches go out

    def in_turn(self, lanes: Iterable[Lane]) -> list[Lane]:
        """By priority; of equals, who was served longest ago is first, and one that is flooded gets what is left."""
        return sorted(lanes, key=lambda lane: (-lane.rules.priority, lane.served))

    def room(self, lanes: Iterable[Lane]) -> int:
        """How many more files the pool could take soon. What an inbox holds and may not run now is in nobody's way."""
        free, now = self._pool.free(), self._clock.monotonic()
        holding = [lane for lane in lanes if lane.held and lane.may_run(now)]
        taken = [min(len(lane.held), lane.batches_allowed(free) * self.batch_size) for lane in holding]
        return max(0, free * self.batch_size - sum(taken))

    def form(self, lanes: Iterable[Lane]) -> list[Outgoing]:
        """Cut what is held into batches for the workers that are free."""
        idle, room, now = self._pool.idle(), self._pool.free(), self._clock.monotonic()
        outgoing: list[Outgoing] = []
        for lane in self.in_turn(lanes):
            if room <= 0:
                break
            self._hashed += [(lane, file) for file in lane.take_hashed()]
            if not lane.may_run(now):
                continue
            # Where others have all workers, one that has nothing under way need not gather until a batch is full.
            waits = bool(self._running) and not lane.running
            for files in lane.form(max(idle, waits), room, self.batch_size):
                outgoing.append(self._outgoing(lane, files))
                idle, room = max(0, idle - 1), room - 1
        return outgoing

    def _outgoing(self, lane: Lane, files: list[InboxFile]) -> Outgoing:
        now = self._clock.time()
        batch = new_id(now)
        purpose = lane.purpose_of(files[0])
        if purpose != "run":
            return Outgoing(batch, lane, files, files, purpose)
        started = [
            file._replace(state=State.RUNNING, batch=batch, attempts=file.attempts + 1, started_at=now)
            for file in files
        ]
        return Outgoing(batch, lane, started, files, "run")

    def unform(self, outgoing: Iterable[Outgoing]) -> None:
        """The commit failed: these files wait on."""
        for batch in outgoing:
            batch.lane.held.extendleft(reversed(batch.before))

    def dispatch(self, batch: Outgoing) -> None:
        """To the pool, now that the ledger knows."""
        lane = batch.lane
        lane.dispatched(batch.files, recorded=batch.purpose == "run")
        lane.served = self._turn
        self._running[batch.id] = Running(lane, {file.id: file for file in batch.files}, batch.purpose)
        work = str(lane.work)
        files = tuple(_ordered(work, file) for file in batch.files)
        digest = {"hash": "sha256", "copy": lane.copies_with}.get(batch.purpose, "")
        self._pool.dispatch(wire.Order(batch.id, lane.name, files, digest, copy=batch.purpose == "copy"))

    def verify(self, lane: Lane) -> None:
        """Have contents read that a checksum speaks for; the files still lie in inbound/, and are not ours."""
        sightings = lane.view.to_hash() if self._pool.free() > 0 else []
        for some in shares(sightings, partial(_size_to_verify, lane), len(sightings), wire.LARGEST_FILES):
            batch, now = new_id(), self._clock.time()
            named = {new_id(now): sighting for sighting in some}
            files = tuple(_to_verify(lane, file_id, sighting) for file_id, sighting in named.items())
            self._running[batch] = Running(lane, {}, "verify", sightings=named)
            lane.running += 1
            lane.served = self._turn
            self._pool.dispatch(wire.Order(batch, lane.name, files, hash=lane.digest))

    # What reports change

    def conclude(self, ledger: Ledger, now: float) -> Conclusions:
        """Judge what has been reported; changes nothing yet. `now`: wall clock, seconds.

        What handlers have left is durable when this returns: once it is recorded that they did, they don't run again.
        """
        self._sync_results(self.reported)
        conclusions = Conclusions(list(self.reported), list(self._hashed), [], [])
        for batch, report in self.reported:
            running = self._running[batch]
            if running.purpose == "run":
                file = running.files[report.file_id]
                one = running.lane.judge(file, report, now)
                conclusions.concluded.append((running.lane, report, one))
            elif running.purpose == "verify":
                continue
            elif report.ending is Ending.MISSING:
                one = Concluded(as_lost(running.files[report.file_id], now), "lose")
                conclusions.concluded.append((running.lane, report, one))
            elif why := _why_unreadable(running, report):
                one = _unreadable(running, report._replace(message=why), now)
                conclusions.concluded.append((running.lane, report, one))
        for lane, file in self._hashed:
            twin = self._twin(ledger, lane, file, now)
            if twin is not None:
                conclusions.duplicates.append((lane, file, twin))
                conclusions.concluded.append((lane, Report(file.id, Ending.HASHED), _duplicate(lane, file, twin, now)))
        return conclusions

    def _twin(self, ledger: Ledger, lane: Lane, file: InboxFile, now: float) -> InboxFile | None:
        window = lane.rules.duplicates.window
        assert file.sha256 is not None  # it comes from a hash report
        return ledger.twin(lane.name, file.sha256, now - window if window else 0.0, file.id)

    def apply(self, conclusions: Conclusions) -> list[Concluded]:
        """The commit is through: memory follows."""
        judged = {one.file.id for _lane, _report, one in conclusions.concluded}
        for batch, report in conclusions.reports:
            self._note(batch, report, judged)
        del self.reported[: len(conclusions.reports)]
        self._kept = max(0, self._kept - len(conclusions.reports))
        if self._outcomes.is_open and not self.reported:
            self._outcomes.clear()
        for lane, file in conclusions.hashed:
            if file.id not in judged:
                lane.run_or_park(file)
        del self._hashed[: len(conclusions.hashed)]
        for lane, file, twin in conclusions.duplicates:
            emit(
                events.FILE_DUPLICATE, inbox=lane.name, file_id=file.id, file=file.below, other=twin.id,
                policy=lane.rules.duplicates.policy,
            )  # fmt: skip
        for lane, report, one in conclusions.concluded:
            self._follow(lane, report, one)
        return [one for _lane, _report, one in conclusions.concluded]

    def _note(self, batch: str, report: Report, judged: set[str]) -> None:
        """Take one report off the books of its batch."""
        running = self._running[batch]
        lane = running.lane
        if running.purpose == "verify":
            sighting = running.sightings.pop(report.file_id)
            lane.view.hashed(sighting, _digest(lane, report))
        else:
            file = running.files.pop(report.file_id)
            lane.running_files -= 1
            if running.purpose != "run" and file.id not in judged:
                self._note_content(lane, file, report)
            elif report.bisect:
                running.halved = report
                running.bisected.append(file._replace(state=State.CLAIMED, attempts=max(0, file.attempts - 1)))
        if not (running.files or running.sightings):
            lane.running -= 1
            if running.halved is not None:
                _tell_halved(lane, batch, running.bisected, running.halved)
                lane.bisect(running.bisected)
            del self._running[batch]

    def _note_content(self, lane: Lane, file: InboxFile, report: Report) -> None:
        """A worker has read or copied it, or was cut off."""
        sha256 = (report.result or {}).get("sha256") or file.sha256
        if report.ending is Ending.COPIED:
            lane.copied.append(file._replace(sha256=sha256))
        elif report.ending is Ending.HASHED:
            self._hashed.append((lane, file._replace(sha256=sha256)))
        else:
            lane.held.append(file)
            self._rest_if_away(lane, report)

    def _unblamed(self, batch: str, report: Report) -> Report:
        """A worker blames a file that is not there any more, or can't be read; but it may be the disk that has gone."""
        running = self._running[batch]
        blames = report.ending in (Ending.INPUT_CHANGED, Ending.MISSING)
        blames = blames or (report.ending is Ending.FAILED and running.purpose != "run")
        if not blames or running.lane.claims.work.is_home():
            return report
        return report._replace(ending=Ending.UNAVAILABLE, message="its disk went away while it ran")

    def _follow(self, lane: Lane, report: Report, one: Concluded) -> None:
        """One file's new state, in memory."""
        if not report.bisect:
            lane.run_is_over(one.file)
        if one.verb == "decide":
            lane.decided.append(one.file)
            if report.results or report.ending is not Ending.PROCESSED:  # a run that died may have left some
                lane.with_results.add(one.file.id)
        elif one.verb == "wait":
            lane.retrying += 1
            lane.next_waiting = min(lane.next_waiting, one.file.not_before)
        elif one.verb == "release" and not report.bisect:
            lane.held.append(one.file)
        if report.ending is Ending.BROKEN and lane.paused is None:
            emit(events.HANDLER_BROKEN, inbox=lane.name, message=report.message)
            remedy = "mend that, then `inboxd reload`"
            lane.pause(f"its handler can't be run: {report.message}; {remedy}", broken=True)
        elif report.ending is not Ending.UNAVAILABLE and report.begun:
            lane.rested()
        else:
            self._rest_if_away(lane, report)

    def _rest_if_away(self, lane: Lane, report: Report) -> None:
        if report.ending is Ending.UNAVAILABLE and lane.may_run(self._clock.monotonic()):
            lane.rest(self._clock.monotonic(), report.message)


def _tell_halved(lane: Lane, batch: str, files: Sequence[InboxFile], why: Report) -> None:
    emit(
        events.BATCH_HALVED, inbox=lane.name, batch=batch, count=len(files), message=why.message, detail=why.detail,
        pid=why.pid or None, file_id=[file.id for file in files[:_MOST_NAMED]],
    )  # fmt: skip


def _ordered(work: str, file: InboxFile) -> wire.OrderedFile:
    return wire.OrderedFile(
        id=file.id, path=f"{work}/{file.work_name}", name=file.name, size=file.size, attempt=file.attempts,
        results=f"{work}/{file.results_name}", folder=file.folder, source=file.source,
        dev=file.dev, ino=file.ino, mtime_ns=file.mtime_ns,
    )  # fmt: skip


def _to_verify(lane: Lane, file_id: str, sighting: Sighting) -> wire.OrderedFile:
    inbound = lane.rules.folder("inbound")
    path = inbound / sighting.folder / sighting.name
    return wire.OrderedFile(
        id=file_id, path=str(path), name=sighting.name, size=sighting.size, attempt=0,
        dev=sighting.dev, ino=sighting.ino, mtime_ns=sighting.mtime_ns,
    )  # fmt: skip


def _size_to_verify(lane: Lane, sighting: Sighting) -> int:
    """Bytes in an order, at most: its path, and its name once more."""
    inbound = len(str(lane.rules.folder("inbound")))
    return wire.size_at_most(inbound + len(sighting.folder) + 2 * len(sighting.name))


def _digest(lane: Lane, report: Report) -> str | None:
    """What a worker found; "" when that file can't be read, None when it was not read to its end."""
    if report.ending in (Ending.RELEASED, Ending.CRASHED):
        return None
    return str((report.result or {}).get(lane.digest, ""))


def _why_unreadable(running: Running, report: Report) -> str:
    """Why a file that was to be read or copied has no future; "" when it has."""
    if report.ending in (Ending.FAILED, Ending.TIMED_OUT):
        return report.message
    known, found = running.files[report.file_id].sha256, (report.result or {}).get("sha256")
    return "it was written to after its checksum was compared" if known and found and known != found else ""


def _unreadable(running: Running, report: Report, now: float) -> Concluded:
    file = running.files[report.file_id]._replace(message=report.message)
    return Concluded(ended(file, Outcome.ERROR, "unreadable", running.lane.rules.layout, now), "decide")


def _duplicate(lane: Lane, file: InboxFile, twin: InboxFile, now: float) -> Concluded:
    outcome = Outcome.PROCESSED if lane.rules.duplicates.policy == "skip" else Outcome.ERROR
    told = file._replace(message=called_twin(twin))
    return Concluded(ended(told, outcome, "duplicate", lane.rules.layout, now), "decide")
