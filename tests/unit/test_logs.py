"""The log as a reader gets it: from a process of its own, through its standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from inboxd import events
from inboxd.logs import fields_of

_NAMES = {
    "newline": "a\nERROR forged\r\n", "braces": "{0} {file} {} {{", "markup": "<red>a</red> \\<", "escape": "\x1b[2J\x9b1m",
    "bytes": "\udcff\udc80", "separator": "a\u2028b\x85c", "percent": "%s %(name)s", "nothing": "", "priority": "<0>a\n<0>b",
}  # fmt: skip

_PROGRAM = """
import json, sys
from inboxd import events, logs
logs.setup(logs.LogOptions(format=sys.argv[1], level=sys.argv[2]))
for name, fields in json.loads(sys.argv[3]):
    events.emit(getattr(events, name), **fields)
logs.close()
"""


def logged(form: str, *emitted: tuple[str, dict[str, Any]], level: str = "DEBUG") -> list[str]:
    """The lines that these events make."""
    return ran(_PROGRAM, form, level, json.dumps(emitted))


def ran(program: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stderr.endswith(b"\n") or not done.stderr
    return done.stderr.decode().split("\n")[:-1]


FAILED = ("FILE_ERROR", {"inbox": "main", "file": "a.csv", "reason": "rejected", "attempt": 1, "message": "no"})


def test_a_json_line_holds_the_fields() -> None:
    (line,) = logged(
        "json",
        ("FILE_PROCESSED", {"inbox": "main", "file": "a.csv", "seconds": 0.25, "result": {"rows": 3}, "none": None}),
    )
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "INFO", "event": "file.processed", "message": "main/a.csv processed in 0.250 s", "inbox": "main",
        "file": "a.csv", "seconds": 0.25, "result": {"rows": 3},
    }  # fmt: skip


def test_a_json_line_says_the_whole_sentence() -> None:
    (line,) = logged("json", FAILED)
    assert json.loads(line)["message"] == "main/a.csv goes to errors/ (rejected) in attempt 1: no"


def test_the_journal_gets_priorities() -> None:
    lines = logged("journal", ("FILE_CLAIMED", {"file": "a"}), ("FILE_PROCESSED", {"file": "a", "seconds": 1}), FAILED,
                   ("FILE_LOST", {"file": "a"}), ("FILE_ADOPTED", {"file": "a"}))  # fmt: skip
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<3>", "<2>", "<4>"]


@pytest.mark.parametrize("form", ["terminal", "json", "journal"])
def test_no_name_forges_a_line(form: str) -> None:
    lines = logged(form, *(("FILE_ADOPTED", {"file": name}) for name in _NAMES.values()))
    assert len(lines) == len(_NAMES)
    assert all(line.isprintable() and "adopted" in line for line in lines)
    if form == "json":
        assert [json.loads(line)["file"] for line in lines] == list(_NAMES.values())


def test_no_name_forges_a_line_in_a_field_of_the_journal() -> None:
    forging = {"file": "x\n999.9\nforged.csv", "message": "no \x1b\n", "names": ["a\nb"], "result": {"a": "b\nc"}}
    fields = fields_of(events.FILE_ERROR, "", {**forging, "detail": "Traceback:\n  at \x1b\nValueError"})
    assert fields[5:] == [
        "INBOXD_FILE=x\\x0a999.9\\x0aforged.csv", "INBOXD_MESSAGE=no \\x1b\\x0a", "INBOXD_NAMES=a\\x0ab",
        'INBOXD_RESULT={"a": "b\\nc"}', "INBOXD_DETAIL=Traceback:\n  at \\x1b\nValueError",
    ]  # fmt: skip
    assert "INBOXD_FILE=invoice-7.csv" in fields_of(events.FILE_ERROR, "", {"file": "invoice-7.csv"})


@pytest.mark.parametrize("form", ["terminal", "json", "journal"])
def test_what_a_field_says_of_its_own_stays_in_it(form: str) -> None:
    """Braces, marks and paths are never read as a format."""
    lines = logged(form, ("FILE_ADOPTED", {"file": "{message} {extra} {time} <level>"}))
    assert len(lines) == 1 and "{message} {extra} {time} <level> lay in work/" in lines[0]


@pytest.mark.parametrize("name", ["FILE_WAITING", "FILE_CLAIMED", "RESUMED"])
def test_a_missing_field_does_not_raise(name: str) -> None:
    (line,) = logged("json", (name, {}))
    assert json.loads(line)["message"]


def test_a_field_of_the_wrong_type_does_not_raise() -> None:
    (line,) = logged("json", ("FILE_PROCESSED", {"file": "a\n", "seconds": "soon"}))
    assert "soon" in json.loads(line)["message"]


_STRANGE = """
from pathlib import Path
from inboxd import events, logs
logs.setup(logs.LogOptions(format="journal"))
events.emit(events.FILE_ADOPTED, file=Path("a\\n<0>forged"))
events.emit(events.FILE_ADOPTED, file=OSError("a\\n<0>forged"))
logs.close()
"""


def test_what_is_no_text_forges_no_line_either() -> None:
    assert [line[:3] for line in ran(_STRANGE)] == ["<4>", "<4>"]


def test_a_traceback_is_told_below_its_line() -> None:
    fields = {**FAILED[1], "detail": "Traceback:\n  File \x1b[31m\n\nValueError: {x}\n"}
    first, *rest = logged("terminal", ("FILE_ERROR", fields))
    assert first.endswith("main/a.csv goes to errors/ (rejected) in attempt 1: no")
    assert rest == ["    | Traceback:", "    |   File \\x1b[31m", "    | ", "    | ValueError: {x}"]


def test_the_journal_gets_the_traceback_too() -> None:
    """`inboxd` tells people to read it there."""
    lines = logged("journal", ("DAEMON_FAILED", {"thread": "pipeline", "detail": "Traceback:\nValueError"}))
    assert any("ValueError" in line for line in lines)
    assert all(line.startswith("<2>") for line in lines)


def test_a_level_is_the_least_that_is_told() -> None:
    claimed = ("FILE_CLAIMED", {"file": "a"})
    assert len(logged("json", claimed, FAILED, level="INFO")) == 1
    assert len(logged("json", claimed, FAILED, level="DEBUG")) == 2
    assert logged("json", claimed, FAILED, level="CRITICAL") == []


def test_nothing_is_lost_on_close() -> None:
    lines = logged("json", *(("FILE_CLAIMED", {"file": str(number)}) for number in range(3000)))
    assert [json.loads(line)["file"] for line in lines] == [str(number) for number in range(3000)]


_LIBRARIES = """
import logging, warnings
from inboxd import logs
logs.setup(logs.LogOptions(format="json"))
logging.getLogger("some.library").warning("odd: %s\\n{}", "{x}")
logging.getLogger("some.library").info("chatter")
warnings.simplefilter("always")
warnings.warn("old thing")
logs.close()
"""


def test_what_libraries_say_is_an_event() -> None:
    told = [json.loads(line) for line in ran(_LIBRARIES)]
    assert [(line["event"], line["logger"]) for line in told] == [
        ("library", "some.library"),
        ("library", "UserWarning"),
    ]
    assert "odd: {x}" in told[0]["message"] and "old thing" in told[1]["message"]


_MANY = """
import sys
from inboxd import events, logs
logs.setup(logs.LogOptions(format="json", level="DEBUG"))
for number in range(30_000):
    events.emit(events.FILE_CLAIMED, file=str(number))
print("done", flush=True)
logs.close()
"""


def test_a_reader_who_does_not_read_stops_nobody_and_is_told_what_it_missed() -> None:
    with subprocess.Popen([sys.executable, "-c", _MANY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None and daemon.stderr is not None
        assert daemon.stdout.readline() == b"done\n"  # although nobody has read a line yet
        lines = daemon.stderr.read().decode().splitlines()
    assert daemon.returncode == 0
    told = [line for line in lines if "file.claimed" in line]
    (missed,) = [line for line in lines if "dropped" in line]
    assert f"{30_000 - len(told)} log records" in missed
    assert all(json.loads(line) for line in lines)


_CLOSED = """
import os
from inboxd import events, logs
logs.setup(logs.LogOptions(format="json"))
os.close(2)
events.emit(events.FILE_LOST, file="a")
logs.close()
"""


def test_a_log_that_is_gone_hurts_nobody() -> None:
    assert ran(_CLOSED) == []


_SLIPS = """
import logging
from inboxd import events, logs
logs.setup(logs.LogOptions(format="json"))
class Speechless:
    def __str__(self): raise RuntimeError
logging.getLogger("library").error("bad %d", "word")
logging.getLogger("library").error(Speechless())
events.emit(events.FILE_PROCESSED, file="a.csv", inbox="main", seconds=float("nan"), result={(1, 2): 3})
logs.close()
"""


def test_a_library_that_logs_wrongly_hurts_nobody() -> None:
    first, second, _ = (json.loads(line) for line in ran(_SLIPS))
    assert first["message"] == "library: bad %d"
    assert second["message"] == "library: Speechless"


def test_a_value_that_is_no_json_is_told_as_text() -> None:
    line = json.loads(ran(_SLIPS)[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["event"], line["seconds"], line["result"]) == ("file.processed", "nan", "{(1, 2): 3}")
