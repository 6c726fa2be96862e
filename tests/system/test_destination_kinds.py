"""The other kinds of destinations, end to end: SFTP and S3, each with a real server and the real daemon."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from support.customers import wait_sends
from support.daemon import inboxd, run_daemon
from support.site import Site
from support.sound import assert_sound
from support.sshd import Sshd
from support.wait import wait_until

_CANARY = "canary-71f0"


def _send_to(site: Site, **place: Any) -> None:
    retry = {"first": "10ms", "longest": "100ms", "max_failures": 2}
    site.inbox("main", destinations={"partner": {**place, "retry": retry}})


def test_sftp(site: Site, tmp_path: Path) -> None:
    """Whole or not at all; what has a name that is taken is given up; a changed host key is refused."""
    target = tmp_path / "in"
    target.mkdir()
    (target / "two-results-0.dat").write_bytes(b"another's")
    server = Sshd(tmp_path)
    place = {
        "host": "127.0.0.1", "port": server.port, "user": server.user, "key": {"file": str(tmp_path / "user")},
        "known_hosts": str(server.known_hosts), "path": str(target),
    }  # fmt: skip
    _send_to(site, sftp=place)
    server.start()
    try:
        with run_daemon(site.config) as daemon:
            told = inboxd(site.config, "check", "--connect", "partner")
            assert told.returncode == 0, told.stdout + told.stderr
            site.drop_all((f"results-{number}.dat", b"x") for number in range(3))
            wait_sends(site, SENT=5, ABANDONED=1)
            assert "two-results-0.dat" in daemon.wait_event("result.abandoned")["file"]
            assert len(list(target.iterdir())) == 6, "and nothing temporary"
            assert (target / "two-results-0.dat").read_bytes() == b"another's"
            (target / "two-results-0.dat").unlink()
            assert inboxd(site.config, "send", "partner", "--again").returncode == 0
            wait_sends(site, SENT=6)
            wait_until(lambda: site.count("outbound") == 6, "all in outbound/")
            assert daemon.stop() == 0
        assert all((target / name).read_bytes().endswith(b"\n") for name in site.listed("outbound"))
        (tmp_path / "other").mkdir()
        server.know(Sshd(tmp_path / "other").folder / "host.pub")
        with run_daemon(site.config) as daemon:
            site.drop("results-9.dat", b"x")
            assert "known_hosts" in daemon.wait_event("destination.refused")["message"]
            assert inboxd(site.config, "doctor", "partner").returncode == 1
            assert server.key.splitlines()[2] not in daemon.output()
    finally:
        server.stop()
    assert_sound(site)


def test_s3(site: Site) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with closing(boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )) as client:  # fmt: skip
        try:
            options = {"key": "AKIAEXAMPLE", "secret": _CANARY, "client_kwargs": {"endpoint_url": url}}
            _send_to(site, store={"url": "s3://partner/in", "options": options})
            with run_daemon(site.config) as daemon:
                site.drop_all((f"results-{number}.dat", b"x") for number in range(2))
                daemon.wait_event("destination.refused")
                client.create_bucket(Bucket="partner")
                assert inboxd(site.config, "send", "partner").returncode == 0
                wait_sends(site, SENT=4)
                listed = client.list_objects_v2(Bucket="partner")["Contents"]
                assert daemon.stop() == 0
                assert _CANARY not in daemon.output()
            assert [one["Key"] for one in listed] == [f"in/{name}" for name in site.listed("outbound")]
        finally:
            server.stop()
    assert _CANARY.encode() not in (site.state / "ledger.sqlite").read_bytes()
    assert_sound(site, finished=True)
