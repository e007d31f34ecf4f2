"""The official chart's job `airflow kubernetes cleanup-pods` deletes ended pods at once: nothing is lost by that.

It leaves a pod alone until its task is done with it, for the pod lacks a label by which the job selects. A pod that has
this label, from a `pod_mutation_hook` or an older version, is deleted while its task is deferred.
"""

from __future__ import annotations

import asyncio
import inspect
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from functools import partial

import airflow
import pytest

from kpo_async import lifecycle
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, Outcome
from tests.factories import NO_CALLBACKS, eventually, identity, manifest, owner, pod_exists, pod_task

LARGE = "printf '\"'; head -c 90000 /dev/zero | tr '\\0' x; printf '\"'"
RESULT = "/airflow/xcom/return.json"


@pytest.fixture
def job(local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The job, with its defaults."""
    command = pytest.importorskip("airflow.providers.cncf.kubernetes.cli.kubernetes_command")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", str(local_cluster.kubeconfig))
    arguments = Namespace(namespace="default", min_pending_minutes=30, min_completed_minutes=0, verbose=False)
    return partial(inspect.unwrap(command.cleanup_pods), arguments)


@pytest.fixture
async def cleanup(job: Callable[[], None]) -> AsyncIterator[None]:
    """Run the job again and again."""

    async def repeat() -> None:
        while True:
            await asyncio.to_thread(job)

    cleaning = asyncio.create_task(repeat())
    yield
    cleaning.cancel()
    await asyncio.wait([cleaning])


@pytest.mark.filterwarnings("ignore")  # of the synchronous client, which leaves its sockets open
async def test_the_job_leaves_an_ended_pod_alone_until_its_task_is_done_with_it(
    client: Client, job: Callable[[], None]
) -> None:
    """No triggerer follows the pod when it ends."""
    task = identity()
    wanted = manifest(task, f"echo 42 > {RESULT}", do_xcom_push=True, airflow_version=airflow.__version__)
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))

    async def has_ended() -> bool:
        found = await client.get("pods", pod["metadata"]["name"], "default")
        return str(found["status"]["phase"]) == "Succeeded"

    await eventually(has_ended)
    await asyncio.to_thread(job)
    assert await pod_exists(client, pod)
    fields = pod_task(pod, xcom=XComTransport.SIDECAR, on_finish_action=OnFinishAction.KEEP_POD)
    outcome = await lifecycle.wait(client, fields, NO_CALLBACKS)
    assert (outcome.exit_code, await lifecycle.collect(client, fields, outcome)) == (0, 42)
    await lifecycle.finish(lifecycle.pod_of(client, fields), fields, succeeded=True)
    await asyncio.to_thread(job)
    assert not await pod_exists(client, pod)


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
    task = identity()
    wanted = manifest(task, script, do_xcom_push=True)
    wanted["metadata"]["labels"]["airflow_version"] = airflow.__version__
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))
    outcome = await lifecycle.wait(client, pod_task(pod, xcom=XComTransport.SIDECAR), NO_CALLBACKS)

    async def is_deleted() -> bool:
        return not await pod_exists(client, pod)

    await eventually(is_deleted)
    return outcome
