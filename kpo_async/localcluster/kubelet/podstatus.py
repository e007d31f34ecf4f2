"""A pod's status from what the kubelet knows of its containers. Pure; a real kubelet 1.34 is the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Object

ADDRESS = "127.0.0.1"
_MESSAGES_BYTES = 12 * 1024
"""Bytes of termination messages in a pod's status, shared out evenly between its containers."""


class Kind(Enum):
    """What a container is in its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    """An init container with `restartPolicy: Always` (KEP-753)."""
    MAIN = "main"


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    started_at: int
    """Nanoseconds since the epoch, like every time here."""


@dataclass(frozen=True)
class Terminated:
    exit_code: int
    reason: str
    container_id: str
    started_at: int
    finished_at: int
    message: str = ""


State = Waiting | Running | Terminated


@dataclass
class ContainerRecord:
    """What is known of one container of a pod."""

    spec: dict[str, Any]
    kind: Kind
    state: State
    last: Terminated | None = None
    container_id: str = ""
    image_id: str = ""
    restarts: int = 0
    started: bool = False
    """Runs, and its startup probe (if any) has succeeded."""
    probed_ready: bool = True
    """What the readiness probe (if any) said last."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def ready(self) -> bool:
        if self.kind is Kind.INIT:
            return self.succeeded
        return isinstance(self.state, Running) and self.started and self.probed_ready

    @property
    def initialized(self) -> bool:
        """An init container that no longer keeps the main containers waiting."""
        if self.kind is Kind.SIDECAR:
            return self.started or isinstance(self.state, Terminated) or self.restarts > 0
        return self.succeeded

    @property
    def succeeded(self) -> bool:
        return isinstance(self.state, Terminated) and self.state.exit_code == 0

    @property
    def ended(self) -> Terminated | None:
        """Its end, also while it waits to be restarted."""
        if isinstance(self.state, Terminated):
            return self.state
        return self.last if isinstance(self.state, Waiting) else None


class Ending(Enum):
    """Why a pod's containers are being stopped."""

    NONE = ""
    DELETED = "Deleted"
    DEADLINE = "DeadlineExceeded"


@dataclass
class PodRecord:
    """What is known of one pod."""

    containers: list[ContainerRecord]
    start_time: int
    sandbox: bool = False
    """Its volumes are mounted, and containers can be started."""
    ending: Ending = Ending.NONE
    finished: bool = False
    """No container runs, and none will."""
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As last written, for lastTransitionTime."""

    @property
    def main(self) -> list[ContainerRecord]:
        return [record for record in self.containers if record.kind is Kind.MAIN]

    @property
    def init(self) -> list[ContainerRecord]:
        return [record for record in self.containers if record.kind is not Kind.MAIN]


def phase(pod: Object, record: PodRecord) -> str:
    """What the pod has come to. Only a finished pod shows Succeeded or Failed; see `shown_phase`."""
    policy = pod["spec"].get("restartPolicy", "Always")
    if record.ending is Ending.DEADLINE:
        return "Failed"
    for container in record.init:
        if container.kind is Kind.INIT and not container.succeeded:
            failed = isinstance(container.state, Terminated) and (policy == "Never" or record.finished)
            return "Failed" if failed else "Pending"
    ends = [container.ended for container in record.main]
    running = any(isinstance(container.state, Running) for container in record.main)
    if any(isinstance(c.state, Waiting) and c.last is None for c in record.main):
        return "Failed" if record.finished else "Pending"
    if running:
        return "Running"
    succeeded = all(end is not None and end.exit_code == 0 for end in ends)
    if record.finished or policy != "Always":
        if succeeded:
            return "Succeeded"
        return "Failed" if record.finished or policy == "Never" else "Running"
    return "Running"


def shown_phase(pod: Object, record: PodRecord) -> str:
    """The phase in the status: terminal only once nothing runs any more."""
    found = phase(pod, record)
    if record.finished or found not in ("Succeeded", "Failed"):
        return found
    return (pod.get("status") or {}).get("phase") or "Pending"


def build(pod: Object, record: PodRecord, now: int) -> dict[str, Any]:
    """The whole status; keeps of the present one what others wrote (PodScheduled, qosClass)."""
    current = pod.get("status") or {}
    by_name = sorted(record.main, key=lambda container: container.name)
    status = {
        **current,
        "phase": shown_phase(pod, record),
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
        "startTime": times.to_seconds(record.start_time),
        "conditions": _conditions(pod, record, now),
        "containerStatuses": [_container_status(pod, record, container) for container in by_name],
    }
    if record.init:
        status["initContainerStatuses"] = [_container_status(pod, record, container) for container in record.init]
    if record.sandbox:
        status |= {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    if record.ending is Ending.DEADLINE and record.finished:
        status["reason"] = record.ending.value
        status["message"] = "Pod was active on the node longer than the specified deadline"
    return status | _observed(pod)


def _conditions(pod: Object, record: PodRecord, now: int) -> list[dict[str, Any]]:
    found = phase(pod, record)
    initialized: dict[str, Any] = {"status": "True"}
    incomplete = [container.name for container in record.init if not container.initialized]
    if incomplete:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initialized = {"status": "False", "reason": "ContainersNotInitialized", "message": message}
    over = found in ("Succeeded", "Failed")
    unready = [c.name for c in record.containers if c.kind is not Kind.INIT and not c.ready]
    ready: dict[str, Any] = {"status": "True"}
    if over and not (found == "Succeeded" and _sidecars_run(record)):
        ready = {"status": "False", "reason": "PodCompleted" if found == "Succeeded" else "PodFailed"}
        if found == "Succeeded":
            initialized["reason"] = "PodCompleted"
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        ready = {"status": "False", "reason": "ContainersNotReady", "message": message}
    sandbox = {"status": "True" if record.sandbox and not record.finished else "False"}
    wanted = {
        "PodReadyToStartContainers": sandbox,
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": ready,
    }
    conditions = [_condition(pod, record, name, content, now) for name, content in wanted.items()]
    others = (pod.get("status") or {}).get("conditions") or ()
    return conditions + [condition | _observed(pod) for condition in others if condition["type"] not in wanted]


def _observed(pod: Object) -> dict[str, Any]:
    generation = pod["metadata"].get("generation")
    return {"observedGeneration": generation} if generation else {}


def _sidecars_run(record: PodRecord) -> bool:
    return any(c.kind is Kind.SIDECAR and isinstance(c.state, Running) for c in record.containers)


def _condition(pod: Object, record: PodRecord, name: str, content: dict[str, Any], now: int) -> dict[str, Any]:
    before = record.conditions.get(name)
    changed = before is None or before["status"] != content["status"]
    since = times.to_seconds(now) if changed or before is None else before["lastTransitionTime"]
    condition = {"type": name, **content, "lastProbeTime": None, "lastTransitionTime": since, **_observed(pod)}
    record.conditions[name] = condition
    return condition


def _container_status(pod: Object, record: PodRecord, container: ContainerRecord) -> dict[str, Any]:
    message_bytes = _MESSAGES_BYTES // len(record.containers)
    status: dict[str, Any] = {
        "name": container.name,
        "image": container.spec.get("image", ""),
        "imageID": container.image_id,
        "lastState": _state(container.last, message_bytes) if container.last else {},
        "ready": container.ready,
        "restartCount": container.restarts,
        "started": container.started and isinstance(container.state, Running),
        "state": _state(container.state, message_bytes),
    }
    if container.container_id:
        status["containerID"] = container.container_id
        status["resources"] = container.spec.get("resources") or {}
    mounts = container.spec.get("volumeMounts")
    if mounts:
        status["volumeMounts"] = [_mount_status(mount) for mount in mounts]
    return status


def _mount_status(mount: dict[str, Any]) -> dict[str, Any]:
    status = {key: mount[key] for key in ("name", "mountPath", "readOnly") if mount.get(key)}
    return {**status, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else status


def _state(state: State, message_bytes: int) -> dict[str, Any]:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(started_at):
            return {"running": {"startedAt": times.to_seconds(started_at)}}
        case Terminated():
            message = state.message.encode()[:message_bytes].decode(errors="ignore")
            return {
                "terminated": {
                    "exitCode": state.exit_code,
                    "reason": state.reason,
                    **({"message": message} if message else {}),
                    "startedAt": times.to_seconds(state.started_at),
                    "finishedAt": times.to_seconds(state.finished_at),
                    "containerID": state.container_id,
                }
            }
