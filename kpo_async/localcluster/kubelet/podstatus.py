"""Builds a pod's status from the records of its containers, as a real kubelet 1.34 does. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

ADDRESS = "127.0.0.1"
_MESSAGES_BYTES = 12 * 1024
"""Bytes of all termination messages in a pod's status, divided evenly between its containers."""


class ContainerType(Enum):
    """The role of a container in its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    """An init container with `restartPolicy: Always` (KEP-753)."""
    MAIN = "main"


@dataclass(frozen=True)
class Waiting:
    """The container has not started, or is waiting for a restart."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """The container runs. Times are in nanoseconds since the epoch."""

    started_at: int


@dataclass(frozen=True)
class Terminated:
    """A run of the container has ended."""

    exit_code: int
    reason: str
    container_id: str
    started_at: int
    finished_at: int
    message: str = ""


_ContainerState = Waiting | Running | Terminated


@dataclass
class ContainerRecord:
    """What the kubelet knows of one container of a pod."""

    spec: Object
    type: ContainerType
    state: _ContainerState
    last: Terminated | None = None
    """The end of the run before the current one."""
    container_id: str = ""
    image_id: str = ""
    restarts: int = 0
    started: bool = False
    """It runs, and its startup probe (if any) has succeeded."""
    probed_ready: bool = True
    """The last result of its readiness probe (if any)."""

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return str(self.spec["name"])

    @property
    def ready(self) -> bool:
        """`ready` in its status."""
        if self.type is ContainerType.INIT:
            return self.succeeded
        return isinstance(self.state, Running) and self.started and self.probed_ready

    @property
    def initialized(self) -> bool:
        """Whether an init container no longer blocks the main containers."""
        if self.type is ContainerType.SIDECAR:
            return self.started or isinstance(self.state, Terminated) or self.restarts > 0
        return self.succeeded

    @property
    def succeeded(self) -> bool:
        """Whether its current run has ended with exit code 0."""
        return isinstance(self.state, Terminated) and self.state.exit_code == 0

    @property
    def ended(self) -> Terminated | None:
        """The end of its last run, also while it is waiting for a restart."""
        if isinstance(self.state, Terminated):
            return self.state
        return self.last if isinstance(self.state, Waiting) else None


class StopReason(Enum):
    """Why the kubelet stops a pod's containers."""

    NONE = ""
    """It does not: they end by themselves."""
    DELETED = "Deleted"
    DEADLINE = "DeadlineExceeded"


@dataclass
class PodRecord:
    """What the kubelet knows of one pod."""

    containers: list[ContainerRecord]
    start_time: int
    sandbox: bool = False
    """Its volumes are mounted, and its containers can be started."""
    stop_reason: StopReason = StopReason.NONE
    finished: bool = False
    """No container runs, and none will start."""
    conditions: dict[str, Object] = field(default_factory=dict)
    """The conditions as last written, for lastTransitionTime."""

    @property
    def main(self) -> list[ContainerRecord]:
        """The main containers."""
        return [record for record in self.containers if record.type is ContainerType.MAIN]

    @property
    def init(self) -> list[ContainerRecord]:
        """The init containers and sidecars."""
        return [record for record in self.containers if record.type is not ContainerType.MAIN]


def containers_of(pod: Object) -> list[tuple[Object, ContainerType]]:
    """Return the specs of a pod's containers in the order of their start, each with its role."""
    init = [
        (spec, ContainerType.SIDECAR if spec.get("restartPolicy") == "Always" else ContainerType.INIT)
        for spec in pod["spec"].get("initContainers") or ()
    ]
    return [*init, *((spec, ContainerType.MAIN) for spec in pod["spec"]["containers"])]


def initial_state(pod: Object) -> Waiting:
    """Return the state of a pod's containers before the first one starts."""
    return Waiting("PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating")


def phase(pod: Object, record: PodRecord) -> str:
    """Return the phase that follows from the containers; `reported_phase` delays terminal phases."""
    policy = pod["spec"].get("restartPolicy", "Always")
    if record.stop_reason is StopReason.DEADLINE:
        return "Failed"
    for container in record.init:
        if container.type is ContainerType.INIT and not container.succeeded:
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


def reported_phase(pod: Object, record: PodRecord) -> str:
    """Return the phase for the status: terminal only once no container runs any more."""
    found = phase(pod, record)
    if record.finished or found not in ("Succeeded", "Failed"):
        return found
    return (pod.get("status") or {}).get("phase") or "Pending"


def build(pod: Object, record: PodRecord, now: int) -> Object:
    """Return the whole status; it keeps what other components wrote (PodScheduled, qosClass)."""
    current = pod.get("status") or {}
    by_name = sorted(record.main, key=lambda container: container.name)
    status = {
        **current,
        "phase": reported_phase(pod, record),
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
    if record.stop_reason is StopReason.DEADLINE and record.finished:
        status["reason"] = record.stop_reason.value
        status["message"] = "Pod was active on the node longer than the specified deadline"
    return status | _observed(pod)


def _conditions(pod: Object, record: PodRecord, now: int) -> list[Object]:
    found = phase(pod, record)
    initialized: Object = {"status": "True"}
    incomplete = [container.name for container in record.init if not container.initialized]
    if incomplete:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initialized = {"status": "False", "reason": "ContainersNotInitialized", "message": message}
    over = found in ("Succeeded", "Failed")
    unready = [c.name for c in record.containers if c.type is not ContainerType.INIT and not c.ready]
    ready: Object = {"status": "True"}
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


def _observed(pod: Object) -> Object:
    generation = pod["metadata"].get("generation")
    return {"observedGeneration": generation} if generation else {}


def _sidecars_run(record: PodRecord) -> bool:
    return any(c.type is ContainerType.SIDECAR and isinstance(c.state, Running) for c in record.containers)


def _condition(pod: Object, record: PodRecord, name: str, content: Object, now: int) -> Object:
    before = record.conditions.get(name)
    changed = before is None or before["status"] != content["status"]
    since = times.to_seconds(now) if changed or before is None else before["lastTransitionTime"]
    condition = {"type": name, **content, "lastProbeTime": None, "lastTransitionTime": since, **_observed(pod)}
    record.conditions[name] = condition
    return condition


def _container_status(pod: Object, record: PodRecord, container: ContainerRecord) -> Object:
    message_bytes = _MESSAGES_BYTES // len(record.containers)
    status: Object = {
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


def _mount_status(mount: Object) -> Object:
    status = {key: mount[key] for key in ("name", "mountPath", "readOnly") if mount.get(key)}
    return {**status, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else status


def _state(state: _ContainerState, message_bytes: int) -> Object:
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
