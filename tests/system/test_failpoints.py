"""The daemon is killed at every named point, and restarted: the table of crash points, row by row.

The names come from the code, so a new failpoint is tested without a word here. Each is reached by the same little
load: successes, failures, results, a collision, a strange entry, an operator's retry.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from inboxd.custody.failpoints import STEPS
from support.daemon import Daemon, inboxd, inboxd_json, run_daemon
from support.faults import fault, scale
from support.load import files
from support.site import Site
from support.sound import assert_sound
from support.wait import wait_until

IN_RECOVERY = sorted(name for name in STEPS if name.startswith("recover."))
BY_OPERATOR = sorted(name for name in STEPS if name.startswith(("retry.", "prune.")))
AT_SOURCES = {name for name in STEPS if name.startswith(("poll.", "fetch.", "ack."))}  # test_source_failpoints.py
TO_DESTINATIONS = {name for name in STEPS if name.startswith("send.")}  # test_destination_failpoints.py
WITHOUT_LEDGER = {"decide.kept", "rebuild.filled", "rebuild.aside"}  # faults/test_ledger.py, test_ledger_lost.py
IN_FLOW = sorted(STEPS - set(IN_RECOVERY) - set(BY_OPERATOR) - AT_SOURCES - TO_DESTINATIONS - WITHOUT_LEDGER)
#: What an entry in /dev/null's place would be: never opened, bound for quarantine.
_LINK = "a-link"


def _prepare(site: Site, name: str) -> None:
    """A name in processed/ is taken by somebody else's file, so that a delivery must go elsewhere."""
    if name.startswith("copy."):
        site.inbox("main", claim="copy")
    (site.root() / "processed").mkdir(parents=True)
    (site.root() / "processed" / "ok-00000.dat").write_bytes(b"somebody else's")


def _load(site: Site) -> None:
    """Something for every step; twelve files and a symbolic link."""
    site.drop_all(files(6))
    site.drop("reject-1.dat", b"reject")
    site.drop("fail-1.dat", b"fail")
    site.drop("fail-1-x.dat", b"fail once")
    site.drop("results-1.dat", b"results")
    site.drop("sleep-0_05-x.dat", b"sleep")
    os.symlink("/etc/hostname", site.root() / "inbound" / _LINK)


def _settled(site: Site) -> bool:
    quarantined = site.listed("quarantine") == [_LINK]
    return len(site.listed("processed")) == 9 + 1 and len(site.listed("errors")) == 2 and quarantined


def _await_death(daemon: Daemon) -> None:
    assert daemon.wait(timeout=20) == -signal.SIGKILL


def _finish(site: Site) -> None:
    """Restart, let everything end, and check."""
    with run_daemon(site.config) as daemon:
        wait_until(lambda: _settled(site), "every file's end", every=0.03)
        assert daemon.stop() == 0
    (site.root() / "processed" / "ok-00000.dat").unlink()
    assert_sound(site, finished=True)


#: Where the daemon dies before it dies in recovery.
BREAKS = ["dispatch.recorded", "copy.renamed", "claim.renamed", "decide.recorded", "deliver.renamed"]
SAFE = "nothing lost, nothing overwritten, one outcome per file; the restarted daemon finishes all"


@fault("Process death", "the daemon is killed at an arrow of a file's way", how="SIGKILL at each failpoint", shows=SAFE)
@pytest.mark.parametrize("durability", scale(["full"], ["process", "full"]))
@pytest.mark.parametrize("name", IN_FLOW)
def test_killed_in_the_flow(site: Site, name: str, durability: str) -> None:
    site.write(durability=durability)
    if durability == "process" and name.endswith(".synced"):
        return  # nothing is synced there
    _prepare(site, name)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill"}, ready=False) as daemon:
        _load(site)
        _await_death(daemon)
    assert_sound_but_for_the_squatter(site)
    _finish(site)


@fault(
    "Process death",
    "the daemon is killed when several steps are under way",
    how="SIGKILL at the third pass of each failpoint",
    shows="nothing lost, nothing overwritten, one outcome per file; the restarted daemon finishes all",
)
@pytest.mark.parametrize("name", IN_FLOW)
def test_killed_in_the_flow_later(site: Site, name: str) -> None:
    """The third time, when several steps are under way at once."""
    site.write(durability="full")
    _prepare(site, name)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill@3"}, ready=False) as daemon:
        _load(site)
        wait_until(lambda: daemon.process.poll() is not None or _settled(site), "its death, or the end of all work")
        daemon.kill()
    assert_sound_but_for_the_squatter(site)
    _finish(site)


@fault(
    "Process death",
    "the daemon is killed while it recovers, twice",
    how="SIGKILL at five failpoints, then at each of recovery's, two times",
    shows="nothing lost, nothing overwritten, one outcome per file; the restarted daemon finishes all",
)
@pytest.mark.parametrize("broken_at", scale(BREAKS[:2], BREAKS))
@pytest.mark.parametrize("name", IN_RECOVERY)
def test_killed_in_recovery(site: Site, name: str, broken_at: str) -> None:
    """A second and a third death, while the first is being repaired."""
    _prepare(site, broken_at)
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{broken_at}:kill"}, ready=False) as daemon:
        _load(site)
        _await_death(daemon)
    for _ in range(2):
        with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill"}, ready=False) as daemon:
            _await_death(daemon)
        assert_sound_but_for_the_squatter(site)
    _finish(site)


@fault(
    "Process death",
    "the daemon is killed in an operator's retry",
    how="SIGKILL at each of its failpoints",
    shows="the file runs again, once",
)
@pytest.mark.parametrize("name", [name for name in BY_OPERATOR if name.startswith("retry.")])
def test_killed_in_a_retry(site: Site, name: str) -> None:
    site.drop("fail-3-x.dat", b"x")
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill"}) as daemon:
        wait_until(lambda: site.listed("errors"), "the error")
        (file,) = wait_until(lambda: _done(site), "its row")
        (site.base / "witness.py").write_text(
            (site.base / "witness.py").read_text().replace("_for_a_while(_fail)", "None")
        )
        inboxd(site.config, "retry", file)
        _await_death(daemon)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.listed("processed"), "its success")
        assert daemon.stop() == 0
    assert_sound(site, finished=True, retried=frozenset([file]))


def _done(site: Site) -> list[str]:
    return [file["id"] for file in inboxd_json(site.config, "files")["files"] if file["state"] == "DONE"]


@fault(
    "Process death",
    "the daemon is killed while it removes what is old",
    how="SIGKILL at each of its failpoints",
    shows="the next prune ends it",
)
@pytest.mark.parametrize("name", [name for name in BY_OPERATOR if name.startswith("prune.")])
def test_killed_in_a_prune(site: Site, name: str) -> None:
    site.inbox("main", retention={"processed": "1ms"})
    site.drop_all(files(20))
    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:kill"}) as daemon:
        wait_until(
            lambda: daemon.process.poll() is not None or inboxd(site.config, "prune").returncode, "its death", every=0.2
        )
        _await_death(daemon)
    with run_daemon(site.config) as daemon:
        wait_until(lambda: inboxd(site.config, "prune").returncode == 0 and not site.listed("processed"), "all pruned")
        assert daemon.stop() == 0
    assert not site.listed("work")


@fault(
    "System calls",
    "a call fails at an arrow of a file's way",
    how="EIO at each failpoint, once, and again and again",
    shows="it degrades and resumes, or ends with a reason; the next start finishes all",
)
@pytest.mark.parametrize("action", ["raise", "ENOSPC@2+"])
@pytest.mark.parametrize("name", IN_FLOW)
def test_an_error_at_a_step_never_leaves_half_a_daemon(site: Site, name: str, action: str) -> None:
    """An unexpected OSError either is an outage that passes, or ends the process with a reason; then as above."""
    site.write(durability="full")
    _prepare(site, name)

    def has_taken_it(daemon: Daemon) -> bool:
        return daemon.process.poll() is not None or _settled(site) or bool(daemon.events("daemon.degraded"))

    with run_daemon(site.config, {"INBOXD_FAILPOINT": f"{name}:{action}"}, ready=False) as daemon:
        _load(site)
        wait_until(lambda: has_taken_it(daemon), "its end, an outage, or the end of all work")
        if daemon.process.poll() is not None:
            assert daemon.wait() > 0
            assert daemon.events("daemon.failed")
        else:
            assert daemon.stop() == 0
    _finish(site)


def assert_sound_but_for_the_squatter(site: Site) -> None:
    """The foreign file in processed/ has no row; it is put aside while the checker looks."""
    squatter = site.root() / "processed" / "ok-00000.dat"
    aside = Path(site.base) / "squatter"
    squatter.rename(aside)
    try:
        assert_sound(site)
    finally:
        aside.rename(squatter)
