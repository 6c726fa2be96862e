"""An FTP server of our own (pyftpdlib) in a thread, with TLS by an authority of our own."""

from __future__ import annotations

import datetime
import ipaddress
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it uses asyncore, which Python 3.11 calls old
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer


class Authority:
    """Issues certificates; `file` is what its friends trust."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._begin(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self._certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str) -> Path:
        """A file with key and certificate of this host (a name or an address)."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        made = self._begin(subject, key).add_extension(x509.SubjectAlternativeName([name]), critical=False)
        path = self._folder / f"{host}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


class Ftpd:
    """Serves `folder` to one user. `certificate`: TLS is offered, and demanded. `without`: commands it has not."""

    user = "partner"

    def __init__(
        self, folder: Path, password: str, certificate: Path | None = None, without: tuple[str, ...] = ()
    ) -> None:
        users = DummyAuthorizer()
        users.add_user(self.user, password, str(folder), perm="elradfmwMT")
        base = TLS_FTPHandler if certificate else FTPHandler
        commands = {name: about for name, about in base.proto_cmds.items() if name not in without}
        members: dict[str, Any] = {"authorizer": users, "proto_cmds": commands, "use_gmt_times": True}
        if certificate:
            members |= {"certfile": str(certificate), "tls_control_required": True, "tls_data_required": True}
        self.handler = type("Handler", (base,), members)
        self._respond = self.handler.respond
        self._loop = IOLoop()
        self._server = FTPServer(("127.0.0.1", 0), self.handler, ioloop=self._loop)
        self.port: int = self._server.address[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            self._server.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
        self._server.close_all()

    def route_data(self, through: Callable[[int], int]) -> None:
        """Have clients fetch data at the port that `through` gives for each of ours."""
        plain = self._respond

        def respond(handler: Any, answer: str, *more: Any, **about: Any) -> None:
            if answer.startswith("227"):
                *host, high, low = answer[answer.index("(") + 1 : answer.index(")")].split(",")
                port = through(int(high) * 256 + int(low))
                answer = f"227 Entering passive mode ({','.join(host)},{port // 256},{port % 256})."
            plain(handler, answer, *more, **about)

        self.handler.respond = respond

    def list_as(self, lines: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        """Have MLSD and MLST say what `lines` makes of the truth."""

        class Liar(self.handler.abstracted_fs):  # type: ignore[misc, name-defined]
            def format_mlsx(self, *about: Any, **more: Any) -> Iterator[bytes]:
                return lines(super().format_mlsx(*about, **more))

        self.handler.abstracted_fs = Liar

    def name_as(self, blocks: Iterator[bytes]) -> None:
        """Have NLST send these, which may be without end."""

        class Names:
            def more(self) -> bytes:
                return next(blocks, b"")

        self.handler.ftp_NLST = lambda handler, _path: handler.push_dtp_data(Names(), isproducer=True, cmd="NLST")

    def close(self) -> None:
        """Stop, with all connections."""
        self._over.set()
        self._thread.join()
