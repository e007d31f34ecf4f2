"""A triggerer for tests: Airflow's own code makes the trigger of a task that its scheduler has deferred."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import (
    DeleteXCom,
    ErrorResponse,
    GetTaskStates,
    GetTICount,
    GetXCom,
    SetXCom,
    TaskStatesResult,
    TICount,
    VariableResult,
    XComResult,
)

from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.workerless.trigger import KubernetesPodStartTrigger
from tests.airflow_versions import DagSerialization, TaskInstanceDTO
from tests.factories import eventually

SIMULATED = {"sim/log-lines": "0", "sim/run-for": "1s"}
"""Annotations of a pod that runs for a second, without processes and logs."""


@dataclass
class Supervisor:
    """Airflow's side of a triggerer: task states, XComs and numbers of instances. Nothing else is answered."""

    state: str = "deferred"
    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The XComs of tasks that are not mapped, by task and key."""
    mapped_xcoms: dict[tuple[str, int], Any] = field(default_factory=dict)
    """The results of mapped tasks, by task and map index."""
    instances: dict[str, int] = field(default_factory=dict)
    """The numbers of instances of mapped tasks."""

    outages: list[type] = field(default_factory=list)
    """The next requests of these kinds fail, one for each, as when the connection to the database is lost."""

    async def asend(self, message: Any) -> Any:
        return await asyncio.sleep(0, self.send(message))

    def send(self, message: Any) -> Any:
        if type(message) in self.outages:
            self.outages.remove(type(message))
            detail = {"status_code": None, "exception_type": "OperationalError"}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
        if isinstance(message, GetTaskStates):
            assert message.task_ids
            assert message.run_ids
            indexes = range(100) if message.map_index is None else [message.map_index]
            keys = [f"{task_id}_{index}" for task_id in message.task_ids for index in indexes]
            return TaskStatesResult(
                task_states={message.run_ids[0]: dict.fromkeys([*message.task_ids, *keys], self.state)}
            )
        if isinstance(message, GetXCom):
            if message.map_index is not None and message.map_index >= 0:
                found = self.mapped_xcoms.get((message.task_id, message.map_index))
            else:
                found = self.xcoms.get((message.task_id, message.key))
            return XComResult(key=message.key, value=found)
        if isinstance(message, SetXCom):
            if message.map_index is not None and message.map_index >= 0:
                self.mapped_xcoms[f"{message.task_id} {message.key}", message.map_index] = message.value
            else:
                self.xcoms[message.task_id, message.key] = message.value
            return None
        if isinstance(message, DeleteXCom):
            self.xcoms.pop((message.task_id, message.key))
            return None
        if isinstance(message, GetTICount):
            assert message.task_ids
            return TICount(count=self.instances[message.task_ids[0]])
        if type(message).__name__ == "GetVariable":
            return VariableResult(key=message.key, value="tests")
        if type(message).__name__ == "GetConnection":
            return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
        raise AssertionError(f"a triggerer's supervisor does not answer {type(message).__name__}")


class Deferred:
    """A task that Airflow's scheduler has deferred instead of queueing it.

    With `expand` it is mapped: its arguments, or a function that returns them for the results of the tasks `numbers`
    and `doubled`, of which the second is mapped. `dag` are parameters of its DAG.
    """

    def __init__(
        self,
        cluster: LocalCluster | None,
        script: str,
        *,
        expand: Mapping[str, Any] | Callable[[Any, Any], Mapping[str, Any]] | None = None,
        dag: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        given = {
            "task_id": "task",
            "image": "busybox:1.36",
            "cmds": ["sh", "-c"],
            "arguments": [script],
            "namespace": "default",
            "kubernetes_conn_id": None,
            "config_file": str(cluster.kubeconfig) if cluster else None,
            "termination_grace_period": 1,
            "deferrable": True,
            "start_from_trigger": True,
            "end_from_trigger": True,
            **parameters,
        }
        with DAG("dag", schedule=None, **(dag or {})) as made:

            @task
            def numbers() -> list[int]:
                return [1, 2]

            @task
            def doubled(number: int) -> int:
                return 2 * number

            one = numbers()
            many = doubled.expand(number=one)
            if expand is None:
                KubernetesPodOperator(**given)
            else:
                mapped = expand(one, many) if callable(expand) else expand
                shared = {name: value for name, value in given.items() if name not in mapped}
                KubernetesPodOperator.partial(**shared).expand(**mapped)
        self._keep(made, "task")

    def _keep(self, dag: DAG, task_id: str) -> None:
        self.dag = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        self.task_id = task_id
        self._ids: dict[tuple[str, int], uuid.UUID] = {}

    @classmethod
    def of(cls, dag: DAG, task_id: str) -> Deferred:
        """The task of a DAG whose id is `dag`."""
        deferred = cls.__new__(cls)
        deferred._keep(dag, task_id)
        return deferred

    def trigger(
        self, run_id: str = "run", map_index: int = -1, try_number: int = 1, conf: Mapping[str, Any] | None = None
    ) -> KubernetesPodStartTrigger:
        """The trigger as a triggerer makes it from its row and the serialized DAG."""
        instance = TaskInstanceDTO(
            id=self._ids.setdefault((run_id, map_index), uuid.uuid4()),
            dag_version_id=uuid.uuid4(),
            dag_id="dag",
            task_id=self.task_id,
            run_id=run_id,
            try_number=try_number,
            map_index=map_index,
            pool_slots=1,
            queue="default",
            priority_weight=1,
        )
        now = datetime.now(timezone.utc)
        run = {
            "dag_id": "dag",
            "run_id": run_id,
            "logical_date": now,
            "data_interval_start": now,
            "data_interval_end": now,
            "run_after": now,
            "start_date": now,
            "end_date": None,
            "run_type": "manual",
            "state": "running",
            "consumed_asset_events": [],
            "partition_key": None,
            "conf": conf,
        }
        ti = TriggerRunner.create_runtime_ti(instance, self.dag, run)
        ti.get_template_context()
        args = ti.task.start_trigger_args
        assert args is not None
        assert args.trigger_kwargs is not None
        trigger = KubernetesPodStartTrigger(**args.trigger_kwargs["__var"])
        trigger.task_instance = ti  # type: ignore[assignment]
        return trigger

    def start(self, run_id: str = "run", map_index: int = -1) -> tuple[KubernetesPodStartTrigger, asyncio.Task[Any]]:
        trigger = self.trigger(run_id, map_index)
        return trigger, asyncio.create_task(fired(trigger), name=f"the trigger of {run_id}, {map_index}")


async def fired(trigger: KubernetesPodStartTrigger) -> Any:
    """The one event of a trigger."""
    [event] = [event async for event in trigger.run()]
    return event


async def pods(client: Client) -> list[str]:
    """The names of the pods that are not being deleted."""
    found = (await client.list("pods", "default"))["items"]
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def are_gone_once_stored(client: Client, supervisor: Supervisor, state: str = "success") -> None:
    """Let Airflow store the ends of tasks, and wait until their pods are gone, which were there until then."""
    assert await pods(client) != []
    supervisor.state = state

    async def gone() -> bool:
        return await pods(client) == []

    await eventually(gone)


async def killed(trigger: KubernetesPodStartTrigger, running: asyncio.Task[Any]) -> None:
    """End the trigger of a task that its user has ended."""
    running.cancel()
    await asyncio.wait([running])
    await trigger.on_kill()
