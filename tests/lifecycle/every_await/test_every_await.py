"""The process of a worker or a triggerer ends at each of its requests in turn, and Airflow goes on as it does.

Whatever ends where: each try has one pod, no two pods of a task run at the same time, the verdict and the result are
the pod's, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

from kpo_async.api_types import pod_from_dict
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import connect
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.companions import assess_all
from kpo_async.pod.status import Verdict, assess
from kpo_async.reconciler.runner import OwnedPod, carry_out
from kpo_async.reconciler.verdict import Try, TryStatus, decide
from tests.factories import eventually
from tests.lifecycle.every_await.mortal import End, Fate, Moment
from tests.lifecycle.every_await.small_airflow import Actor, SmallAirflow

MODES: dict[str, dict[str, Any]] = {
    "worker": {},
    "deferrable": {"deferrable": True},
    "end_from_trigger": {"deferrable": True, "end_from_trigger": True},
    "workerless": {"deferrable": True, "end_from_trigger": True, "start_from_trigger": True},
    "disrupted": {"deferrable": True, "end_from_trigger": True, "retry_on_disruption": 1},
}
"""Parameters. In the mode `disrupted` the first pod of a task is deleted from outside as soon as it runs."""
AT_ONCE = 3
"""How many stories a test runs at the same time: they wait for their pods most of it."""
SUCCEEDS = "sleep 0.3; echo 42 > /airflow/xcom/return.json"
FAILS = "sleep 0.3; exit 3"
IS_ENDED = "sleep 2; echo 42 > /airflow/xcom/return.json"
"""For a task that its user ends: longer than it takes to cancel its trigger, after whose event none is left to tell."""


class PodHistory:
    """All that happened to the pods of a DAG run."""

    def __init__(self, cluster: LocalCluster, run_id: str, *, disrupted: bool) -> None:
        self._cluster = cluster
        self._run_id = run_id
        self._disrupted = disrupted
        self.of_owner: dict[str, set[str]] = defaultdict(set)
        """Owner annotation -> the pods that ever had it."""
        self.left: dict[str, str] = {}
        """The pods that are not being deleted, by uid."""
        self.most_running = 0
        self._running: set[str] = set()

    def take(self, deleted: bool, pod: Any) -> None:
        metadata = pod["metadata"]
        if metadata["labels"]["run_id"] != self._run_id:
            return
        uid = metadata["uid"]
        self.of_owner[metadata["annotations"]["kpo-async/owner"]].add(uid)
        self._running.discard(uid)
        self.left.pop(uid, None)
        if not deleted and "deletionTimestamp" not in metadata:
            self.left[uid] = metadata["name"]
            verdict = assess(pod_from_dict(pod), "base").verdict
            if not verdict.ended:
                self._running.add(uid)
            if self._disrupted and verdict is Verdict.RUNNING and "kpo-async/attempt" not in metadata["labels"]:
                self._cluster.client.delete("pods", metadata["namespace"], metadata["name"], uid=uid)
        self.most_running = max(self.most_running, len(self._running))

    async def is_empty(self) -> bool:
        return not self.left


@asynccontextmanager
async def history_of(cluster: LocalCluster, run: SmallAirflow, mode: str) -> AsyncIterator[PodHistory]:
    history = PodHistory(cluster, run.run_id, disrupted=mode == "disrupted")

    async def follow() -> None:
        async for event in cluster.client.watch("pods"):
            history.take(event.type == "DELETED", event.object)

    following = asyncio.create_task(follow(), name="the history of all pods")
    yield history
    following.cancel()
    await asyncio.wait([following])


def airflow(cluster: LocalCluster, mode: str, script: str = SUCCEEDS, **fields: Any) -> SmallAirflow:
    parameters = {
        "task_id": "task",
        "image": "busybox:1.36",
        "cmds": ["sh", "-c"],
        "arguments": [script],
        "kubernetes_conn_id": None,
        "config_file": str(cluster.kubeconfig),
        "namespace": "default",
        "termination_grace_period": 1,
        "do_xcom_push": True,
        **MODES[mode],
    }
    return SmallAirflow(parameters, **fields)


async def reconcile(cluster: LocalCluster, run: SmallAirflow) -> None:
    """Do what the reconciler does: a triggerer that has ended the task may not have come to finish its pod."""
    async with connect(ClusterSource(config_file=str(cluster.kubeconfig))) as client:
        for found in (await client.list("pods", "default", label_selector=f"run_id={run.run_id}"))["items"]:
            pod = OwnedPod(client, pod_from_dict(found))
            assert pod.record is not None
            state = assess_all(pod.pod, pod.record)
            await carry_out(pod, decide(pod.record, state, Try(TryStatus.ENDED, run.state), datetime.now(timezone.utc)))


async def problems(
    cluster: LocalCluster, run: SmallAirflow, mode: str, script: str, actor: Actor, fate: Fate
) -> list[str]:
    """What is wrong after a run in which the actor's process has this fate."""
    found = []
    async with history_of(cluster, run, mode) as history:
        await run.run()
        ended_by_user = fate.end is End.ENDED_BY_USER and run.fates_met
        if fate.end is not End.ENDED_BY_USER and MODES[mode].get("end_from_trigger"):
            await reconcile(cluster, run)
        try:
            await eventually(history.is_empty, within=10)
        except asyncio.TimeoutError:
            found.append(f"pods are left: {history.left}")
        succeeds = script != FAILS and not ended_by_user
        if run.state != ("success" if succeeds else "failed"):
            found.append(f"the task is {run.state}: {run.error}")
        if succeeds and run.xcoms.get("return_value") != 42:
            found.append(f"the result is {run.xcoms.get('return_value')}")
        if script == FAILS and run.error and "exit code 3" not in run.error:
            found.append(f"the task failed otherwise: {run.error}")
        if any(len(pods) > 1 + (mode == "disrupted") for pods in history.of_owner.values()):
            found.append(f"a try has several pods: {dict(history.of_owner)}")
        if history.most_running > 1:
            found.append(f"{history.most_running} pods ran at the same time")
        if len(run.tries) > (2 if fate.end is End.KILLED and actor is not Actor.TRIGGER else 1):
            found.append(f"there were {len(run.tries)} tries")
    return found


ACTORS = {
    "worker": [Actor.START],
    "deferrable": [Actor.START, Actor.TRIGGER, Actor.RESUME],
    "end_from_trigger": [Actor.TRIGGER],
    "workerless": [Actor.TRIGGER],
    "disrupted": [Actor.TRIGGER],
}
"""Whose end is tried in each mode; the start of a deferrable task is the same in two of them."""
SCRIPTS = {
    End.KILLED: {"succeeds": SUCCEEDS, "fails": FAILS},
    End.STOPPED: {"succeeds": SUCCEEDS, "fails": FAILS},
    End.ENDED_BY_USER: {"is ended": IS_ENDED},
}
CASES = [
    pytest.param(mode, script, actor, end, id=f"{mode}, {actor.value}, {end.value}, a pod that {name}")
    for mode, actors in ACTORS.items()
    for actor in actors
    for end, scripts in SCRIPTS.items()
    for name, script in scripts.items()
    if actor is Actor.TRIGGER or end is not End.STOPPED
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "script", "actor", "end"), CASES)
async def test_a_process_that_ends_at_any_of_its_requests_costs_no_pod_and_no_verdict(
    local_cluster: LocalCluster, mode: str, script: str, actor: Actor, end: End
) -> None:
    undisturbed = airflow(local_cluster, mode, script)
    async with history_of(local_cluster, undisturbed, mode):
        await undisturbed.run()
    requests = undisturbed.requests[actor]
    assert requests
    places = asyncio.Semaphore(AT_ONCE)

    async def wrong_with(number: int, request: str, moment: Moment) -> tuple[str, list[str], bool]:
        fate = Fate(end, number, moment)
        run = airflow(local_cluster, mode, script, fates={actor: fate})
        async with places:
            found = await problems(local_cluster, run, mode, script, actor, fate)
        return f"{moment.value} {number}: {request}", found, run.fates_met

    points = [(number, request, moment) for number, request in enumerate(requests, 1) for moment in Moment]
    results = await asyncio.gather(*(wrong_with(*point) for point in points))
    assert {where: found for where, found, _ in results if found} == {}
    # A process sends fewer requests when it starts later than its pod ends, so a few fates are not met.
    assert sum(met for _, _, met in results) >= len(requests)
