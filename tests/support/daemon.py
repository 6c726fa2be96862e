"""The real daemon as a process, seen from outside: signals, sd_notify(3), log lines, exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from inboxd.cli import main
from support.wait import wait_until

WITH_US = ("setpriv", "--pdeathsig", "KILL")  # a test run that is killed leaves no daemon behind (setpriv(1))
_POWERS = "-dac_override,-dac_read_search"
#: Started by this, root meets the modes of files as every other user does (capabilities(7)).
AS_ANY_USER = ("setpriv", f"--inh-caps={_POWERS}", f"--bounding-set={_POWERS}") if os.geteuid() == 0 else ()
_LOOKS = frozenset({"status", "files", "explain", "show"})
_TAIL = 60  # log lines shown when a test fails


class Notifications:
    """The other end of NOTIFY_SOCKET: a datagram socket with a short path (sun_path holds 108 bytes)."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="notify-")
        self.path = os.path.join(self._folder, "s")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.lines: list[str] = []
        self.first: dict[str, float] = {}  # when each line came first, wall clock seconds
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while message := self._socket.recv(65536):
            for line in message.decode("utf-8", "backslashreplace").splitlines():
                self.first.setdefault(line, time.time())
                self.lines.append(line)

    def close(self) -> None:
        """An empty datagram ends the thread."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self.path)
        self._thread.join()
        self._socket.close()
        shutil.rmtree(self._folder)


class Daemon:
    """One `inboxd run`. Made by run_daemon()."""

    def __init__(
        self, config: Path, env: Mapping[str, str] | None = None, under: Sequence[str] = (), level: str = "INFO"
    ) -> None:
        self.config = config
        self.notifications = Notifications()
        self._log = config.with_name("daemon.log")
        self._start = self._log.stat().st_size if self._log.exists() else 0
        run = (sys.executable, "-m", "inboxd", "run", "-c", str(config))
        command = [*WITH_US, *under, *run, "--log-format", "json", "--log-level", level]
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=config.parent,
                env={**_environment(), "NOTIFY_SOCKET": self.notifications.path, **(env or {})},
                start_new_session=True,
            )
        self._family: set[psutil.Process] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """All it has printed since it was started."""
        with self._log.open("rb") as stream:
            stream.seek(self._start)
            return stream.read().decode("utf-8", "backslashreplace")

    def records(self) -> list[dict[str, Any]]:
        """Its log lines that are JSON."""
        found = []
        for line in self.output().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append(record)
        return found

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """The records of one kind of event, with these fields."""
        return [
            record
            for record in self.records()
            if record.get("event") == name and all(record.get(key) == value for key, value in fields.items())
        ]

    def wait_event(self, name: str, timeout: float = 20.0, **fields: Any) -> dict[str, Any]:
        """The first such event, waited for."""
        what = f"the event {name} {fields or ''}"
        return wait_until(lambda: self.events(name, **fields) or self._no_longer_runs(what), what, timeout, 0.03)[0]

    def wait_ready(self, timeout: float = 30.0) -> None:
        """READY=1 has come; fails at once when the process ends instead."""
        wait_until(lambda: self.notified("READY=1") or self._no_longer_runs("READY=1"), "READY=1", timeout)

    def _no_longer_runs(self, what: str) -> Any:
        if self.process.poll() is not None:
            raise AssertionError(f"waited for {what}, but inboxd ended with {self.process.returncode}\n{self.tail()}")
        return None

    def notified(self, line: str) -> bool:
        """sd_notify has said exactly this."""
        return line in self.notifications.lines

    def status(self) -> str:
        """The last STATUS text."""
        texts = [line for line in list(self.notifications.lines) if line.startswith("STATUS=")]
        return texts[-1].removeprefix("STATUS=") if texts else ""

    def tail(self) -> str:
        """The end of the log, for a failed test."""
        return "\n".join(self.output().splitlines()[-_TAIL:])

    def children(self) -> list[psutil.Process]:
        """All its descendants."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._family.update(found)
        return found

    def workers(self) -> list[int]:
        """The pids of its worker processes: what is directly below it."""
        self.children()
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def ready_workers(self) -> list[int]:
        """Those that have loaded their handlers: whom to kill without being taken for a worker that can't start."""
        ready = {record["pid"] for record in self.events("child.ready")}
        return [pid for pid in self.workers() if pid in ready]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Its exit code, negative for a signal."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"inboxd did not end within {timeout:g} s\n{self.tail()}") from None

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        self.children()
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.children()
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self.children()
        if self.process.poll() is None:
            self.kill()
        self.end_family()
        self.notifications.close()

    def end_family(self) -> None:
        """SIGKILL to all its descendants that were seen, and their end."""
        left = [child for child in self._family if child.is_running()]
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for child in left:
            with contextlib.suppress(psutil.Error, OSError):  # of one that has just gone, some kernels say ENOENT
                child.wait(timeout=10)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("INBOXD_", "NOTIFY_", "WATCHDOG_"))}
    return {**kept, "PYTHONUNBUFFERED": "1"}


class Fed:
    """systemd's watchdog, which wants to hear of a daemon at least every second."""

    ENVIRONMENT = {"WATCHDOG_USEC": "1000000"}  # noqa: RUF012

    def __init__(self, daemon: Daemon) -> None:
        self._lines = daemon.notifications.lines
        self._began = time.monotonic()
        self._before = self._count()

    def _count(self) -> int:
        return self._lines.count("WATCHDOG=1")

    def assert_fed(self) -> None:
        """In each second since then."""
        assert self._count() - self._before >= time.monotonic() - self._began - 1.0


@contextlib.contextmanager
def run_daemon(
    config: Path, env: Mapping[str, str] | None = None, *, ready: bool = True, under: Sequence[str] = (),
    level: str = "INFO",
) -> Iterator[Daemon]:  # fmt: skip
    """A running daemon; READY when `ready`; `under`: the command that starts it; `level`: what it logs at least.
    If it still runs at the end it is stopped, and must end well.

    Whatever happens, no process stays behind; a failure shows the end of its log.
    """
    daemon = Daemon(config, env, under, level)
    try:
        if ready:
            daemon.wait_ready()
        yield daemon
        if daemon.process.poll() is None:
            code = daemon.stop()
            assert code == 0, f"SIGTERM, and it ended with {code}"
    except BaseException as error:
        error.add_note(f"--- the end of {config.with_name('daemon.log')}:\n{daemon.tail()}")
        raise
    finally:
        daemon.close()


def inboxd(config: Path, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a verb of the command line: `inboxd VERB -c CONFIG ...`."""
    verb, *rest = arguments
    return inboxd_anywhere(config.parent, verb, "-c", str(config), *rest, timeout=timeout)


def inboxd_anywhere(
    folder: Path, *arguments: str, timeout: float = 60.0, under: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line as it stands, in this folder; `under`: the command that starts it."""
    return subprocess.run(
        [*under, sys.executable, "-m", "inboxd", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        cwd=folder,
        env=_environment(),
        timeout=timeout,
        check=False,
    )


def inboxd_json(config: Path, *arguments: str) -> Any:
    """The same with --json, parsed; anything but exit 0 fails. What only looks does so in this process: waits ask it again
    and again, and to start an interpreter takes ten times as long."""
    run = _here if arguments[0] in _LOOKS else inboxd
    done = run(config, *arguments, "--json")
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def _here(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(config.parent), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([verb, "-c", str(config), *rest])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
