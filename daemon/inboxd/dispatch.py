"""Between the pipeline and the pool: which batches go out, and what their reports change.

Nothing here touches a file. Reads of the ledger happen in `conclude`; writes only through the records it returns,
inside the pipeline's transactions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from inboxd import events, wire
from inboxd.clock import Clock
from inboxd.conclude import ended
from inboxd.custody.failpoints import failpoint
from inboxd.custody.ledger import Ledger
from inboxd.events import emit
from inboxd.lane import Lane
from inboxd.model import Concluded, Ending, InboxFile, Outcome, Report, Sighting, State, new_id


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
    """A batch on its way to the pool. `purpose`: run the handler, or only `hash` for the duplicates policy."""

    id: str
    lane: Lane
    files: list[InboxFile]  # the new records for "run", the old ones for "hash"
    before: list[InboxFile]
    purpose: str

    def write(self, ledger: Ledger) -> None:
        """RUNNING, before the worker hears of it. Reading a file for its hash is no attempt."""
        if self.purpose == "run":
            ledger.dispatch(self.files)


@dataclass(slots=True)
class Running:
    """A batch that the pool has."""

    lane: Lane
    files: dict[str, InboxFile]
    purpose: str
    bisected: list[InboxFile] = field(default_factory=list)
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
        by_verb: dict[str, list[InboxFile]] = {"decide": [], "wait": [], "release": []}
        for _lane, _report, one in self.concluded:
            by_verb[one.verb].append(one.file)
        ledger.decide(by_verb["decide"])
        ledger.wait(by_verb["wait"])
        ledger.release(by_verb["release"])
        ledger.failed([one.failure for _lane, _report, one in self.concluded if one.failure])


class Dispatcher:
    """Forms batches, hands them to the pool, and judges what comes back."""

    def __init__(self, pool: PoolFront, batch_size: int, clock: Clock) -> None:
        self.batch_size = batch_size
        self.reported: list[tuple[str, Report]] = []
        self._pool = pool
        self._clock = clock
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
        self.reported += self._pool.reports()
        if self.reported:
            failpoint("decide.reported")

    def pending(self) -> bool:
        """There is something for `conclude`."""
        return bool(self.reported or self._hashed)

    # Which batches go out

    def in_turn(self, lanes: Iterable[Lane]) -> list[Lane]:
        """By priority; equals take turns at being first."""
        listed = list(lanes)
        first = self._turn % max(1, len(listed))
        turned = listed[first:] + listed[:first]
        return sorted(turned, key=lambda lane: -lane.rules.priority)

    def room(self, lanes: Iterable[Lane]) -> int:
        """How many more files the pool could take soon."""
        return max(0, self._pool.free() * self.batch_size - sum(len(lane.held) for lane in lanes))

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
            for files in lane.form(idle, room, self.batch_size):
                outgoing.append(self._outgoing(lane, files))
                idle, room = max(0, idle - 1), room - 1
        return outgoing

    def _outgoing(self, lane: Lane, files: list[InboxFile]) -> Outgoing:
        now = self._clock.time()
        batch = new_id(now)
        if lane.wants_hash(files[0]):
            return Outgoing(batch, lane, files, files, "hash")
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
        self._running[batch.id] = Running(lane, {file.id: file for file in batch.files}, batch.purpose)
        work = str(lane.work)
        files = tuple(_ordered(work, file) for file in batch.files)
        self._pool.dispatch(wire.Order(batch.id, lane.name, files, hash="sha256" if batch.purpose == "hash" else ""))

    def verify(self, lane: Lane) -> None:
        """Have contents read that a checksum speaks for; the files still lie in inbound/, and are not ours."""
        sightings = lane.view.to_hash() if self._pool.free() > 0 else []
        if not sightings:
            return
        batch, now = new_id(), self._clock.time()
        named = {new_id(now): sighting for sighting in sightings}
        files = tuple(_to_verify(lane, file_id, sighting) for file_id, sighting in named.items())
        self._running[batch] = Running(lane, {}, "verify", sightings=named)
        lane.running += 1
        self._pool.dispatch(wire.Order(batch, lane.name, files, hash=lane.digest))

    # What reports change

    def conclude(self, ledger: Ledger, now: float) -> Conclusions:
        """Judge what has been reported; changes nothing yet. `now`: wall clock, seconds."""
        conclusions = Conclusions(list(self.reported), list(self._hashed), [], [])
        for batch, told in self.reported:
            running = self._running[batch]
            report = _unblamed(running.lane, told)
            if running.purpose == "run":
                file = running.files[report.file_id]
                one = running.lane.judge(file, report, now)
                conclusions.concluded.append((running.lane, report, one))
            elif running.purpose == "hash" and report.ending is Ending.FAILED:
                conclusions.concluded.append((running.lane, report, _unreadable(running, report, now)))
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
        for lane, file in conclusions.hashed:
            if file.id not in judged:
                lane.run_or_park(file)
        del self._hashed[: len(conclusions.hashed)]
        for lane, file, twin in conclusions.duplicates:
            emit(
                events.FILE_DUPLICATE, inbox=lane.name, file_id=file.id, file=file.name, other=twin.id,
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
            if running.purpose == "hash" and file.id not in judged:
                self._note_hash(lane, file, report)
            elif report.bisect:
                running.bisected.append(file._replace(state=State.CLAIMED, attempts=max(0, file.attempts - 1)))
        if not (running.files or running.sightings):
            lane.running -= 1
            lane.bisect(running.bisected)
            del self._running[batch]

    def _note_hash(self, lane: Lane, file: InboxFile, report: Report) -> None:
        sha256 = (report.result or {}).get("sha256")
        if sha256:
            self._hashed.append((lane, file._replace(sha256=str(sha256))))
        else:
            lane.held.append(file)

    def _follow(self, lane: Lane, report: Report, one: Concluded) -> None:
        """One file's new state, in memory."""
        if not report.bisect:
            lane.run_is_over(one.file)
        if one.verb == "decide":
            lane.decided.append(one.file)
            lane.rested()
            if report.results or report.ending is not Ending.PROCESSED:  # a run that died may have left some
                lane.with_results.add(one.file.id)
        elif one.verb == "wait":
            lane.retrying += 1
            lane.next_waiting = min(lane.next_waiting, one.file.not_before)
        elif not report.bisect:
            lane.held.append(one.file)
        if report.ending is Ending.BROKEN and lane.paused is None:
            emit(events.HANDLER_BROKEN, inbox=lane.name, message=report.message)
            remedy = "mend that, then `inboxd reload`"
            lane.pause(f"its handler can't be run: {report.message}; {remedy}", broken=True)
        elif report.ending is Ending.UNAVAILABLE and lane.may_run(self._clock.monotonic()):
            lane.rest(self._clock.monotonic())


def _unblamed(lane: Lane, report: Report) -> Report:
    """A worker calls an input changed that is not there any more; but it may be the disk that has gone."""
    if report.ending is not Ending.INPUT_CHANGED or lane.claims.work.is_home():
        return report
    return report._replace(ending=Ending.UNAVAILABLE, message="its disk went away while it ran")


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


def _digest(lane: Lane, report: Report) -> str | None:
    """What a worker found; "" when that file can't be read, None when it was not read to its end."""
    if report.ending in (Ending.RELEASED, Ending.CRASHED):
        return None
    return str((report.result or {}).get(lane.digest, ""))


def _unreadable(running: Running, report: Report, now: float) -> Concluded:
    file = running.files[report.file_id]._replace(message=report.message)
    return Concluded(ended(file, Outcome.ERROR, "unreadable", running.lane.rules.layout, now), "decide")


def _duplicate(lane: Lane, file: InboxFile, twin: InboxFile, now: float) -> Concluded:
    outcome = Outcome.PROCESSED if lane.rules.duplicates.policy == "skip" else Outcome.ERROR
    message = f"its content was processed before, as {twin.id} ({twin.name})"
    return Concluded(ended(file._replace(message=message), outcome, "duplicate", lane.rules.layout, now), "decide")
