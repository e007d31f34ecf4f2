"""What a pod's annotation `kpo-async/task` says about the task that owns it.

Other processes read it: the next try, the reconciler, and the command line, which do not know the task's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kpo_async.compat import Self
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.names import TASK_ANNOTATION, TaskIdentity
from kpo_async.pod_task import OnFinishAction, OnKillAction


class TaskRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try of a task instance, and what its parameters say about its pod. A new field needs a default."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int = -1
    max_tries: int = 0
    """Airflow's: a retry leaves it, clearing the task raises it."""
    base_container: str = msgspec.field(default="base", name="base")
    companions: list[str] = []
    """Containers that the manifest declared besides the base container and the sidecars."""
    ignore_companions: bool | list[str] = False
    """Those of them that may fail; True for all."""
    deferrable: bool = False
    on_finish_action: OnFinishAction = OnFinishAction.DELETE_POD
    on_kill_action: OnKillAction = OnKillAction.DELETE_POD
    grace_period: int | None = None
    """Seconds between SIGTERM and SIGKILL on deletion; None leaves it to the pod."""
    logs: LogPlan | None = None
    """Which logs other processes may show. None where the task shows none, or passes the lines through a formatter."""
    masked_connections: list[str] = []
    """Ids of the connections whose secrets must be masked in those logs: the task's templates read them."""
    masked_variables: list[str] = []
    """Keys of the variables, likewise."""

    @classmethod
    def of_try(cls, task: TaskIdentity, **parameters: Any) -> Self:
        """Return the record of this try, with the other fields as `parameters`."""
        return cls(task.dag_id, task.task_id, task.run_id, task.try_number, task.map_index, **parameters)

    @classmethod
    def of_pod(cls, pod: Mapping[str, Any]) -> Self | None:
        """Return the record on a pod as the API server answered it; None when it has none that can be read."""
        try:
            return msgspec.json.decode((pod["metadata"].get("annotations") or {})[TASK_ANNOTATION], type=cls)
        except (KeyError, msgspec.MsgspecError):
            return None

    def is_of(self, task: TaskIdentity) -> bool:
        """Whether this is a try of the same task instance."""
        mine = (self.dag_id, self.task_id, self.run_id, self.map_index)
        return mine == (task.dag_id, task.task_id, task.run_id, task.map_index)

    def to_json(self) -> str:
        """Return the value of the annotation."""
        return msgspec.json.encode(self).decode()
