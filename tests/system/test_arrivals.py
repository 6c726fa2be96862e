"""Files that have to arrive by an hour: told when they have not, beyond restarts, and told when they come late."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from support.daemon import inboxd, inboxd_json, run_daemon
from support.partner import Partner
from support.site import Site
from support.sourcing import of_partner
from support.wait import wait_until

_DAY = 86400.0


def expect(seconds_ago: float, **values: Any) -> dict[str, Any]:
    """By the minute that began so many seconds ago, or a little more."""
    return {"by": time.strftime("%H:%M", time.gmtime(time.time() - seconds_ago)), "zone": "UTC", **values}


def remembered(site: Site) -> Path:
    return site.state / "expected"


def let_a_day_pass(site: Site) -> None:
    """As if the daemon had looked for the last time a day ago."""
    saved = json.loads(remembered(site).read_text())
    for one in saved.values():
        one["memory"][0] -= _DAY
    remembered(site).write_text(json.dumps(saved))


def test_what_is_missing_is_told_once_and_then_that_it_is_late(site: Site) -> None:
    site.inbox("main", expect=expect(60))
    with run_daemon(site.config) as daemon:
        wait_until(remembered(site).exists, "what it remembers")
        row = wait_until(lambda: inboxd_json(site.config, "status")["inboxes"][0]["expected"], "its standing")
        assert (row["at_least"], row["found"], row["missing"]) == (1, 0, False), "what was before is not judged"
        assert _DAY - 300 < row["by"] - time.time() < _DAY
        assert daemon.stop() == 0
        assert daemon.events("arrivals.missing") == []
    let_a_day_pass(site)
    with run_daemon(site.config) as daemon:
        told = daemon.wait_event("arrivals.missing", inbox="main")
        assert "no file came that should be here by" in told["message"]
        wait_until(lambda: inboxd_json(site.config, "status")["inboxes"][0]["expected"]["missing"], "its standing")
        assert "inbox main: expected 1 by" in inboxd(site.config, "status").stdout
        examined = inboxd(site.config, "doctor")
        assert (examined.returncode, "inbox main: expected 1 by" in examined.stdout) == (1, True)
        assert daemon.stop() == 0
    with run_daemon(site.config) as daemon:
        row = wait_until(lambda: inboxd_json(site.config, "status")["inboxes"][0]["expected"], "its standing")
        assert row["missing"]
        site.drop("ok-1.dat", b"1")
        late = daemon.wait_event("arrivals.late", timeout=30, inbox="main")
        assert "has come" in late["message"]
        wait_until(lambda: not inboxd_json(site.config, "status")["inboxes"][0]["expected"]["missing"], "the end of it")
        assert daemon.events("arrivals.missing") == [], "said once"


def test_a_source_and_its_inbox_are_expected_apart(site: Site) -> None:
    with Partner() as partner:
        source = of_partner(partner, expect=expect(60, at_least=2))
        site.inbox("main", sources={"acme": source}, expect=expect(60))
        with run_daemon(site.config):
            wait_until(remembered(site).exists, "what it remembers")
        let_a_day_pass(site)
        with run_daemon(site.config) as daemon:
            daemon.wait_event("arrivals.missing", source="acme")
            partner.add("ok-1.csv", b"1")
            daemon.wait_event("arrivals.late", timeout=30, inbox="main")
            assert daemon.events("arrivals.late", source="acme") == [], "one of two"
            site.drop("ok-1.dat", b"2")
            partner.add("ok-2.csv", b"3")
            late = daemon.wait_event("arrivals.late", timeout=30, source="acme")
            assert "source acme: what should be here" in late["message"]


def test_a_memory_that_is_damaged_or_of_other_rules_is_a_new_beginning(site: Site) -> None:
    site.inbox("main", expect=expect(60))
    site.state.mkdir()
    for text in ("{", "[]", '{"inbox main": 7}', '{"inbox main": {"rules": {}, "memory": [0]}}'):
        remembered(site).write_text(text)
        with run_daemon(site.config) as daemon:
            wait_until(lambda text=text: remembered(site).read_text() != text, "a new beginning")
            assert daemon.events("arrivals.missing") == []
