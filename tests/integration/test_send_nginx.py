"""Results that are sent to a real server: nginx with WebDAV, TLS, client certificates and a bound on what it takes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inboxd.fetch.errors import Refused, Unfit
from support.certificates import Authority
from support.sending import Sender, refusal
from support.wait import wait_until

_INSTALL = "apt-get install -y --no-install-recommends nginx-light"
_CONFIG = """
daemon off;
user {user};
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    ssl_client_certificate {folder}/ca.pem; ssl_verify_client optional;
    server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl; root {folder}/www; client_max_body_size 4m;
              location /in/ {{ dav_methods PUT; create_full_put_path on; }}
              location /certified/ {{ dav_methods PUT; if ($ssl_client_verify != SUCCESS) {{ return 403; }} }}
              location /fixed/ {{ }} }}
}}
"""


class _Nginx:
    def __init__(self, folder: Path) -> None:
        self.folder, self.www = folder, folder / "www"
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.plain, self.secure = (one.getsockname()[1] for one in held)
        for one in held:
            one.close()

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, (self.folder / "error.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.secure), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Nginx]:
    """Started for these tests alone, on ports of its own."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, f"these tests need nginx; run: {_INSTALL}"
    one = _Nginx(tmp_path_factory.mktemp("nginx"))
    authority = Authority(one.folder, "ca")
    authority.certify("server")
    authority.certify("client")
    for name in ("in", "certified"):
        (one.www / name).mkdir(parents=True)
    config = one.folder / "nginx.conf"
    user = "root" if os.geteuid() == 0 else "nobody"
    config.write_text(_CONFIG.format(user=user, folder=one.folder, plain=one.plain, secure=one.secure))
    command = [program, "-p", str(one.folder), "-e", str(one.folder / "error.log"), "-c", str(config)]
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command]) as process:
        try:
            wait_until(lambda: one.answers(process), "nginx")
            yield one
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(params=["http", "https"])
def sender(request: pytest.FixtureRequest, nginx: _Nginx, tmp_path: Path) -> Iterator[Sender]:
    secure = request.param == "https"
    place = {
        "url": f"{request.param}://127.0.0.1:{nginx.secure if secure else nginx.plain}/in/{{name}}", "method": "PUT",
        "content_type": "text/csv", "headers": {}, "auth": None, "certificate": None,
        "authority": str(nginx.folder / "ca.pem") if secure else None, "known": [], "cleartext": False,
    }  # fmt: skip
    made = Sender("http", place, tmp_path)
    yield made
    made.close()


def test_results_appear_and_are_replaced(sender: Sender, nginx: _Nginx) -> None:
    destination = sender.destination()
    for name, data in (("a b.csv", b"1"), ("sub/ü.csv", os.urandom(3 << 20)), ("a b.csv", b""), (".x", b"2")):
        assert sender.send(destination, sender.result(name, data)).known is False
        assert (nginx.www / "in" / name).read_bytes() == data


def test_too_much_is_the_results_fault(sender: Sender, nginx: _Nginx) -> None:
    destination = sender.destination()
    for _ in range(3):
        item = sender.result("large.bin", os.urandom(1 << 20) * 20)
        refusal(Unfit, lambda item=item: sender.send(destination, item), "413 .*Too Large")
        sender.send(destination, sender.result("small.bin", b"small"))
    assert not (nginx.www / "in" / "large.bin").exists()


def test_what_does_not_take_results_is_refused(sender: Sender) -> None:
    url = sender.place["url"]
    refusal(
        Refused, lambda: sender.send(sender.destination(url=url.replace("/in/", "/fixed/")), sender.result()), "405"
    )
    assert "answers (" in sender.destination().look()


def test_a_client_certificate(sender: Sender, nginx: _Nginx) -> None:
    url = sender.place["url"].replace("/in/", "/certified/")
    refusal(Refused, lambda: sender.send(sender.destination(url=url), sender.result()), "403")
    if url.startswith("https"):
        files = {"file": str(nginx.folder / "client.pem"), "key": str(nginx.folder / "client.key")}
        sender.send(sender.destination(url=url, certificate=files), sender.result())
        assert (nginx.www / "certified" / "a.csv").read_bytes() == b"a,b\n1,2\n"
