"""The official chart's job `airflow kubernetes cleanup-pods` deletes ended pods at once: nothing is lost by that."""

from __future__ import annotations

import asyncio
import inspect
from argparse import Namespace
from collections.abc import AsyncIterator

import pytest

from kpo_async import lifecycle
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import Outcome
from tests.factories import NO_CALLBACKS, create_pod, eventually, pod_exists, pod_task

LARGE = "printf '\"'; head -c 90000 /dev/zero | tr '\\0' x; printf '\"'"
RESULT = "/airflow/xcom/return.json"


@pytest.fixture
async def cleanup(local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Run the job again and again, with its defaults."""
    command = pytest.importorskip("airflow.providers.cncf.kubernetes.cli.kubernetes_command")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", str(local_cluster.kubeconfig))
    job = inspect.unwrap(command.cleanup_pods)
    arguments = Namespace(namespace="default", min_pending_minutes=30, min_completed_minutes=0, verbose=False)

    async def repeat() -> None:
        while True:
            await asyncio.to_thread(job, arguments)

    cleaning = asyncio.create_task(repeat())
    yield
    cleaning.cancel()
    await asyncio.wait([cleaning])


@pytest.mark.usefixtures("cleanup")
@pytest.mark.filterwarnings("ignore")  # of the synchronous client, which leaves its sockets open
async def test_an_ended_pod_that_the_job_deletes_loses_neither_verdict_nor_result_nor_log(client: Client) -> None:
    outcomes = await asyncio.gather(
        follow(client, f"echo a line; echo 42 > {RESULT}"),
        follow(client, f"echo a line; ({LARGE}) > {RESULT}"),
        follow(client, f"echo a line; echo 43 > {RESULT}; exit 7"),
    )
    assert [outcome.exit_code for outcome in outcomes] == [0, 0, 7]
    assert [len((outcome.result or "").strip()) for outcome in outcomes] == [2, 90_002, 2]
    assert all(outcome.logs_complete and outcome.cursors for outcome in outcomes)


async def follow(client: Client, script: str) -> Outcome:
    """Follow a pod to its end as a trigger does, and see the job delete it."""
    pod = await create_pod(client, script, do_xcom_push=True, labels={"airflow_version": "3.3.2"})
    outcome = await lifecycle.wait(client, pod_task(pod, xcom=XComTransport.SIDECAR), NO_CALLBACKS)

    async def is_deleted() -> bool:
        return not await pod_exists(client, pod)

    await eventually(is_deleted)
    return outcome
