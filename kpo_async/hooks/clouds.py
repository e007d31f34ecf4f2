"""Clusters of EKS and GKE, found by the clouds' own programs: classes for an operator's `cluster_hook`.

    KubernetesPodOperator(cluster_hook=EksCluster, cluster_hook_kwargs={"name": "prod", "region": "eu-west-1"}, ...)

A program describes the cluster, and another one gets tokens (`aws eks get-token`, `gke-gcloud-auth-plugin`), again and
again as they expire. Both act as whom the process runs as: workload identity, IRSA, an instance's role. Workers and
triggerers need the programs and that identity; nothing of it is stored in Airflow.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from kpo_async.compat import timeout
from kpo_async.exceptions import ConfigError
from kpo_async.json_types import Json

EXEC_VERSION = "client.authentication.k8s.io/v1beta1"
DESCRIBE_TIMEOUT = 60.0
"""Seconds for a program that describes a cluster."""


@dataclass(frozen=True)
class EksCluster:
    """A cluster of EKS. Needs the AWS CLI. `role_arn`: a role to get tokens for; `profile`: a profile of the CLI."""

    name: str
    region: str
    role_arn: str | None = None
    profile: str | None = None

    async def get_kubeconfig(self) -> Json:
        """Return a kubeconfig whose tokens come from `aws eks get-token`. Raises `ConfigError`."""
        where = ["--region", self.region, "--output", "json", *(["--profile", self.profile] if self.profile else [])]
        described = await _described("aws", "eks", "describe-cluster", "--name", self.name, *where)
        cluster = described["cluster"]
        role = ["--role-arn", self.role_arn] if self.role_arn else []
        plugin = {"command": "aws", "args": ["eks", "get-token", "--cluster-name", self.name, *role, *where]}
        return _kubeconfig(self.name, cluster["endpoint"], cluster["certificateAuthority"]["data"], plugin)


@dataclass(frozen=True)
class GkeCluster:
    """A cluster of GKE. Needs gcloud and gke-gcloud-auth-plugin. `private`: connect to its private endpoint."""

    name: str
    project: str
    location: str
    private: bool = False

    async def get_kubeconfig(self) -> Json:
        """Return a kubeconfig whose tokens come from `gke-gcloud-auth-plugin`. Raises `ConfigError`."""
        where = ["--project", self.project, "--location", self.location, "--format", "json"]
        cluster = await _described("gcloud", "container", "clusters", "describe", self.name, *where)
        host = cluster["privateClusterConfig"]["privateEndpoint"] if self.private else cluster["endpoint"]
        # The application default credentials are those of workload identity.
        plugin = {"command": "gke-gcloud-auth-plugin", "args": ["--use_application_default_credentials"]}
        return _kubeconfig(self.name, f"https://{host}", cluster["masterAuth"]["clusterCaCertificate"], plugin)


def _kubeconfig(name: str, server: str, authority: str, plugin: Json) -> Json:
    user = {"exec": {"apiVersion": EXEC_VERSION, "interactiveMode": "Never", "provideClusterInfo": True, **plugin}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


async def _described(*command: str) -> Any:
    """Return what a program prints, which is JSON. Raises `ConfigError` with the end of what it complains of."""
    words = " ".join(command[:4])
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise ConfigError(f"`{words}` cannot be run: {error.strerror}. Install {command[0]!r} here") from error
    try:
        async with timeout(DESCRIBE_TIMEOUT):
            printed, complaint = await process.communicate()
    except asyncio.TimeoutError:
        raise ConfigError(f"`{words}` has not ended within {DESCRIBE_TIMEOUT:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ConfigError(
            f"`{words}` exited with {process.returncode}: {complaint.decode(errors='replace')[-500:].strip()}"
        )
    return json.loads(printed)
