"""An operator's retry meets a ledger that is locked: what was said is done once it can be written, or was refused."""

from __future__ import annotations

import pytest
from test_ledger import locked

from support.daemon import inboxd, inboxd_json, run_daemon
from support.faults import fault
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until

AGAIN = "the retry is finished once the ledger is back, or by the next start; nobody is told to forget the file"


def _an_error(site: Site) -> str:
    """It fails once, and would succeed."""
    site.drop("reject-a.dat", b"a")
    wait_finished(site, 1)
    (file,) = wait_until(lambda: inboxd_json(site.config, "files", "--state", "done")["files"], "its row")
    witness = site.base / "witness.py"
    witness.write_text(witness.read_text().replace('"reject": ', '"mended": '))
    return str(file["id"])


@fault("Ledger", "a retry while it is locked", how="a lock of SQLite's; `inboxd retry`, SIGKILL", shows=AGAIN)
@pytest.mark.parametrize("killed", [False, True])
def test_a_retry_behind_a_lock(site: Site, killed: bool) -> None:
    with run_daemon(site.config) as daemon:
        file_id = _an_error(site)
        assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:
        with locked(site):
            said = inboxd(site.config, "retry", file_id)
            assert said.returncode == 0, said.stderr
            assert site.listed("work") and not site.listed("errors")
            for verb in ("retry", "forget"):
                refused = inboxd(site.config, verb, file_id)
                assert refused.returncode != 0
                assert "ledger" in refused.stdout + refused.stderr
                assert "forget" not in refused.stdout + refused.stderr
            if killed:
                daemon.kill()
        if not killed:
            wait_until(lambda: site.listed("processed"), "its success", timeout=40)
            assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:
        wait_until(lambda: site.listed("processed"), "its success")
        assert bool(daemon.events("file.retried")) is killed
        assert not daemon.events("file.adopted")
        assert daemon.stop() == 0
    assert_sound(site, finished=True, retried=frozenset([file_id]))


@fault(
    "Ledger",
    "a retry while it is known to be away",
    how="a lock of SQLite's; `inboxd retry`",
    shows="it is refused, and nothing touched",
)
def test_a_retry_in_an_outage(site: Site) -> None:
    with run_daemon(site.config) as daemon:
        file_id = _an_error(site)
        with locked(site):
            site.drop("ok-b.dat", b"b")
            daemon.wait_event("daemon.degraded")
            said = inboxd(site.config, "retry", file_id)
            assert said.returncode != 0
            assert "ledger is away" in said.stdout + said.stderr
            assert len(site.listed("errors")) == 1
        wait_finished(site, 2)
        assert daemon.stop() == 0
    assert_sound(site, finished=True)
