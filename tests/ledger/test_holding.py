"""One daemon for each ledger on PostgreSQL."""

from __future__ import annotations

from contextlib import closing

import pytest
from walks import new_file, say

from inboxd.clock import SystemClock
from inboxd.custody import holding
from inboxd.custody.ledger import Ledger
from inboxd.errors import AlreadyRunning, LedgerUnavailable
from support.cutter import Cutter
from support.postgres import Postgres
from support.wait import wait_until


def _open(url: str) -> Ledger:
    return Ledger.open(url, "process", SystemClock())


def _end_sessions(postgres: Postgres) -> None:
    with postgres.connect() as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'inboxd'"
        )


def _announces(ledger: Ledger) -> bool:
    try:
        with ledger.transaction():
            ledger.announce([new_file()])
    except LedgerUnavailable:
        return False
    return True


def test_a_second_one_is_refused_and_the_first_goes_on(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_PATIENCE", 100)
    with closing(_open(postgres_url)) as first:
        with pytest.raises(
            AlreadyRunning, match=r"another inboxd \(connected from this machine since .*\) holds the ledger"
        ):
            _open(postgres_url)
        assert _announces(first)
    _open(postgres_url).close()


def test_one_that_took_it_in_an_outage_is_left_alone(postgres: Postgres, postgres_url: str) -> None:
    with closing(_open(postgres_url)) as first:
        _end_sessions(postgres)
        with closing(_open(postgres_url)) as second:
            assert not _announces(first)  # it notices
            with pytest.raises(LedgerUnavailable, match=r"another inboxd .* holds the ledger"), first.transaction():
                pass
            assert _announces(second)
        wait_until(lambda: _announces(first), "the end of the second one's session")


def test_a_session_whose_end_the_server_has_not_heard_of_is_in_nobodys_way(far: Ledger, wire: Cutter) -> None:
    file = new_file()
    with far.transaction():
        far.announce([file])
    wire.cut = "unheard"
    assert not _announces(far)
    wait_until(lambda: _announces(far), "the ledger", timeout=5)
    say(far, "claim", [file])


def test_who_may_end_no_session_waits_for_its_end(postgres: Postgres) -> None:
    database = postgres.create()
    with postgres.connect(database) as administrator:
        administrator.execute("CREATE ROLE plain LOGIN")
        administrator.execute(f"GRANT ALL ON DATABASE {database} TO plain")
        administrator.execute("GRANT ALL ON SCHEMA public TO plain")
        administrator.execute("REVOKE EXECUTE ON FUNCTION pg_terminate_backend(int, bigint) FROM PUBLIC")
    with closing(_open(postgres.url(database).replace("inboxd@", "plain@"))) as ledger:
        _end_sessions(postgres)
        assert not _announces(ledger)  # it notices
        wait_until(lambda: _announces(ledger), "the ledger", timeout=5)
