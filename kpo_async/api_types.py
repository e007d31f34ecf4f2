"""Slim typed views of Kubernetes objects, decoded by msgspec.

Only fields that the library reads are declared. The rest of the JSON (managedFields, volumes, env, most of the spec) is
skipped while decoding, so that a watch event costs microseconds. Field names are Kubernetes' own in snake_case. `None`
stands for absent; lists may be null on the wire, so read them through `or ()`. Times stay RFC 3339 strings, as the
server wrote them: equal strings are equal times, and parsing them would cost time.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Struct(msgspec.Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Common settings: camelCase on the wire, immutable, not tracked by the garbage collector.

    A pod is a tree without cycles, and 10,000 of them are 300,000 objects: visiting them all stops a loop for 40 ms.
    """


class ObjectMeta(_Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    """When the grace period ends, not when the deletion was requested."""
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ResourceRequirements(_Struct, frozen=True):
    """Quantities by the resource's name, such as `{"cpu": "500m"}`. The API server writes strings."""

    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class ContainerSpec(_Struct, frozen=True):
    name: str = ""
    image: str | None = None
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    """`Always` on an init container makes it a native sidecar (KEP-753)."""


class SchedulingGate(_Struct, frozen=True):
    name: str = ""


class PodSpec(_Struct, frozen=True):
    node_name: str | None = None
    containers: list[ContainerSpec] | None = None
    init_containers: list[ContainerSpec] | None = None
    scheduling_gates: list[SchedulingGate] | None = None
    active_deadline_seconds: int | None = None
    termination_grace_period_seconds: int | None = None


class ContainerStateWaiting(_Struct, frozen=True):
    reason: str | None = None
    message: str | None = None


class ContainerStateRunning(_Struct, frozen=True):
    started_at: str | None = None


class ContainerStateTerminated(_Struct, frozen=True):
    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(_Struct, frozen=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(_Struct, frozen=True):
    name: str = ""
    image: str | None = None
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    restart_count: int = 0
    started: bool | None = None


class PodCondition(_Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class PodStatus(_Struct, frozen=True):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    start_time: str | None = None
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class Pod(_Struct, frozen=True):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ObjectReference(_Struct, frozen=True):
    uid: str = ""


class Event(_Struct, frozen=True):
    """A core/v1 Event about a pod."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    type: str | None = None
    reason: str | None = None
    message: str | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None

    @property
    def happened_at(self) -> str:
        """When it was last seen, in RFC 3339; empty if the event does not say."""
        return self.last_timestamp or self.event_time or self.first_timestamp or ""


class Status(_Struct, frozen=True):
    """The API server's response to a request that failed."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: dict[str, Any] | None = None


def pod_from_dict(manifest: dict[str, Any]) -> Pod:
    """The typed view of a pod that is a JSON object. Raises `msgspec.ValidationError` if it is not a pod."""
    return msgspec.convert(manifest, Pod)
