"""Trials: a real daemon in folders of its own, copies of the user's files renamed in at once, timed to the last."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from inboxd.clock import Clock
from inboxd.config.models import FOLDERS, Config, Inbox
from inboxd.config.quantity import show_size
from inboxd.custody import disk
from inboxd.custody.history import History
from inboxd.errors import DiskError, PreconditionError, UsageError
from inboxd.intake.match import Matcher
from inboxd.model import Outcome
from inboxd.tune.plan import Run, Setting

_START = 120.0  # seconds until a daemon must be ready
_STALL = 60.0  # seconds, beyond the longest run, without any file that ends
_DEADLY = 10  # files that kill their workers, when no other has ended: the rest would do so for hours
_LOOK = 0.05  # seconds between two looks
_FRESH = 10.0  # seconds from making a folder to holding it, generously
_PREFIX = ".inboxd-tune-"


class _Deadly(PreconditionError):
    """The handler kills each of its workers."""


class Trials:
    """All trials of one inbox. A context manager: what it has made is removed in the end."""

    def __init__(self, config: Config, inbox: str, samples: Path, count: int, clock: Clock) -> None:
        """Raises UsageError where there are no samples, and DiskError where they can't be read."""
        self._config = config
        self._clock = clock
        self._inbox = inbox
        self._samples = _samples(samples, config.inboxes[inbox])
        self._names = [disk.with_tag(sample.name, str(number), "-") for number, sample in self._numbered(count)]
        with _copying():
            self._bytes = sum(sample.stat().st_size for _number, sample in self._numbered(count))
        self._made = contextlib.ExitStack()
        self._some_ran = False

    def __enter__(self) -> Trials:
        """Folders beside those they stand for, on the same disks. Raises DiskError."""
        with self._made as made:
            self._root = _scratch(self._config.inboxes[self._inbox].folder("work"), self._clock.time(), made)
            self._state = _scratch(self._config.state / "trial", self._clock.time(), made)
            self._made = made.pop_all()
        self._staged = self._root / "samples"
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def _prepare(self) -> None:
        """Copy the samples; those that an earlier trial has brought back are used again."""
        room = disk.free_space(self._root)[0] - self._config.min_free_space
        if not self._staged.exists() and self._bytes > room:
            raise UsageError(
                f"{len(self._names)} copies of these files are {show_size(self._bytes)}, "
                f"and {self._root.parent} has room for {show_size(max(0, room))}",
                hint="say `--files` with a lower number",
            )
        self._staged.mkdir(exist_ok=True)
        with _copying():
            for (_number, sample), name in zip(self._numbered(len(self._names)), self._names, strict=True):
                copy = self._staged / name
                if not copy.exists() or copy.stat().st_size != sample.stat().st_size:
                    shutil.copyfile(sample, copy)

    def run(self, setting: Setting) -> Run:
        """One trial. Raises InboxdError, with the daemon's own words where it ended."""
        self._prepare()
        for which in FOLDERS:
            shutil.rmtree(self._root / which, ignore_errors=True)
        state = Path(tempfile.mkdtemp(dir=self._state))
        with self._daemon(state, setting) as daemon:
            begin = self._clock.time()
            for name in self._names:
                os.rename(self._staged / name, self._root / "inbound" / name)
            try:
                memory, errors = self._wait(daemon, state)
            except _Deadly:
                if not self._some_ran:
                    raise
                return Run(0.0, 0, len(self._names))  # with these settings alone, as for want of memory
        self._some_ran = True
        return Run(len(self._names) / max(self._bring_back() - begin, 0.001), memory, errors)

    @contextlib.contextmanager
    def _daemon(self, state: Path, setting: Setting) -> Iterator[subprocess.Popen[bytes]]:
        log = state / "log"
        places = (self._config.file, self._inbox, self._root, state)
        words = [
            *map(str, places),
            str(setting.processes),
            str(setting.batch_size),
            setting.durability,
            str(os.getpid()),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "inboxd.tune.daemon", *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            )  # fmt: skip
        try:
            self._wait_ready(process, log, setting.processes)
            yield process
        finally:
            process.terminate()
            process.wait()

    def _wait_ready(self, daemon: subprocess.Popen[bytes], log: Path, workers: int) -> None:
        """The daemon, and each of its workers: the first of them would get all of a few files."""
        until = self._clock.monotonic() + _START
        while b'"daemon.ready"' not in (said := log.read_bytes()) or said.count(b'"child.ready"') < workers:
            if daemon.poll() is not None or self._clock.monotonic() > until:
                raise PreconditionError(f"the daemon of a trial does not start: {_last_line(log)}")
            time.sleep(_LOOK)

    def _wait(self, daemon: subprocess.Popen[bytes], state: Path) -> tuple[int, int]:
        """Until all have come to their ends. Returns the peak of memory, bytes, and how many ended in errors/."""
        history, log = History(f"sqlite:///{state / 'ledger.sqlite'}"), state / "log"
        memory = errors = seen = 0
        patience = self._config.workers.timeout + _STALL
        changed = self._clock.monotonic()
        told = _Told(log)
        while seen < len(self._names) or history.counts():
            time.sleep(_LOOK)
            if reason := told.pause():
                raise PreconditionError(f"a trial came no further than {seen} of {len(self._names)} files: {reason}")
            memory = max(memory, _memory(daemon.pid))
            ended = {outcome: count for outcome, (count, _size) in history.totals().get(self._inbox, {}).items()}
            if sum(ended.values()) > seen:
                seen, changed = sum(ended.values()), self._clock.monotonic()
            errors = seen - ended.get(Outcome.PROCESSED, 0)
            if _DEADLY <= seen == errors <= told.deaths:
                raise _Deadly(
                    f"a trial is given up: each of its first {seen} files has killed its worker: {told.death}",
                    hint="try `inboxd run` with one of them",
                )
            if daemon.poll() is not None or self._clock.monotonic() - changed > patience:
                raise PreconditionError(
                    f"a trial came no further than {seen} of {len(self._names)} files: {_last_line(log)}"
                )
        return memory, errors

    def _bring_back(self) -> float:
        """For the next trial. Returns when the last of them was moved, wall clock seconds."""
        last, known = 0.0, set(self._names)
        for folder in ("processed", "errors"):
            for entry in os.scandir(self._root / folder):
                last = max(last, entry.stat(follow_symlinks=False).st_ctime)
                if entry.name in known:
                    os.rename(entry.path, self._staged / entry.name)
        return last or self._clock.time()  # a handler may have removed them all

    def _numbered(self, count: int) -> Iterator[tuple[int, Path]]:
        return zip(range(1, count + 1), itertools.cycle(self._samples), strict=False)


@contextlib.contextmanager
def _copying() -> Iterator[None]:
    """What fails in here may be one of the samples: gone meanwhile, or not for us."""
    try:
        yield
    except OSError as error:
        raise DiskError.of("the samples can't be copied", error) from error


def _samples(folder: Path, inbox: Inbox) -> list[Path]:
    """Files that the inbox would take, in the order of their names. Raises UsageError, DiskError."""
    matcher = Matcher(inbox.match, inbox.ignore, inbox.ignore_temporary)
    another = "name a folder with some files such as the inbox gets"
    try:
        found = sorted(path for path in folder.iterdir() if path.is_file() and matcher.takes(path.name))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"the samples can't be read: {folder}: {error.strerror}", hint=another) from error
    except OSError as error:
        raise DiskError.of("the samples can't be read", error) from error
    if not found:
        raise UsageError(f"{folder} holds no file that matches {', '.join(inbox.match)}", hint=another)
    return found


def _scratch(beside: Path, now: float, made: contextlib.ExitStack) -> Path:
    """In the nearest folder that is there: none is left behind that a daemon would have to make for itself."""
    place = next(folder for folder in beside.parents if folder.is_dir())
    try:
        _clear(place, now)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        made.callback(shutil.rmtree, folder, ignore_errors=True)
        made.callback(os.close, _held(folder))
        return folder
    except OSError as error:
        raise DiskError.of(
            "the trials need a folder on the disk of the inbox, and one on that of `state`", error
        ) from error


def _held(folder: Path) -> int:
    """A lock on it, for as long as the descriptor is open. Raises BlockingIOError where somebody has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _clear(place: Path, now: float) -> None:
    """What one that was killed has left, and nobody holds. One that was made this moment may not be held yet."""
    for left in place.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if now - left.stat().st_mtime > _FRESH:
                os.close(_held(left))
                shutil.rmtree(left, ignore_errors=True)


class _Told:
    """What the daemon of a trial has told since the last look."""

    def __init__(self, log: Path) -> None:
        self._lines = log.open("rb")
        self._rest = b""
        self.deaths = 0  # of workers that ended by themselves
        self.death = ""  # the last of them, in words

    def pause(self) -> str:
        """Why its inbox was paused, as it is where the handler can't be run; "" when it was not."""
        *lines, self._rest = (self._rest + self._lines.read()).split(b"\n")
        for line in lines:
            if b'"inbox.paused"' in line:
                return str(json.loads(line)["reason"])
            if b'"child.died"' in line:
                self.deaths += 1
                self.death = str(json.loads(line)["message"])
        return ""


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="backslashreplace").splitlines() or ["it said nothing"]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(lines[-1])["message"])
    return lines[-1]


def _memory(pid: int) -> int:
    """Resident bytes of a process and all below it."""
    found = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found += process.memory_info().rss
    return found
