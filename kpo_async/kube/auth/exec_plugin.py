"""Credentials from a program, such as `aws eks get-token`: the client side of `client.authentication.k8s.io`.

The program runs as a child process without a terminal. Its output is a secret: errors name the command, the exit code
and the host, and at most the last line that it wrote to stderr, with everything that looks like a token removed.
kubernetes_asyncio's `ExecProvider` is not used: it has no time limit, leaves a cancelled program running, hangs on one
that fills stderr, and takes neither the cluster's description nor a certificate with a token.
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import dataclass, field
from datetime import datetime, timezone

import msgspec

from kpo_async.compat import timeout
from kpo_async.kube.auth.credentials import Authenticator, ClientCertificate, CredentialError, Grant, bearer
from kpo_async.kube.auth.kubeconfig import this_host

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXEC_TIMEOUT = 60.0
"""Seconds a plugin may take; cloud tools need one or two, more on a busy host."""
_MARGIN = 60.0
"""Seconds before its expiry that a credential is renewed, or a tenth of its life if that is less."""
_TOKEN_LIKE = re.compile(r"[A-Za-z0-9+/_=.~-]{24,}")


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _GcloudCredential(msgspec.Struct):
    access_token: str
    token_expiry: datetime


class _GcloudOutput(msgspec.Struct):
    credential: _GcloudCredential


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status | None = None


@dataclass(frozen=True)
class ExecPlugin:
    """A program that prints an ExecCredential, and what it is given."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_version: str = API_VERSIONS[0]
    cluster_info: str = field(default="", repr=False)
    """JSON of `spec.cluster`, for a plugin with `provideClusterInfo`."""
    install_hint: str = ""
    certificate: ClientCertificate | None = None
    """Used with the plugin's token when the plugin brings no certificate."""

    def open(self) -> Authenticator:
        return self

    async def fetch(self) -> Grant:
        """Run the plugin. Raises `CredentialError`."""
        status = self._decode(await self._run())
        now = datetime.now(timezone.utc)
        certificate = self.certificate
        if status.client_certificate_data and status.client_key_data:
            certificate = ClientCertificate(status.client_certificate_data.encode(), status.client_key_data.encode())
        lifetime = None
        if status.expiration_timestamp is not None:
            left = (_aware(status.expiration_timestamp) - now).total_seconds()
            if left <= 0:
                raise self._error(f"gave a credential that expired {-left:.0f} s ago; check the clock of this host")
            lifetime = left - min(_MARGIN, left / 10)
        return Grant(bearer(status.token) if status.token else None, certificate, lifetime)

    async def _run(self) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *self.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **dict(self.environment), "KUBERNETES_EXEC_INFO": self._exec_info()},
                start_new_session=True,
            )
        except FileNotFoundError:
            advice = "install it on every host that runs this task: workers, and triggerers for deferrable tasks"
            hint = f" ({self.install_hint})" if self.install_hint else ""
            raise self._error(f"was not found in PATH; {advice}{hint}") from None
        except OSError as error:
            raise self._error(f"cannot be started: {error.strerror}") from error
        try:
            async with timeout(EXEC_TIMEOUT):
                output, stderr = await process.communicate()
        except asyncio.TimeoutError:
            raise self._error(f"gave no answer within {EXEC_TIMEOUT:.0f} s") from None
        finally:
            await _kill(process)
        if process.returncode:
            raise self._error(f"failed with exit code {process.returncode}{_last_line(stderr)}")
        return output

    def _exec_info(self) -> str:
        """The ExecCredential in the plugin's environment, as JSON."""
        spec: dict[str, object] = {"interactive": False}
        if self.cluster_info:
            spec["cluster"] = msgspec.Raw(self.cluster_info.encode())
        credential = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        return msgspec.json.encode(credential).decode()

    def _decode(self, output: bytes) -> _Status:
        try:
            credential = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            # Of msgspec's errors only those about types are free of the input.
            detail = f": {error}" if isinstance(error, msgspec.ValidationError) else ""
            raise self._error(f"did not print an ExecCredential{detail}") from None
        if credential.api_version != self.api_version:
            raise self._error(f"printed {credential.api_version}, but the kubeconfig has {self.api_version}")
        status = credential.status or _Status()
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise self._error("gave a client certificate without its key, or the other way round")
        if not status.token and not status.client_certificate_data:
            raise self._error("gave neither a token nor a client certificate")
        return status

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f'the exec plugin "{self.command}" of the kubeconfig {what}; this is {this_host()}')


@dataclass(frozen=True)
class GcloudHelper(ExecPlugin):
    """The program of `auth-provider: gcp`, which prints its credential in gcloud's own form.

    kubernetes_asyncio has a function for it, which leaves a program that hangs or fails, and its pipes, behind.
    """

    def _decode(self, output: bytes) -> _Status:
        try:
            credential = msgspec.json.decode(output, type=_GcloudOutput).credential
        except msgspec.MsgspecError:
            raise self._error("did not print a credential as `gcloud config config-helper` does") from None
        return _Status(token=credential.access_token, expiration_timestamp=credential.token_expiry)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the plugin and the processes it started, if it still runs."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f" ({_TOKEN_LIKE.sub('***', lines[-1])[:200]})" if lines else ""
