"""A self-signed certificate for the loopback address.

kubectl sends no credentials over plain HTTP, so clients need TLS to authenticate with a token.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALIDITY = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
"""The certificate is valid from this long before its creation, for clients whose clock is behind."""
_COMMON_NAME = "kpo-async-local"
_SUBJECT_NAMES = (
    x509.IPAddress(IPv4Address("127.0.0.1")),
    x509.DNSName("localhost"),
    x509.DNSName("kubernetes.default.svc"),
)


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate that is its own authority."""

    certificate: Path
    key: Path

    @property
    def text(self) -> str:
        """The certificate in PEM."""
        return self.certificate.read_text()

    def context(self) -> ssl.SSLContext:
        """Return a TLS context for a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def create(directory: Path) -> Certificate:
    """Write a new certificate `tls.crt` and its key `tls.key` (mode 0600) to a directory."""
    key = ec.generate_private_key(ec.SECP256R1())
    created = Certificate(directory / "tls.crt", directory / "tls.key")
    created.certificate.write_bytes(_self_signed(key).public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(created.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return created


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName(_SUBJECT_NAMES), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
