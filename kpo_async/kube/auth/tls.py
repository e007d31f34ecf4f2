"""The SSLContext of a cluster. Building one reads files and takes milliseconds: call `build_context` in a thread."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from kpo_async.kube.auth.config import ClusterConfig
from kpo_async.kube.auth.credentials import ClientCertificate


def build_context(config: ClusterConfig, certificate: ClientCertificate | None) -> ssl.SSLContext:
    """Build the context for `config.server`. Raises `OSError`, `ssl.SSLError` or `ValueError` for unusable PEM."""
    context = ssl.create_default_context(cafile=config.ca_file, cadata=config.ca_data)
    # Python 3.13 turned this on; CAs made by kubeadm, EKS and others lack the extensions it requires.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not config.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        _load_pair(context, certificate)
    return context


def _load_pair(context: ssl.SSLContext, pair: ClientCertificate) -> None:
    """OpenSSL reads certificate chains only from files: use a private directory (mode 0700), deleted at once."""
    with tempfile.TemporaryDirectory(prefix="kpo-async-") as directory:
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        certificate.write_bytes(pair.certificate)
        key.touch(0o600)
        key.write_bytes(pair.key)
        context.load_cert_chain(certificate, key)
