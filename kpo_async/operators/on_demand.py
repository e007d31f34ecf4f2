"""What subclasses of the incumbent's operator read of it, made when it is asked for.

The pod, its manifest, a client and the hook cost requests, or imports of most of a second, so a task that does not ask
pays nothing. What cannot be had raises with what to do instead (`deprecated.MISSING`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from kpo_async.exceptions import ConfigError, NotFoundError
from kpo_async.json_types import Json
from kpo_async.models import is_model, to_v1pod
from kpo_async.operators.base import PodOperatorBase
from kpo_async.operators.deprecated import MISSING

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod

    from kpo_async.hooks.kubernetes import KubernetesHook


class OnDemandAttributes(PodOperatorBase):
    """An operator with the incumbent's `pod`, `remote_pod`, `pod_request_obj`, `client`, `hook` and `extract_xcom`."""

    known_pod: Any = None
    """The pod as the API server answered it last: a dict, or a `V1Pod` once one was asked for; None before."""
    sent_manifest: Any = None
    """The manifest that was sent, likewise."""
    given_manifest: Any = None
    """A manifest that a subclass has set, to be sent instead of what `build_pod_request_obj` returns."""
    resumed_by: Json | None = None
    """The trigger's event, while a deferred task resumes."""
    collected: tuple[Any] | None = None
    """The pod's result, while `extract_xcom` is called."""

    @property
    def pod(self) -> V1Pod | None:
        """The task's pod: as it was created, or as a task finds it that resumes. None before, or if it is gone."""
        if self.known_pod is None and self.resumed_by is not None:
            self.known_pod = self._read_pod(self.resumed_by)
        if self.known_pod is not None and not is_model(self.known_pod):
            self.known_pod = to_v1pod(self.known_pod)
        pod: V1Pod | None = self.known_pod
        return pod

    @pod.setter
    def pod(self, value: V1Pod | None) -> None:
        if value is not None:
            raise ConfigError("self.pod cannot be set: the operator finds its own pod, and adopts that of a lost try")
        self.known_pod = None

    @property
    def remote_pod(self) -> V1Pod | None:
        """The same as `pod`."""
        return self.pod

    @remote_pod.setter
    def remote_pod(self, value: V1Pod | None) -> None:
        self.pod = value

    @property
    def pod_request_obj(self) -> V1Pod | None:
        """The manifest that was sent, None before; if it is set, it is sent instead of `build_pod_request_obj`'s."""
        if self.given_manifest is None and self.sent_manifest is not None and not is_model(self.sent_manifest):
            self.sent_manifest = to_v1pod(self.sent_manifest)
        pod: V1Pod | None = self.given_manifest or self.sent_manifest
        return pod

    @pod_request_obj.setter
    def pod_request_obj(self, value: V1Pod | Json | None) -> None:
        self.given_manifest = value

    @cached_property
    def hook(self) -> KubernetesHook:
        """A hook of the task's cluster."""
        from kpo_async.hooks.cluster_hook import kubeconfig_of
        from kpo_async.hooks.kubernetes import KubernetesHook
        from kpo_async.hooks.sync import run_sync

        if self.cluster_hook is not None:
            kubeconfig = run_sync(kubeconfig_of(self.cluster_hook, self.cluster_hook_kwargs))
            return KubernetesHook(None, None, config_dict=kubeconfig, cluster_context=self.cluster_context)
        return KubernetesHook(
            self.kubernetes_conn_id,
            None,
            in_cluster=self.in_cluster,
            config_file=self.config_file,
            cluster_context=self.cluster_context,
        )

    @cached_property
    def client(self) -> CoreV1Api:
        """The core API of the package `kubernetes`. Raises `KpoError` where that is not installed."""
        return self.hook.core_v1_client

    def extract_xcom(self, pod: V1Pod | None = None, **kwargs: Any) -> Any:
        """Return the pod's result. An override is called with the pod, and returns what becomes the task's result."""
        if self.collected is None:
            raise ConfigError(
                "extract_xcom is called while a task ends: override it, or take the result that execute() and "
                "trigger_reentry() return"
            )
        return self.collected[0]

    def _read_pod(self, event: Json) -> Json | None:
        from kpo_async.hooks.sync import run_sync

        async def read() -> Json | None:
            async with self.hook.connect() as client:
                try:
                    pod = await client.get("pods", event["name"], event["namespace"])
                except NotFoundError:
                    return None
                return pod if pod["metadata"]["uid"] == event["uid"] else None

        return run_sync(read())


class _Missing:
    """Stands for a method or constant of the incumbent's that this package does not have."""

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__}.{self._name} is not part of kpo_async's operator: {self._instead}")


for _name, _instead in MISSING.items():
    setattr(OnDemandAttributes, _name, _Missing(_name, _instead))
