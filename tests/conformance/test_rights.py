"""The rights in `pod.rights` suffice, and each buys what it says: one is taken away at a time.

Those of workers and triggerers; `test_page_rights.py` does the same for the API server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.exceptions import ForbiddenError, XComError
from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.pod.rights import BOTH, RBAC_GROUP, RIGHTS, Component, Feature, Right, manifests, rules
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, Outcome, PodTask
from tests.conformance.api import Api
from tests.conformance.test_client import with_user
from tests.factories import NO_CALLBACKS, eventually, identity, manifest, owner, pod_exists, pod_task

SAYS = "echo a line; echo 42 > /airflow/xcom/return.json"
RESULT = "/airflow/xcom/return.json"
LARGE = f"(printf '\"'; head -c 9000 /dev/urandom | base64 -w0; printf '\"') > {RESULT}"
FOREVER = "trap 'exit 0' TERM; sleep 600 & wait"
ACTION = {"on_finish_action": OnFinishAction.KEEP_POD}


@dataclass
class Account:
    """A component of Airflow in one namespace: a client with its rights, and an administrator's."""

    client: Client
    admin: Client
    namespace: str
    log: pytest.LogCaptureFixture
    pods: list[Json] = field(default_factory=list)

    async def create(self, script: str = SAYS, by: Client | None = None, **parameters: Any) -> Json:
        task = identity()
        wanted = manifest(task, script, **{"namespace": self.namespace, "do_xcom_push": True, **parameters})
        pod = await lifecycle.ensure_pod(by or self.admin, wanted, owner(task))
        self.pods.append(pod)
        return pod

    async def see_through(self, pod: Json, **fields: Any) -> tuple[PodTask, Outcome, Any]:
        """Follow the pod to its end, and finish it, as a trigger or a worker does. Return its result, too."""
        task = replace(pod_task(pod), **{"xcom": XComTransport.SIDECAR, **fields})
        outcome = await lifecycle.wait(self.client, task, NO_CALLBACKS)
        async with lifecycle.finishing(self.client, task, outcome, NO_CALLBACKS):
            result = await lifecycle.collect(self.client, task, outcome)
        return task, outcome, result

    def warnings(self) -> str:
        return "\n".join(record.getMessage() for record in self.log.records if record.levelno >= logging.WARNING)

    def lines(self) -> str:
        return "\n".join(record.getMessage() for record in self.log.records)


Check = Callable[[Account], Awaitable[None]]


@asynccontextmanager
async def account(
    api: Api, kubeconfig: Path, caplog: pytest.LogCaptureFixture, granted: list[Json]
) -> AsyncIterator[Account]:
    """Grant the rules to a new service account of the test's namespace, and connect as it."""
    token = await token_with(api, granted)
    caplog.set_level(logging.INFO, logger="kpo_async")
    async with (
        connect(with_user(kubeconfig, {"token": token})) as client,
        connect(ClusterSource(config_file=str(kubeconfig))) as admin,
    ):
        yield Account(client, admin, api.namespace, caplog)


async def token_with(api: Api, granted: list[Json]) -> str:
    """Return a token of a new service account of the test's namespace that has these rules."""
    account, role, binding = manifests(api.namespace)[:3]
    assert (await api.create("serviceaccounts", account)).status == 201
    assert (await api.create(f"{RBAC_GROUP}/v1/roles", {**role, "rules": granted})).status == 201
    assert (await api.create(f"{RBAC_GROUP}/v1/rolebindings", binding)).status == 201
    request = {"spec": {"expirationSeconds": 600}}
    answer = await api.create("serviceaccounts", request, account["metadata"]["name"], "token")
    token: str = answer.body["status"]["token"]
    return token


def without(component: Component, features: Collection[Feature], right: Right) -> list[Json]:
    """Return the component's rules less one verb. An API server accepts no rule without verbs."""
    granted = []
    for rule in rules(component, features):
        verbs = [verb for verb in rule["verbs"] if (verb, rule["resources"]) != (right.verb, [right.resource])]
        if verbs:
            granted.append({**rule, "verbs": verbs})
    return granted


async def test_a_worker_needs_no_other_right(api: Api, kubeconfig: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with account(api, kubeconfig, caplog, rules(Component.WORKER)) as worker:
        pod = await worker.create(by=worker.client)
        _, outcome, result = await worker.see_through(pod)
        assert (outcome.succeeded, result) == (True, 42)
        assert "a line" in worker.lines()
        assert not await pod_exists(worker.admin, pod)
        large = await worker.create(LARGE, by=worker.client)
        assert len((await worker.see_through(large))[2]) == 12_000
        assert worker.warnings() == ""


async def test_a_triggerer_needs_no_other_right(api: Api, kubeconfig: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with account(api, kubeconfig, caplog, rules(Component.TRIGGERER)) as triggerer:
        pod = await triggerer.create()
        _, outcome, result = await triggerer.see_through(pod, **ACTION)
        assert (outcome.succeeded, result) == (True, 42)
        killed = await triggerer.create(FOREVER)
        task = pod_task(killed)
        await lifecycle.end(lifecycle.pod_of(triggerer.client, task), task, owner=task.owner)
        assert not await pod_exists(triggerer.admin, killed)
        assert triggerer.warnings() == ""
        with pytest.raises(ForbiddenError, match="may not create pods"):
            await triggerer.create(by=triggerer.client)


async def test_the_features_need_their_rights_and_no_other(
    api: Api, kubeconfig: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with account(api, kubeconfig, caplog, rules(Component.TRIGGERER, list(Feature))) as triggerer:
        pod = await triggerer.create(by=triggerer.client, xcom_transport="exec")
        _, outcome, result = await triggerer.see_through(pod, xcom=XComTransport.EXEC)
        assert (outcome.succeeded, result) == (True, 42)
        assert triggerer.warnings() == ""


async def no_create(who: Account) -> None:
    with pytest.raises(ForbiddenError, match="may not create pods"):
        await who.create(by=who.client)


async def no_get(who: Account) -> None:
    pod = await who.create("exit 1")
    await who.see_through(pod, on_finish_action=OnFinishAction.DELETE_SUCCEEDED_POD)
    assert "is left as it is, against on_finish_action='delete_succeeded_pod'" in who.warnings()
    killed = await who.create(FOREVER)
    task = pod_task(killed)
    await lifecycle.end(lifecycle.pod_of(who.client, task), task, owner="another try")
    assert not await pod_exists(who.admin, killed)


async def no_list(who: Account) -> None:
    """From 1.34 on, a watch alone begins with a list; before, it is as without the right to watch."""
    _, outcome, result = await who.see_through(await who.create())
    assert (outcome.succeeded, result) == (True, 42)
    assert "a line" in who.lines()


async def no_watch(who: Account) -> None:
    await no_list(who)
    assert "Until pods may be listed and watched" in who.warnings()
    assert "read every poll_interval" in who.warnings()


async def no_patch(who: Account) -> None:
    pod = await who.create()
    _, outcome, result = await who.see_through(pod, **ACTION)
    assert (outcome.succeeded, result) == (True, 42)
    assert "may not patch pods" in who.warnings()


async def no_delete(who: Account) -> None:
    pod = await who.create()
    _, outcome, result = await who.see_through(pod)
    assert (outcome.succeeded, result) == (True, 42)
    assert f"{pod['metadata']['name']} is left as it is" in who.warnings()
    assert "may not delete pods" in who.warnings()
    assert await pod_exists(who.admin, pod)


async def no_log(who: Account) -> None:
    _, outcome, result = await who.see_through(await who.create())
    assert (outcome.succeeded, result) == (True, 42)
    assert "a line" not in who.lines().replace(SAYS, "")
    assert "may not get pods/log" in who.lines()
    with pytest.raises((ForbiddenError, XComError), match="pods/log"):
        await who.see_through(await who.create(LARGE))


async def no_events(who: Account) -> None:
    pod = await who.create("sleep 2; exit 1")
    await who.see_through(pod, events_on_failure=True)
    assert "Started" not in who.lines()
    await eventually(lambda: has_event(who, pod, "Started"))


async def has_event(who: Account, pod: Json, reason: str) -> bool:
    found = await who.admin.list("events", who.namespace, field_selector=f"involvedObject.uid={pod['metadata']['uid']}")
    return any(event["reason"] == reason for event in found["items"])


async def no_exec(who: Account) -> None:
    pod = await who.create(xcom_transport="exec")
    with pytest.raises(ForbiddenError, match="pods/exec"):
        await who.see_through(pod, xcom=XComTransport.EXEC)


LOST: dict[tuple[str, str], Check] = {
    ("create", "pods"): no_create,
    ("get", "pods"): no_get,
    ("list", "pods"): no_list,
    ("watch", "pods"): no_watch,
    ("patch", "pods"): no_patch,
    ("delete", "pods"): no_delete,
    ("get", "pods/log"): no_log,
    ("list", "events"): no_events,
    ("create", "pods/exec"): no_exec,
}
CASES = [
    pytest.param(component, right, id=f"{component}-{right.verb}-{right.resource}")
    for right in RIGHTS
    for component in sorted(right.of & BOTH)
    if (right.verb, right.resource) in LOST
]


@pytest.mark.parametrize(("component", "right"), CASES)
async def test_without_a_right_this_is_lost(
    component: Component,
    right: Right,
    api: Api,
    kubeconfig: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    granted = without(component, right.features, right)
    if right.resource == "pods/exec":
        granted = [rule for rule in granted if rule["resources"] != ["pods/exec"]]
    async with account(api, kubeconfig, caplog, granted) as who:
        await LOST[right.verb, right.resource](who)
        await asyncio.sleep(0)


def test_every_right_has_a_test() -> None:
    of_both = {(right.verb, right.resource) for right in RIGHTS if right.of & BOTH}
    assert of_both - LOST.keys() == {("get", "pods/exec")}
