"""The other kinds of sources, end to end: SFTP, FTP over TLS and S3, each with a real server and the real daemon."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from support.daemon import Daemon, run_daemon
from support.ftpd import Authority, Ftpd
from support.site import Site
from support.sourced import wait_states
from support.sshd import Sshd
from support.wait import wait_until

_CANARY = "canary-71f0"


def _connect(site: Site, **place: Any) -> None:
    retry = {"first": "10ms", "longest": "100ms"}
    site.inbox("main", sources={"partner": {**place, "every": "300ms", "retry": retry}})


def _all_came(site: Site, count: int) -> None:
    wait_until(lambda: len(site.listed("processed")) == count, "every file's end", 30)
    wait_states(site, ACKED=count)
    assert len(site.witnessed("end")) == count


def _no_secret(site: Site, daemon: Daemon, secret: str) -> None:
    assert secret not in daemon.output()
    assert secret.encode() not in (site.state / "ledger.sqlite").read_bytes()


def test_sftp(site: Site, tmp_path: Path) -> None:
    """Fetched, and deleted there when it is safe here; a changed host key is refused."""
    out = tmp_path / "out"
    out.mkdir()
    for number in range(5):
        (out / f"ok-{number}.dat").write_bytes(b"%d" % number * 1000)
    (out / "ok-9.dat.part").write_bytes(b"not finished")
    server = Sshd(tmp_path)
    place = {
        "host": "127.0.0.1", "port": server.port, "user": server.user, "key": {"file": str(tmp_path / "user")},
        "known_hosts": str(server.known_hosts), "path": str(out), "after": "delete",
    }  # fmt: skip
    _connect(site, sftp=place)
    server.start()
    try:
        with run_daemon(site.config) as daemon:
            _all_came(site, 5)
            assert [path.name for path in out.iterdir()] == ["ok-9.dat.part"]
            _no_secret(site, daemon, server.key.splitlines()[2])
        (tmp_path / "other").mkdir()
        server.know(Sshd(tmp_path / "other").folder / "host.pub")
        with run_daemon(site.config) as daemon:
            assert "known_hosts" in daemon.wait_event("source.refused")["message"]
    finally:
        server.stop()


def test_ftp_over_tls(site: Site, tmp_path: Path) -> None:
    """Fetched, and moved there."""
    out = tmp_path / "home" / "out"
    out.mkdir(parents=True)
    for number in range(5):
        (out / f"ok-{number}.dat").write_bytes(b"%d" % number * 1000)
    authority = Authority(tmp_path)
    with closing(Ftpd(out.parent, _CANARY, authority.issue("127.0.0.1"))) as server:
        place = {
            "host": "127.0.0.1", "port": server.port, "user": server.user, "password": _CANARY,
            "authority": str(authority.file), "path": "/out", "after": {"move": "done"},
        }  # fmt: skip
        _connect(site, ftp=place)
        with run_daemon(site.config) as daemon:
            _all_came(site, 5)
            assert sorted(path.name for path in (out / "done").iterdir()) == site.listed("processed")
            _no_secret(site, daemon, _CANARY)


def test_s3(site: Site) -> None:
    """Fetched and left there: nothing is fetched twice, but what is put anew under the same name."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with closing(boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )) as client:  # fmt: skip
        try:
            client.create_bucket(Bucket="partner")
            for number in range(5):
                client.put_object(Bucket="partner", Key=f"out/ok-{number}.dat", Body=b"%d" % number * 1000)
            options = {"key": "AKIAEXAMPLE", "secret": _CANARY, "client_kwargs": {"endpoint_url": url}}
            _connect(site, store={"url": "s3://partner/out", "options": options})
            with run_daemon(site.config) as daemon:
                _all_came(site, 5)
                client.put_object(Bucket="partner", Key="out/ok-0.dat", Body=b"another")
                _all_came(site, 6)
                _no_secret(site, daemon, _CANARY)
        finally:
            server.stop()
