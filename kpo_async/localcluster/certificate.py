"""A self-signed certificate for the loopback address, made by the `openssl` program where there is one.

kubectl sends no credentials over plain HTTP, so TLS is what makes it work with a token.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "365"
_SUBJECT_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate that is its own authority."""

    certificate: Path
    key: Path

    @property
    def text(self) -> str:
        """The certificate in PEM."""
        return self.certificate.read_text()

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def create(directory: Path) -> Certificate | None:
    """A new certificate in a directory; None without `openssl`. Blocks for some milliseconds."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    made = Certificate(directory / "tls.crt", directory / "tls.key")
    command = [
        *(openssl, "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-days", _DAYS, "-subj", "/CN=kpo-async-local", "-addext", _SUBJECT_NAMES),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made
