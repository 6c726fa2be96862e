"""A destination that can't be reached: its inbox stops taking, the others go on, and all ends well by itself."""

from __future__ import annotations

from support.daemon import inboxd, inboxd_json, run_daemon
from support.load import files
from support.site import Site
from support.sound import assert_sound, wait_finished
from support.wait import wait_until


def test_processed_is_away_for_a_while(site: Site) -> None:
    site.inbox("other")
    with run_daemon(site.config) as daemon:
        processed = site.root() / "processed"
        processed.rename(site.root() / "aside")
        site.drop_all(files(5))
        daemon.wait_event("daemon.degraded")
        site.drop_all(files(500, seed=2, prefix="late"))
        site.drop_all(files(50, seed=3, prefix="other"), inbox="other")
        wait_finished(site, 50, inbox="other")
        assert site.count("inbound") > 400  # what the pool had no use for was left where it is
        assert inboxd_json(site.config, "status")["degraded"]
        assert "no delivery: " in inboxd(site.config, "explain", str(site.root() / "inbound" / "late-00499.dat")).stdout
        (site.root() / "aside").rename(processed)
        daemon.wait_event("daemon.resumed", timeout=40)
        wait_finished(site, 505)
        wait_until(lambda: not inboxd_json(site.config, "status")["degraded"], "all is well")
    assert_sound(site, calm=True, finished=True)
