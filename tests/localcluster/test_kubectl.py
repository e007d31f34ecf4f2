"""kubectl on the embedded cluster. Skipped without a kubectl, in `KPO_KUBECTL` or on the PATH."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import yaml

from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import IMAGE

Kubectl = Callable[..., Awaitable[str]]
MANIFEST = f"""
apiVersion: v1
kind: Pod
metadata: {{name: applied, labels: {{colour: red}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{{name: base, image: "{IMAGE}", command: [sleep, "600"]}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{a: b}}
"""


@pytest.fixture
async def kubectl() -> AsyncIterator[Kubectl]:
    """Runs kubectl with arguments and returns its output."""
    program = shlex.split(os.environ.get("KPO_KUBECTL", "")) or [found for found in [shutil.which("kubectl")] if found]
    if not program:
        pytest.skip("no kubectl found: set KPO_KUBECTL")
    async with LocalCluster() as cluster:
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.directory)}

        async def run(*arguments: str, stdin: str = "") -> str:
            process = await asyncio.create_subprocess_exec(
                *program,
                *arguments,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate(stdin.encode())
            assert process.returncode == 0, f"kubectl {shlex.join(arguments)}: {err.decode()}"
            return out.decode()

        yield run


async def test_a_pod_from_run_to_delete(kubectl: Kubectl) -> None:
    line = "echo hello; sleep 600 & trap 'kill $!' TERM; wait"
    assert (
        await kubectl("run", "one", f"--image={IMAGE}", "--restart=Never", "--", "sh", "-c", line)
        == "pod/one created\n"
    )
    await kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    header, row = (await kubectl("get", "pods")).splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["one", "1/1", "Running", "0"]
    assert await kubectl("logs", "one") == "hello\n"
    assert await kubectl("exec", "one", "--", "echo", "inside") == "inside\n"
    assert await kubectl("exec", "-i", "one", "--", "cat", stdin="through") == "through"
    assert "Successfully assigned default/one to local-1" in await kubectl("describe", "pod", "one")
    assert "deleted" in await kubectl("delete", "pod", "one", "--now")


async def test_manifests_are_validated_applied_changed_and_deleted(kubectl: Kubectl) -> None:
    assert await kubectl("apply", "-f", "-", stdin=MANIFEST) == "pod/applied created\nconfigmap/settings created\n"
    assert await kubectl("apply", "-f", "-", stdin=MANIFEST) == "pod/applied unchanged\nconfigmap/settings unchanged\n"
    changed = MANIFEST.replace("colour: red", "colour: blue")
    assert "pod/applied configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert await kubectl("get", "pod", "applied", "-o", "jsonpath={.metadata.labels.colour}") == "blue"
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    assert yaml.safe_load(await kubectl("get", "cm", "settings", "-o", "yaml"))["data"] == {"a": "b"}
    assert "deleted" in await kubectl("delete", "-f", "-", stdin=MANIFEST)


async def test_roles_are_created_and_checked(kubectl: Kubectl) -> None:
    await kubectl("create", "serviceaccount", "worker")
    await kubectl("create", "role", "reader", "--verb=get", "--resource=pods")
    await kubectl("create", "rolebinding", "readers", "--role=reader", "--serviceaccount=default:worker")
    account = "system:serviceaccount:default:worker"
    assert await kubectl("auth", "can-i", "get", "pods", f"--as={account}") == "yes\n"
    token = (await kubectl("create", "token", "worker")).strip()
    assert account in await kubectl("auth", "whoami", f"--token={token}")


async def test_namespaces_quotas_and_nodes(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "playground")
    await kubectl("create", "quota", "few", "--hard=pods=3", "-n", "playground")
    assert "pods" in await kubectl("describe", "quota", "few", "-n", "playground")
    await kubectl("run", "evicted", f"--image={IMAGE}", "--restart=Never", "--", "sleep", "600")
    await kubectl("drain", "local-1", "--force", "--grace-period=1", "--timeout=20s")
    assert "SchedulingDisabled" in await kubectl("get", "nodes")
    await kubectl("uncordon", "local-1")
    assert "deleted" in await kubectl("delete", "namespace", "playground")
