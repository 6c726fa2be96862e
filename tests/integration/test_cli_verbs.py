"""Every verb as a process, against a real control socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inboxd.cli import changing, client, main
from inboxd.control import SOCKET
from support.answering import HOSTILE, ID, Answering, answering
from support.daemon import run_daemon
from support.site import Site
from support.wait import wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Answering]:
    (tmp_path / "config.yaml").write_text("state: state\n")
    with answering(tmp_path / "state") as operator:
        yield operator


def inboxd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`inboxd ARGUMENTS` in a pipe, in this folder."""
    environment = {key: value for key, value in os.environ.items() if key != "INBOXD_CONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "inboxd", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "asked", "code", "words"),
    [
        ("status", ("status", {}), 0, "RUNNING"),
        ("show " + ID[:12], ("show", {"id": ID[:12]}), 0, "KeyError"),
        ("show ffff", ("show", {"id": "ffff"}), 64, ""),
        ("retry " + ID, ("retry", {"ids": [ID], "errors": False}), 0, "1 file"),
        ("forget " + ID, ("forget", {"ids": [ID]}), 0, "forgotten: 1 error"),
        ("forget 0123", ("forget", {"ids": ["0123"]}), 1, "its file is there"),
        ("retry 0123", ("retry", {"ids": ["0123"], "errors": False}), 1, "it is not in errors/"),
        (
            "retry --errors --inbox orders --since 2h",
            ("retry", {"errors": True, "inbox": "orders", "since": 7200.0}), 0, "1 file",
        ),
        ("pause orders", ("pause", {"inbox": "orders"}), 0, "orders is paused"),
        ("resume orders", ("resume", {"inbox": "orders"}), 70, ""),
        ("poll partner", ("poll", {"source": "partner", "again": False}), 0, "instead of later: 3"),
        ("poll partner --again", ("poll", {"source": "partner", "again": True}), 0, "to be fetched after all"),
        (
            "poll partner --again x",
            ("poll", {"source": "partner", "again": True, "items": ["x"]}), 1, "refused: x: it was not given up",
        ),
        ("send customer", ("send", {"destination": "customer", "again": False, "drop": False}), 0, "3 results are due now"),
        ("send customer --again", ("send", {"destination": "customer", "again": True, "drop": False}), 0, "after all"),
        (
            "send customer --drop x",
            ("send", {"destination": "customer", "again": False, "drop": True, "results": ["x"]}), 1,
            "refused: x: it was not given up",
        ),
        ("explain partner", ("explain", {"path": "HERE/partner", "name": "partner"}), 0, "is growing"),
        ("drain --no-wait", ("drain", {}), 0, "stopping"),
        ("reload", ("reload", {}), 78, ""),
        ("prune --dry-run", ("prune", {"dry_run": True}), 0, "would be removed"),
        ("doctor", ("doctor", {}), 1, "has no row"),
        ("doctor partner", ("doctor", {"source": "partner"}), 0, "would be fetched"),
    ],
)  # fmt: skip
def test_a_verb(tmp_path: Path, daemon: Answering, line: str, asked: Any, code: int, words: str) -> None:
    done = inboxd(tmp_path, *line.split())
    assert done.returncode == code, done.stderr
    verb, arguments = asked
    here = {
        name: value.replace("HERE", str(tmp_path)) if name == "path" else value for name, value in arguments.items()
    }
    assert daemon.asked == [(verb, here)]
    assert words in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert bool(done.stderr) == (code > 1)
    assert all(text.startswith("inboxd: ") for text in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("status", {"version", "pid", "config", "state", "degraded", "since", "uptime", "durability", "ledger",
                    "inboxes", "sources", "downloads", "workers", "resources"}),
        ("files", {"files"}),
        ("show " + ID, {"id", "history", "path", "state", "outcome"}),
        ("explain x", {"path", "inbox", "why", "file", "items"}),
        ("poll partner", {"source", "inbox", "under_way", "hurried", "renewed", "refused", "full"}),
        ("send customer", {"destination", "due", "abandoned", "hurried", "renewed", "dropped", "refused"}),
        ("retry " + ID, {"retried", "refused"}),
        ("forget " + ID, {"forgotten", "refused"}),
        ("pause orders", {"inbox", "paused"}),
        ("drain --no-wait", {"draining"}),
        ("prune", {"removed"}),
        ("doctor", {"problems", "checked", "sources"}),
    ],
)  # fmt: skip
def test_the_json_is_what_the_daemon_said(tmp_path: Path, daemon: Answering, line: str, keys: set[str]) -> None:
    done = inboxd(tmp_path, *line.split(), "--json")
    (text,) = done.stdout.splitlines()
    assert keys <= json.loads(text).keys()


def test_a_refused_reload_names_every_problem(tmp_path: Path, daemon: Answering) -> None:
    assert inboxd(tmp_path, "reload").stderr.splitlines() == [
        "inboxd: config.yaml:3: stat: unknown key",
        "inboxd: config.yaml:9: rescan: no duration",
    ]


def test_long_lists_come_in_parts(tmp_path: Path, daemon: Answering) -> None:
    done = inboxd(tmp_path, "files", "--limit", "2200", "--json")
    rows = json.loads(done.stdout)["files"]
    assert [int(row["id"]) for row in rows] == list(range(2500, 300, -1))
    assert [(asked["limit"], asked.get("before")) for _, asked in daemon.asked] == [
        (1000, None), (1000, f"{1501:032}"), (201, f"{501:032}"),
    ]  # fmt: skip
    assert f"more than these 2200; --limit shows more, --before {301:032} goes on" in done.stderr
    whole = inboxd(tmp_path, "files", "--limit", "2500", "--json")
    assert len(json.loads(whole.stdout)["files"]) == 2500
    assert whole.stderr == ""


def test_a_relative_path_is_made_absolute(tmp_path: Path, daemon: Answering) -> None:
    (tmp_path / "inbound").mkdir()
    raw = os.fsdecode(b"\xff\n.csv")
    assert inboxd(tmp_path, "explain", f"inbound/../inbound/{raw}").returncode == 0
    assert daemon.asked == [("explain", {"path": f"{tmp_path}/inbound/{raw}", "name": f"inbound/../inbound/{raw}"})]


def test_the_configuration_is_not_needed_where_the_state_folder_is_named(tmp_path: Path, daemon: Answering) -> None:
    (tmp_path / "config.yaml").write_text("state: [\n")
    assert inboxd(tmp_path, "status").returncode == 78
    assert inboxd(tmp_path, "status", "--state-dir", "state").returncode == 0


def test_status_needs_no_heavy_library(tmp_path: Path, daemon: Answering) -> None:
    """It should feel instant."""
    program = (
        "import sys; from inboxd.cli import main; code = main(['status']); "
        "sys.exit(code or ' '.join({'pydantic', 'sqlalchemy', 'loguru', 'psutil', 'rich'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, daemon: Answering) -> None:
    command = f"set -o pipefail; '{sys.executable}' -m inboxd files --limit 2500 --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def _redirected(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """`inboxd LINE` as a shell runs it, in this folder."""
    command = ["sh", "-c", f"exec env -u PYTHONUNBUFFERED '{sys.executable}' -m inboxd {line}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)


@pytest.mark.parametrize("line", ["pause orders", "files --limit 2500 --json", "schema", "--version", "status --help"])
def test_an_answer_that_can_not_be_written_is_74(tmp_path: Path, daemon: Answering, line: str) -> None:
    done = _redirected(tmp_path, f"{line} >/dev/full")
    assert done.returncode == 74
    (told,) = done.stderr.splitlines()
    assert told.startswith("inboxd: the answer can't be written to standard output: No space left on device (")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_an_answer_that_nobody_wants_changes_no_exit_code(tmp_path: Path, daemon: Answering, closed: str) -> None:
    for line, code in (("pause orders", 0), ("files --limit 2500", 0), ("doctor", 1), ("show ffff", 64)):
        done = _redirected(tmp_path, f"{line} {closed}")
        assert done.returncode == code
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("line", "code"), [("show ffff", 64), ("files --limit 2", 0), ("nosuch", 64), ("run", 78)])
def test_a_remark_that_can_not_be_written_changes_no_exit_code(
    tmp_path: Path, daemon: Answering, line: str, code: int
) -> None:
    assert _redirected(tmp_path, f"{line} 2>/dev/full").returncode == code


def test_watching_in_a_pipe_prints_again_and_again(tmp_path: Path, daemon: Answering) -> None:
    command = [sys.executable, "-m", "inboxd", "status", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as watching:
        assert watching.stdout is not None
        for _ in range(2):
            assert json.loads(watching.stdout.readline())["pid"] == 4242
        watching.send_signal(2)
        assert watching.wait(20) == 130


def test_drain_waits_until_the_process_has_ended(tmp_path: Path) -> None:
    """The one that listens, whatever pid it says it has."""
    (tmp_path / "config.yaml").write_text("state: state\n")
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from support.answering import Answering, answering\n"
        "done = threading.Event()\n"
        "class Ending(Answering):\n"
        "    def drain(self): done.set(); return {'draining': True}\n"
        "with answering(Path('state'), Ending()):\n"
        "    done.wait()\n"
        "sys.stdin.readline()\n"
    )
    support = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, cwd=tmp_path, env={**os.environ, "PYTHONPATH": support}
    ) as daemon:
        wait_until((tmp_path / "state" / SOCKET).exists, "its socket")
        with subprocess.Popen(
            [sys.executable, "-m", "inboxd", "drain"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as draining:
            wait_until(lambda: not (tmp_path / "state" / SOCKET).exists(), "the end of its socket")
            assert draining.poll() is None
            daemon.communicate(b"\n")
            assert draining.communicate(timeout=20)[0] == "the daemon has stopped\n"
            assert draining.returncode == 0


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that listens, and is stopped."""
    (tmp_path / "config.yaml").write_text("state: state\n")
    (tmp_path / "state").mkdir()
    program = (
        "import os, signal, socket\n"
        "listening = socket.socket(socket.AF_UNIX)\n"
        f"listening.bind('state/{SOCKET}')\n"
        "listening.listen()\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as daemon:
        try:
            os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)
            yield daemon
        finally:
            daemon.kill()


@pytest.mark.timeout(30)
def test_drain_waits_for_no_daemon_that_hangs(
    tmp_path: Path,
    stopped: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(changing, "ask", lambda options, verb: client.ask(options, verb, timeout=0.2))
    code = main(["drain", "-c", str(tmp_path / "config.yaml")])
    told = capsys.readouterr()
    assert (code, told.out) == (69, "")
    assert "does not answer within" in told.err


@pytest.mark.timeout(30)
@pytest.mark.parametrize("line", ["status", "files", "explain x", "reload"])
def test_a_daemon_that_is_stopped_is_not_waited_for_long(
    tmp_path: Path,
    stopped: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    monkeypatch.setattr(client, "_MOMENT", 0.2)
    assert main([*line.split(), "-c", str(tmp_path / "config.yaml")]) == 69
    told = capsys.readouterr()
    assert told.out == ""
    assert "does not answer within 0 s (look at its log, and at `ps " in told.err
    assert f" {stopped.pid}`; T means that a signal has stopped it)" in told.err


def test_a_daemon_that_is_busy_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOMENT", 0.2)

    class Busy(Answering):
        def status(self) -> dict[str, Any]:
            time.sleep(0.5)
            return super().status()

    (tmp_path / "config.yaml").write_text("state: state\n")
    with answering(tmp_path / "state", Busy()):
        assert main(["status", "-c", str(tmp_path / "config.yaml")]) == 0


def test_names_in_refusals_are_harmless(tmp_path: Path, daemon: Answering) -> None:
    done = inboxd(tmp_path, "show", HOSTILE)
    assert done.returncode == 64
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_hostile_configurations_name_is_told_harmless(tmp_path: Path, verb: str) -> None:
    done = inboxd(tmp_path, verb, "-c", "/nosuch\x1b[31m\n\udcff")
    assert done.returncode == 78
    assert done.stderr.startswith("inboxd: /nosuch\\x1b[31m\\x0a\\xff: ")


def test_a_stopped_daemons_ledger_is_read(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with run_daemon(site.config):
        site.drop("reject-1.dat", b"no")
        wait_until(lambda: site.listed("errors"), "its end")
    for place in ((), ("--state-dir", "state")):
        listed = inboxd(site.base, "files", "--json", *place)
        assert "not running" in listed.stderr
        (row,) = json.loads(listed.stdout)["files"]
        shown = json.loads(inboxd(site.base, "show", row["id"], "--json", *place).stdout)
        assert (shown["name"], shown["outcome"], len(shown["history"])) == ("reject-1.dat", "error", 1)
        assert inboxd(site.base, "show", "0" * 32, *place).returncode == 64
    assert inboxd(site.base, "status").returncode == 69
