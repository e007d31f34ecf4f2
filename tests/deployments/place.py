"""Components of Airflow, and tasks, as pods of a real cluster whose node is this machine.

They use the node's network, so they find PostgreSQL and Airflow's API on the loopback interface, as everything else
does, and the API server at the address in the kubeconfig, because ../shared/cluster has neither DNS nor kube-proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import yaml

from kpo_async.json_types import Json
from kpo_async.pod.rights import RBAC_GROUP, Component, Feature, manifests
from tests.conformance.api import Access, Api
from tests.factories import eventually

RESOURCES = {
    "ServiceAccount": "serviceaccounts",
    "Role": f"{RBAC_GROUP}/v1/roles",
    "RoleBinding": f"{RBAC_GROUP}/v1/rolebindings",
}
NOT_FOUND = 404
STOP_TIMEOUT = 60.0
OWN = ("AIRFLOW", "KPO_")
"""Prefixes of the variables that a pod gets of a component's environment."""


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster, and the image for what Airflow runs there."""

    kubeconfig: Path
    namespace: str
    image: str

    def pod(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folders: Iterable[Path],
        account: Component | None = None,
    ) -> Json:
        """Return the manifest of a component; `folders` and files of this machine are there at their own paths."""
        server = urlsplit(self._server())
        variables = {
            **{name: value for name, value in environment.items() if name.startswith(OWN)},
            "KUBERNETES_SERVICE_HOST": server.hostname,
            "KUBERNETES_SERVICE_PORT": str(server.port),
        }
        volumes = {f"folder-{number}": str(folder) for number, folder in enumerate(folders)}
        container = {
            "name": "base",
            "image": self.image,
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in volumes.items()],
            **({"command": list(command)} if command else {}),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "hostNetwork": True,
                "securityContext": {"runAsUser": 0},  # the folders are those of the user who runs the tests
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "serviceAccountName": f"kpo-async-{account}" if account else "default",
                "containers": [container],
                "volumes": [{"name": volume, "hostPath": {"path": path}} for volume, path in volumes.items()],
            },
        }

    def executor_settings(self, template: Path) -> dict[str, str]:
        """Return the settings by which the KubernetesExecutor runs tasks here."""
        repository, _, tag = self.image.rpartition(":")
        return {
            "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": self.namespace,
            "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
            "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(self.kubeconfig),
            "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(template),
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": repository,
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": tag,
            "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE": "4",
        }

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Api]:
        """Yield an administrator's access to the namespace."""
        async with aiohttp.ClientSession() as session:
            yield Api(session, await asyncio.to_thread(Access.load, self.kubeconfig), self.namespace)

    async def grant_rights(self) -> None:
        """Create the service accounts, with exactly the documented rights for tasks that start in a triggerer."""
        for body in manifests(self.namespace, features=[Feature.START_FROM_TRIGGER]):
            await self.create(RESOURCES[body["kind"]], body)

    async def create(self, resource: str, body: Json) -> None:
        """Create an object as an administrator."""
        async with self.opened() as api:
            answer = await api.create(resource, body)
            assert answer.status == 201, answer.raw

    async def delete_pods(self, *names: str, grace: int) -> None:
        """Delete pods and wait until they are gone."""
        async with self.opened() as api:
            for name in names:
                await api.delete("pods", name, gracePeriodSeconds=str(grace))
            for name in names:
                await eventually(partial(_is_gone, api, name), within=STOP_TIMEOUT)

    def _server(self) -> str:
        config = yaml.safe_load(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])


async def _is_gone(api: Api, name: str) -> bool:
    return (await api.get("pods", name)).status == NOT_FOUND
