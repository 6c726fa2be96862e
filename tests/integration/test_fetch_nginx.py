"""A real server: nginx with TLS, basic auth, autoindex, Range, and client certificates."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inboxd.fetch.errors import Away, Gone, Refused, Unfit
from support.certificates import Authority
from support.http_rig import HttpRig, failure
from support.partner import PASSWORD, USER
from support.wait import wait_until

_INSTALL = "apt-get install -y --no-install-recommends nginx-light"
_DATA = os.urandom(300_000)
_AUTH = {"basic": {"user": USER, "password": PASSWORD}}

_CONFIG = """
daemon off;
user {user};
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    default_type application/octet-stream;
    root {folder}/www;
    autoindex on;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    server {{ listen 127.0.0.1:{plain};
              location / {{ auth_basic x; auth_basic_user_file {folder}/htpasswd; }}
              location /open/ {{ alias {folder}/www/out/; }} }}
    server {{ listen 127.0.0.1:{secure} ssl; auth_basic x; auth_basic_user_file {folder}/htpasswd;
              location = /mixed/secret.csv {{ deny all; }}
              location /packed/ {{ alias {folder}/www/out/; gzip on; gzip_types *; gzip_min_length 1; gzip_http_version 1.0; }} }}
    server {{ listen 127.0.0.1:{mutual} ssl; ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; }}
}}
"""


class _Nginx(NamedTuple):
    folder: Path
    plain: int
    secure: int
    mutual: int

    @property
    def authority(self) -> str:
        """The CA of its certificate, and of those that it knows."""
        return str(self.folder / "ca.pem")

    @property
    def out(self) -> Path:
        """What it serves as /out/."""
        return self.folder / "www" / "out"


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _answers(process: subprocess.Popen[bytes], folder: Path, port: int) -> bool:
    assert process.poll() is None, (folder / "error.log").read_text()
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Nginx]:
    """Started for these tests alone, on ports of its own."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, f"these tests need nginx; run: {_INSTALL}"
    folder = tmp_path_factory.mktemp("nginx")
    one = _Nginx(folder, *_free_ports(3))
    authority = Authority(folder, "ca")
    authority.certify("server")
    authority.certify("client")
    Authority(folder, "other").certify("stranger")
    one.out.mkdir(parents=True)
    (one.out / "sub").mkdir()
    mixed = one.out.parent / "mixed"
    mixed.mkdir()
    (mixed / "good.csv").write_bytes(b"good")
    (mixed / "secret.csv").write_bytes(b"secret")
    (one.out / "a & b.csv").write_bytes(_DATA)
    (one.out / "text.csv").write_bytes(b"hello world\n" * 1000)
    hashed = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (folder / "htpasswd").write_text(f"{USER}:{{SHA}}{hashed}\n")
    user = "root" if os.geteuid() == 0 else "nobody"
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(user=user, **one._asdict()))
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command]) as process:
        try:
            wait_until(lambda: _answers(process, folder, one.mutual), "nginx")
            yield one
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[HttpRig]:
    one = HttpRig(tmp_path)
    yield one
    one.close()


def _secure(nginx: _Nginx, rig: HttpRig, path: str = "out/", **place: Any) -> Any:
    chosen = {"auth": _AUTH, "authority": nginx.authority, **place}
    return rig.source(f"https://127.0.0.1:{nginx.secure}/{path}", **chosen)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_index_is_listed_and_fetched(nginx: _Nginx, rig: HttpRig, scheme: str) -> None:
    port = nginx.secure if scheme == "https" else nginx.plain
    source = rig.source(f"{scheme}://127.0.0.1:{port}/out/", auth=_AUTH, authority=nginx.authority)
    first, second = source.list()
    assert (first.item, first.size, second.item) == ("a & b.csv", len(_DATA), "text.csv")
    assert first.version.endswith(f" {len(_DATA)}") and first.url.endswith("/out/a%20%26%20b.csv")
    assert rig.take(source, first) == _DATA
    missing = first._replace(url=first.url + "x")
    failure(Gone, lambda: rig.take(source, missing), "404 Not Found")


def test_a_range_is_gone_on_from(nginx: _Nginx, rig: HttpRig) -> None:
    source = _secure(nginx, rig)
    item = next(iter(source.list()))
    (watched,) = _secure(nginx, rig, "out/a%20%26%20b.csv", form="file").list()
    assert watched.version.startswith('"') and watched.size == len(_DATA)
    part = rig.part()
    part.restart(watched.version)
    part.write(_DATA[:123_457])
    part.close()
    assert rig.take(source, item) == _DATA
    assert '" 206 176543 ' in (nginx.folder / "access.log").read_text()


def test_a_file_that_changes(nginx: _Nginx, rig: HttpRig) -> None:
    changing = nginx.out.parent / "rates.csv"
    source = _secure(nginx, rig, "rates.csv", form="file")
    assert list(source.list()) == []
    changing.write_bytes(b"old")
    (old,) = source.list()
    changing.write_bytes(b"newer")
    failure(Unfit, lambda: rig.take(source, old), "changed")
    (new,) = source.list()
    assert rig.take(source, new) == b"newer"


def test_an_encoding_that_nobody_asked_for_is_not_used(nginx: _Nginx, rig: HttpRig) -> None:
    source = _secure(nginx, rig, "packed/")
    text = next(item for item in source.list() if item.item == "text.csv")
    assert rig.take(source, text) == b"hello world\n" * 1000


def test_a_folder_without_its_slash(nginx: _Nginx, rig: HttpRig) -> None:
    failure(Refused, lambda: list(_secure(nginx, rig, "out").list()), "slash at the end")


def test_a_forbidden_file_is_its_own_fault(nginx: _Nginx, rig: HttpRig) -> None:
    source = _secure(nginx, rig, "mixed/")
    good, bad = source.list()
    failure(Unfit, lambda: rig.take(source, bad), "forbids this item")
    assert rig.take(source, good) == b"good"


def test_a_wrong_password(nginx: _Nginx, rig: HttpRig) -> None:
    wrong = {"basic": {"user": USER, "password": PASSWORD[:-1]}}
    failure(Refused, lambda: list(_secure(nginx, rig, auth=wrong).list()), "401 Unauthorized; check `auth`")


def test_who_it_is_not(nginx: _Nginx, rig: HttpRig) -> None:
    other = str(nginx.folder / "other.pem")
    failure(Refused, lambda: list(_secure(nginx, rig, authority=other).list()), "not who it should be: .*authority")
    failure(Refused, lambda: list(_secure(nginx, rig, authority=None).list()), "not who it should be")
    elsewhere = rig.source(f"https://localhost:{nginx.secure}/out/", auth=_AUTH, authority=nginx.authority)
    failure(Refused, lambda: list(elsewhere.list()), "not who it should be: Hostname mismatch")
    failure(Refused, lambda: list(rig.source(f"https://127.0.0.1:{nginx.plain}/").list()), "no TLS with")
    log = (nginx.folder / "access.log").read_text()
    assert "localhost" not in log


def test_an_authority_takes_the_place_of_all_others(
    nginx: _Nginx, rig: HttpRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", nginx.authority)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", nginx.authority)
    other = str(nginx.folder / "other.pem")
    failure(Refused, lambda: list(_secure(nginx, rig, authority=other).list()), "not who it should be")


def test_a_client_certificate_is_shown_at_home_alone(nginx: _Nginx, rig: HttpRig) -> None:
    home = f"https://127.0.0.1:{nginx.mutual}/out/"
    files = {name: {"file": str(nginx.folder / f"{name}.pem"), "key": str(nginx.folder / f"{name}.key")}
             for name in ("client", "stranger")}  # fmt: skip
    known = rig.source(home, certificate=files["client"], authority=nginx.authority)
    item = next(iter(known.list()))
    assert rig.take(known, item) == _DATA
    failure(Refused, lambda: list(rig.source(home, authority=nginx.authority).list()), "400 Bad Request")
    unknown = rig.source(home, certificate=files["stranger"], authority=nginx.authority)
    failure(Refused, lambda: list(unknown.list()), "400 Bad Request")
    mixed = {"file": files["client"]["file"], "key": files["stranger"]["key"]}
    broken = rig.source(home, certificate=mixed, authority=nginx.authority)
    failure(Refused, lambda: list(broken.list()), "client certificate .* can't be used")
    abroad = rig.source(
        f"http://127.0.0.1:{nginx.plain}/open/", certificate=files["client"], authority=nginx.authority,
        origins=[f"https://127.0.0.1:{nginx.mutual}"],
    )  # fmt: skip
    assert next(iter(abroad.list())).item == item.item
    failure(Unfit, lambda: rig.take(abroad, item, "2"), "400 Bad Request")


def test_a_server_that_is_stopped_is_away(nginx: _Nginx, rig: HttpRig) -> None:
    (port,) = _free_ports(1)
    source = rig.source(f"https://127.0.0.1:{port}/", authority=nginx.authority)
    failure(Away, lambda: list(source.list()), "connection refused")
