"""Events -> loguru -> terminal, JSON lines or the journal. Made harmless first; never blocks the daemon."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from inboxd import events, threads
from inboxd.errors import DiskError
from inboxd.escape import escape
from inboxd.events import Event
from inboxd.journal import Journal

if TYPE_CHECKING:
    from loguru import Message

Format = Literal["auto", "terminal", "json", "journal"]

_MOST = 10_000  # records that may wait for a slow reader of our log; more are counted and dropped
_MOST_LINES = 30  # of a traceback or an output, in what people read line by line
_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog(3)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the command line says of the log."""

    level: str = "INFO"
    format: Format = "auto"


class _Gaps(dict[str, Any]):
    """A field that an event's text names and nobody gave."""

    def __missing__(self, key: str) -> str:
        return "?"


def wording(event: Event, fields: dict[str, Any]) -> str:
    """The event's text with its fields, harmless. Never raises."""
    safe = _Gaps((key, _harmless(value)) for key, value in fields.items())
    try:
        return event.text.format_map(safe)
    except (ValueError, TypeError, AttributeError):
        return escape(f"{event.name} {fields!r}")


def _harmless(value: Any) -> Any:
    """Numbers keep their formats; everything else is text, and may hold a name."""
    return value if isinstance(value, int | float) else escape(str(value))


class _Outlet:
    """A thread that writes, so that whoever logs never waits for a reader. Full: the newest are counted and dropped."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._waiting: deque[Any] = deque()
        self._dropped = 0
        self._arrived = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        threads.start(self._thread)

    def write(self, message: Message) -> None:
        """A record, in loguru's words."""
        with self._arrived:
            if len(self._waiting) >= _MOST:
                self._dropped += 1
                return
            self._waiting.append(self._form.shape(message))
            if len(self._waiting) == 1:
                self._arrived.notify()

    def stop(self) -> None:
        """Write what waits, for a moment; loguru calls this."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._thread.join(2.0)

    def _run(self) -> None:
        while True:
            with self._arrived:
                while not self._waiting and not self._closing:
                    self._arrived.wait()
                taken, dropped = list(self._waiting), self._dropped
                self._waiting.clear()
                self._dropped = 0
                closing = self._closing
            if dropped:
                taken.append(self._form.dropped(dropped))
            if taken:
                self._form.write(taken)
            if closing:
                return


@dataclass(frozen=True, slots=True)
class Form:
    """How records look, and where they go."""

    format: Any  # loguru's
    write: Callable[[list[Any]], None]
    dropped: Callable[[int], Any]  # the record that tells how many are missing
    shape: Callable[[Message], Any] = str


def setup(options: LogOptions) -> None:
    """From now on events are logged, and what libraries log or warn of as well. Raises DiskError."""
    logger.remove()
    chosen = _choose(options.format)
    form = _native_form() if chosen == "journal" and _stderr_is_journal() else None
    form = form or _text_form(chosen)
    try:
        outlet = _Outlet(form)
    except OSError as error:
        raise DiskError.of("nothing can be logged", error) from error
    logger.add(
        outlet, level=options.level, format=form.format,
        colorize=chosen == "terminal" and sys.stderr.isatty(),
        diagnose=False, backtrace=False, catch=True,
    )  # fmt: skip
    least = logger.level(options.level).no
    events.send_to(_send, [level for level in events.LEVELS if logger.level(level).no >= least])
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    warnings.showwarning = _show_warning  # type: ignore[assignment]


def refuse(problem: str) -> None:
    """Say why the daemon does not start: as an event where that is the journal, else in plain words."""
    if _stderr_is_journal():
        events.emit(events.DAEMON_REFUSED, message=problem)
    else:
        with contextlib.suppress(OSError):  # nobody can be told
            # For whoever started it by hand.
            print(f"inboxd: {escape(problem)}", file=sys.stderr, flush=True)  # noqa: T201


def close() -> None:
    """Write what waits, and stop."""
    logger.remove()
    events.send_to(events.nowhere)


def _choose(wanted: Format) -> str:
    if wanted != "auto":
        return wanted
    return "journal" if _stderr_is_journal() else "terminal"


def _stderr_is_journal() -> bool:
    """systemd.exec(5), $JOURNAL_STREAM: device and inode of the stream that leads to the journal."""
    found = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _text_form(chosen: str) -> Form:
    dropped = _DROPPED[chosen]
    return Form(_FORMATS[chosen], _write_stderr, lambda count: dropped.replace("COUNT", str(count)))


def _write_stderr(texts: list[str]) -> None:
    data = "".join(texts).encode("utf-8", "backslashreplace")
    while data:
        try:
            data = data[os.write(2, data) :]
        except OSError:
            return  # nobody reads any more; the daemon goes on


def _native_form() -> Form | None:
    """With fields of their own (journal.py); None where that can't be had, and lines on standard error must do."""
    try:
        journal = Journal()
    except (ImportError, OSError):
        return None
    return Form("{message}", journal.write, _dropped_fields, lambda message: _native(message.record))


def _native(record: Any) -> list[str]:
    event: Event | None = record["extra"].get("event")
    return fields_of(event or events.LIBRARY, record["message"], record["extra"].get("fields", {}))


def _dropped_fields(count: int) -> list[str]:
    return fields_of(events.LOG_DROPPED, wording(events.LOG_DROPPED, {"count": count}), {"count": count})


def fields_of(event: Event, message: str, fields: dict[str, Any]) -> list[str]:
    """A record for the journal: what every event has, and one INBOXD_ field for each of its own that has a value.

    A list of texts is one field many times over: journald finds the record by each of them.
    """
    return [
        f"MESSAGE={message}",
        f"MESSAGE_ID={event.message_id}",
        f"PRIORITY={_PRIORITY[event.level]}",
        "SYSLOG_IDENTIFIER=inboxd",
        f"INBOXD_EVENT={event.name}",
        *(f"INBOXD_{key.upper()}={_field(key, one)}" for key, value in fields.items() for one in _values(value)),
    ]


def _values(value: Any) -> list[Any]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return [] if value in (None, "") else [value]


def _field(key: str, value: Any) -> str:
    """As text, harmless. Only a traceback or an output has lines: in anything else a name could forge one."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        return str(round(value, 6))
    text = _dumped(value) if isinstance(value, dict | list) else str(value)
    return "\n".join(map(escape, text.split("\n") if key == "detail" else [text]))


def _send(event: Event, fields: dict[str, Any]) -> None:
    logger.bind(event=event, fields=fields).log(event.level, "{}", wording(event, fields))


def _terminal(record: Any) -> str:
    detail = record["extra"].get("fields", {}).get("detail")
    record["extra"]["detail"] = _indented(detail) if detail else ""
    return "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <8}</level> {message}\n{extra[detail]}"


def _indented(detail: str) -> str:
    """For people: the end of it, which says most. Whole it is in the journal's fields, in JSON and in the ledger."""
    lines = str(detail).rstrip("\n").split("\n")
    left_out = [f"[{len(lines) - _MOST_LINES:,} lines before this]"] if len(lines) > _MOST_LINES else []
    return "".join(f"    | {escape(line)}\n" for line in (*left_out, *lines[-_MOST_LINES:]))


def _journal(record: Any) -> str:
    """Lines that systemd reads from standard error, with a priority (sd-daemon(3))."""
    priority = f"<{_PRIORITY.get(record['level'].name, 6)}>"
    detail = record["extra"].get("fields", {}).get("detail")
    record["extra"]["priority"] = priority
    record["extra"]["detail"] = (
        "".join(priority + line for line in _indented(detail).splitlines(True)) if detail else ""
    )
    return "{extra[priority]}{message}\n{extra[detail]}"


def _json(record: Any) -> str:
    event = record["extra"].get("event")
    line = {
        "time": datetime.fromtimestamp(record["time"].timestamp(), UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "event": event.name if event else "log",
        "message": record["message"],
        **{_KEYS.get(key, key): value for key, value in record["extra"].get("fields", {}).items() if value is not None},
    }
    record["extra"]["line"] = _dumped(line)
    return "{extra[line]}\n"


def _dumped(line: Any) -> str:
    """JSON as RFC 8259 has it: what is none (a NaN, a dict with keys of another kind) is told as text."""
    try:
        return json.dumps(line, default=str, allow_nan=False)
    except (ValueError, TypeError):
        if not isinstance(line, dict):
            return json.dumps(str(line))
        return json.dumps({key: value if isinstance(value, str) else str(value) for key, value in line.items()})


#: A field that bears the name of one of ours.
_KEYS = {"message": "error", "time": "at", "level": "event_level", "event": "event_field"}
_DROPPED = {
    "terminal": "[COUNT log records were dropped here]\n",
    "journal": "<4>COUNT log records were dropped here\n",
    "json": '{"level": "WARNING", "event": "log.dropped", "message": "COUNT log records were dropped here"}\n',
}
_FORMATS: dict[str, Any] = {"terminal": _terminal, "json": _json, "journal": _journal}


class _Libraries(logging.Handler):
    """What libraries log through the standard module."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  a library's own slip (wrong arguments, a __str__ that raises): its raw text is told
            message = str(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
        events.emit(events.LIBRARY, logger=record.name, message=message)


def _show_warning(message: Any, category: type[Warning], *_where: Any) -> None:
    events.emit(events.LIBRARY, logger=category.__name__, message=str(message))
