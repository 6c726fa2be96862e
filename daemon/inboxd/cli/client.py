"""Reaching the daemon of a configuration, or what it has left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from inboxd.cli.output import remark
from inboxd.control import SOCKET, address, credentials
from inboxd.errors import EXIT_NOT_RUNNING, ConfigError, InboxdError, NotRunning, UsageError

Fetch = Callable[..., Any]

_MOMENT = 15.0  # seconds for a sign of life; it waits 10 for a peer that says nothing
_PATIENCE = 120.0  # seconds for an answer of a daemon that lives
LONG = 3600.0  # seconds for what looks through every folder
#: Where a package, or an administrator, puts the unit (systemd.unit(5)).
_UNITS = tuple(
    f"{folder}/systemd/system/inboxd.service" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
)


class NoAnswer(InboxdError):
    """A daemon is there, and does not answer us."""

    exit_code = EXIT_NOT_RUNNING


class Ended(NoAnswer):
    """It was there, and has hung up on us."""

    def __init__(self) -> None:
        super().__init__("the daemon ended in the middle of its answer", hint="look at its log")


class Refused(InboxdError):
    """The daemon's own refusal, with its exit code."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["error"], hint=answer["hint"])
        self.exit_code = answer["code"]


def state_folder(options: Namespace) -> Path:
    """As --state-dir says, or as `state:` in the configuration.

    The rest of the file is not checked: that would be slow, and the daemon that runs may not have read it yet.
    """
    if options.state_dir is not None:
        return Path(os.path.abspath(options.state_dir))
    path = Path(os.path.abspath(options.config))
    try:
        state = _state(path.read_bytes())
    except OSError as error:
        remedy = "name another with --config, or the state folder with --state-dir"
        raise ConfigError([f"{path}: can't be read: {error.strerror}; {remedy}"]) from None
    if isinstance(state, str):
        return Path(os.path.normpath(path.parent / state))
    from inboxd.config.load import load  # has better words for what is wrong

    try:
        return load(path).state
    except ConfigError as error:
        remedy = f"{path}: a daemon that runs is found by `state` alone; name its state folder with --state-dir"
        raise ConfigError([*error.problems, remedy]) from None


def _state(text: bytes) -> Any:
    """What stands at `state`, also where the file is broken elsewhere; None where that can't be told."""
    import yaml

    line = re.search(rb"^state[ \t]*:.*", text, re.MULTILINE)
    for part in (text, line[0] if line else b"{}"):
        with contextlib.suppress(yaml.YAMLError, ValueError):
            values = yaml.load(part, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            return values.get("state", "var/state") if isinstance(values, dict) else None
    return None


def ask(options: Namespace, verb: str, timeout: float = _PATIENCE, **arguments: Any) -> Any:
    """The daemon's result. Raises NotRunning, NoAnswer, Refused.

    One that is stopped or hangs is not waited for as long as one that is busy: it does not even answer a ping.
    """
    with connected(options, min(timeout, _MOMENT)) as connection, connection.makefile("rb") as answers:
        answer = _said(connection, answers, "ping", {})
        if verb != "ping":
            connection.settimeout(timeout)
            answer = _said(connection, answers, verb, arguments)
    if not answer["ok"]:
        raise Refused(answer)
    return answer["result"]


def _said(connection: socket.socket, answers: BinaryIO, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    connection.sendall(json.dumps({"verb": verb, "args": arguments}).encode() + b"\n")
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise Ended
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextlib.contextmanager
def connected(options: Namespace, timeout: float = _MOMENT) -> Iterator[socket.socket]:
    """A connection to the daemon. Raises NotRunning, NoAnswer, UsageError, also for what fails while it is used."""
    path = state_folder(options) / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            with address(path) as name:
                connection.connect(name)
            yield connection
        except (FileNotFoundError, ConnectionRefusedError):
            raise _not_running(path, options) from None
        except (TimeoutError, BlockingIOError):
            raise _silent(path, connection) from None
        except (ConnectionResetError, BrokenPipeError):
            raise Ended from None
        except PermissionError:
            raise UsageError(
                f"{path} is closed to you", hint="ask as root, or as the user that inboxd runs as"
            ) from None
        except OSError as error:
            raise NoAnswer(f"{path}: {error.strerror or error}", hint="look at the daemon's log") from None


def _silent(path: Path, connection: socket.socket) -> NoAnswer:
    pid, _uid = credentials(connection)
    look = f", and at `ps -o stat,wchan:30,args {pid}`; T means that a signal has stopped it" if pid else ""
    waited = connection.gettimeout() or 0.0
    return NoAnswer(f"the daemon at {path} does not answer within {waited:.0f} s", hint=f"look at its log{look}")


def _not_running(path: Path, options: Namespace) -> NotRunning:
    config = None if options.state_dir is not None else Path(os.path.abspath(options.config))
    where = f"no daemon listens at {path}" + (f", the state folder of {config}" if config else "")
    start = f"start it with `{_start(config)}`"
    if has_run(path.parent):
        return NotRunning(where, hint=f"{start}; one that has just started may be recovering")
    return NotRunning(f"{where}, and no ledger exists yet", hint=start)


def _start(config: Path | None) -> str:
    """The command that starts the daemon of this configuration: a machine's own one runs as a service."""
    if config is not None and config.is_relative_to("/etc") and any(map(os.path.exists, _UNITS)):
        return "systemctl start inboxd"
    return f"inboxd run -c {shlex.quote(str(config))}" if config else "inboxd run"


def has_run(state: Path) -> bool:
    """A daemon has made its ledger, here or on a server, or somebody has put a copy of one here."""
    return any(map(os.path.getsize, filter(os.path.exists, (state / "ledger.id", state / "ledger.sqlite"))))


def process(options: Namespace) -> int:
    """A descriptor that becomes readable when the daemon has ended (pidfd_open(2))."""
    with connected(options) as connection:
        pid, _uid = credentials(connection)
        if not pid:
            raise NoAnswer("the daemon's process can't be seen from here", hint="--no-wait does not look at it")
        return os.pidfd_open(pid)


def daemon_or_ledger(options: Namespace) -> Fetch:
    """What answers `files` and `show`: the daemon, or, while it is stopped, its ledger."""
    try:
        ask(options, "ping")
    except NotRunning as error:
        records = _records(options, error)
        remark("the daemon is not running; this is what its ledger says")
        return lambda verb, **arguments: getattr(records, verb)(**arguments)
    return partial(ask, options)


def _records(options: Namespace, error: NotRunning) -> Any:
    """Raises `error` where there is none to read; a state folder alone does not say how to reach a server."""
    state = state_folder(options)
    if not has_run(state) or (options.state_dir and not (state / "ledger.sqlite").exists()):
        raise error
    from inboxd.clock import SystemClock
    from inboxd.config.load import load
    from inboxd.custody.history import History
    from inboxd.records import Records

    try:
        config = load(options.config) if options.state_dir is None else None
    except ConfigError as refused:
        if not (state / "ledger.sqlite").exists():
            raise
        remedy = f"its ledger can be read without it: `inboxd --state-dir {shlex.quote(str(state))} files`, or `show`"
        raise ConfigError([*refused.problems, f"{error.message}, and the configuration is refused; {remedy}"]) from None
    url = config.ledger_url if config else f"sqlite:///{state / 'ledger.sqlite'}"
    return Records(History(url), lambda: config.inboxes if config else {}, SystemClock())
