"""Merge two manifests: a truthy value of `over` wins, `base` fills the rest.

As in the incumbent, `False`, `0`, `""` and `[]` never override a template; a model in which nothing is set does, see
`models.ModelDict`. Values are taken whole, except: labels and annotations merge by key; volumes and a container's
lists are concatenated; containers pair by position, init containers by name. Results share their nested values with the
inputs, which are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from kpo_async.exceptions import ManifestError
from kpo_async.json_types import Json

Base = Mapping[str, Any]

CONCATENATED = ("volumeMounts", "env", "envFrom", "ports", "volumeDevices")
"""A container's lists that are concatenated, duplicates included."""


def merge_pods(base: Base, over: Base) -> Json:
    """Return `base` overridden by `over`. Raise ManifestError where a list is needed and something else was given."""
    merged = fill(base, over)
    for key, merge in (("metadata", merge_metadata), ("spec", merge_specs)):
        if base.get(key) and over.get(key):
            merged[key] = merge(base[key], over[key])
    return merged


def base_first(pod: Base, name: str) -> Base:
    """Return the pod with the container of this name in the first place, where the parameters meet it.

    Left in another place, it would be there twice, as it is in the incumbent, and Kubernetes would refuse the pod.
    """
    spec = pod.get("spec") or {}
    containers = _list(spec, "containers")
    named = [container for container in containers if container.get("name") == name]
    if not named or containers[0] is named[0]:
        return pod
    others = [container for container in containers if container is not named[0]]
    return {**pod, "spec": {**spec, "containers": [named[0], *others]}}


def fill(base: Base, over: Base) -> Json:
    """Return the fields of `over`, and those of `base` where `over` has none or a falsy one."""
    merged = dict(over)
    for key, value in base.items():
        if value is not None and not merged.get(key):
            merged[key] = value
    return merged


def merge_metadata(base: Base, over: Base) -> Json:
    """Merge labels and annotations by key; take everything else whole."""
    merged = fill(base, over)
    for key in ("labels", "annotations"):
        if base.get(key) and over.get(key):
            merged[key] = {**base[key], **over[key]}
    return merged


def merge_specs(base: Base, over: Base) -> Json:
    """Merge containers by position and init containers by name, concatenate volumes; take everything else whole."""
    merged = fill(base, over)
    containers = zip_longest(_list(base, "containers"), _list(over, "containers"))
    merged["containers"] = [merge_containers(mine or {}, theirs or {}) for mine, theirs in containers]
    for key, combine in (("initContainers", _by_name), ("volumes", _concatenate)):
        if base.get(key) and over.get(key):
            merged[key] = combine(_list(base, key), _list(over, key))
    return merged


def merge_containers(base: Base, over: Base) -> Json:
    """Concatenate the `CONCATENATED` lists; take everything else whole."""
    merged = fill(base, over)
    for key in CONCATENATED:
        if base.get(key) and over.get(key):
            merged[key] = _concatenate(_list(base, key), _list(over, key))
    return merged


def _by_name(base: list[Any], over: list[Any]) -> list[Any]:
    replacing = {container.get("name"): container for container in over}
    present = {container.get("name") for container in base}
    merged = [merge_containers(container, replacing.get(container.get("name"), {})) for container in base]
    return merged + [container for container in over if container.get("name") not in present]


def _concatenate(base: list[Any], over: list[Any]) -> list[Any]:
    return base + over


def _list(owner: Base, key: str) -> list[Any]:
    value = owner.get(key) or []
    if not isinstance(value, list):
        raise ManifestError(f"{key} is a {type(value).__name__}, a list is needed")
    return value
