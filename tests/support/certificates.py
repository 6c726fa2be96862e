"""An authority of our own, for servers and clients on this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Makes NAME.pem in a folder, its own certificate, and signs others."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self._write(self.file, self._signed(self._name, self._key, ca=True))

    def certify(self, name: str) -> None:
        """NAME.pem and NAME.key, good for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(
            self._folder / f"{name}.pem", self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        )
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self._folder / f"{name}.key").write_bytes(key.private_bytes(*private))

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        usage = {name: False for name in ("digital_signature", "content_commitment", "key_encipherment",
                 "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")}  # fmt: skip
        usage |= {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
