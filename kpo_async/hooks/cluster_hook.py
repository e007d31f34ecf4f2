"""Clusters that users' code finds: where a kubeconfig is made for the occasion, as for EKS and GKE.

An operator with a `cluster_hook` needs no kubeconfig on a disk. Worker and triggerer make an object of that class where
they need one, each with the same plain arguments, which are in the trigger's row; what the object returns is not stored
anywhere. `hooks.clouds` has such classes for EKS and GKE.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from kpo_async.callbacks import run_in_thread
from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.hooks.connection import FRESH_FOR
from kpo_async.hooks.kubernetes import cluster_source, resolve
from kpo_async.import_path import from_import_path
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.shared import SingleFlight
from kpo_async.pod.build import ConnectionDefaults
from kpo_async.pod_task import ClusterRef, PodTask


class ClusterHook(Protocol):
    """What the class of a `cluster_hook` has. It is made with `cluster_hook_kwargs`.

    `get_kubeconfig` returns the content of a kubeconfig; it may be `async`, and runs in a thread otherwise. Its user
    should have an `exec` plugin (`aws eks get-token`, `gke-gcloud-auth-plugin`), which renews its tokens: a pod may run
    for longer than a token is valid.
    """

    def get_kubeconfig(self) -> Mapping[str, Any]: ...


_FETCHES: SingleFlight[tuple[object, bytes], Mapping[str, Any]] = SingleFlight("cluster hook", fresh_for=FRESH_FOR)


async def source_of(
    cluster: ClusterRef, hook: Callable[..., ClusterHook] | None, arguments: Mapping[str, Any]
) -> tuple[ClusterSource, ConnectionDefaults]:
    """Return where the cluster is. With a hook, the connection gives nothing but the defaults for pods.

    Raises `ConfigError` for a connection or a hook that gives no cluster.
    """
    if hook is None:
        return await resolve(cluster)
    _, defaults = await cluster_source(cluster.conn_id)
    return ClusterSource(config_dict=await kubeconfig_of(hook, arguments), context=cluster.context), defaults


async def source_of_task(task: PodTask) -> ClusterSource:
    """Do as `source_of` in a triggerer. Raises `ImportPathError`, too."""
    hook = await run_in_thread(from_import_path, task.cluster_hook) if task.cluster_hook else None
    source, _ = await source_of(task.cluster, hook, task.cluster_hook_kwargs)
    return source


async def kubeconfig_of(hook: Callable[..., ClusterHook], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the kubeconfig that a hook makes, which may be `FRESH_FOR` seconds old. Raises `ConfigError`."""
    return await _FETCHES.run((hook, msgspec.json.encode(arguments)), lambda: _make(hook, arguments))


async def _make(hook: Callable[..., ClusterHook], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    name = getattr(hook, "__qualname__", repr(hook))
    try:
        made = await run_in_thread(lambda: hook(**arguments).get_kubeconfig())
        kubeconfig = await made if inspect.isawaitable(made) else made
    except KpoError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the cluster_hook {name} raised {type(error).__name__}: {error}"[:1024]) from error
    if not isinstance(kubeconfig, Mapping):
        kind = type(kubeconfig).__name__
        raise ConfigError(f"{name}.get_kubeconfig() returned a {kind}: return the content of a kubeconfig as a dict")
    return kubeconfig
