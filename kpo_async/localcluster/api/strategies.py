"""The rules of each kind for creating and changing its objects: defaults, kept fields, validation.

The registry has the rules that all kinds share. Pure functions of objects; `admission` has the rules that need others.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kpo_async.localcluster.api import pod_defaults, pod_validate, validate
from kpo_async.localcluster.api.errors import Cause
from kpo_async.localcluster.store.objects import Object


def _same(obj: Object) -> Object:
    return obj


def _nothing(obj: Object) -> Iterator[Cause]:
    return iter(())


def _no_change(new: Object, old: Object) -> Iterator[Cause]:
    return iter(())


@dataclass(frozen=True)
class Strategy:
    """One kind's rules."""

    fill: Callable[[Object], Object] = _same
    """Adds the defaults of version v1 to an object that a client sends."""
    validate: Callable[[Object], Iterator[Cause]] = _nothing
    validate_update: Callable[[Object, Object], Iterator[Cause]] = _no_change
    """Arguments: the new and the old object."""
    has_status: bool = False
    """The status is written through its subresource only."""
    subdomain_names: bool = True
    """Names are DNS subdomains; otherwise DNS labels."""
    counts_generations: bool = False
    """`metadata.generation` counts the changes of the spec."""


def _fill_secret(secret: Object) -> Object:
    filled = {key: value for key, value in secret.items() if key != "stringData"}
    plain = {key: base64.b64encode(value.encode()).decode() for key, value in secret.get("stringData", {}).items()}
    if plain:
        filled["data"] = {**secret.get("data", {}), **plain}
    filled["type"] = secret.get("type", "Opaque")
    return filled


def _fill_namespace(namespace: Object) -> Object:
    metadata = namespace["metadata"]
    if "name" in metadata:
        labels = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": metadata["name"]}
        metadata = {**metadata, "labels": labels}
    spec = namespace.get("spec") or {"finalizers": ["kubernetes"]}
    return {**namespace, "metadata": metadata, "spec": spec, "status": namespace.get("status") or {"phase": "Active"}}


def _fill_quota(quota: Object) -> Object:
    return {**quota, "status": quota.get("status", {})}


def _immutable_data(new: Object, old: Object) -> Iterator[Cause]:
    if not old.get("immutable"):
        return
    changed = [key for key in ("data", "binaryData") if new.get(key) != old.get(key)]
    for key in ["immutable"] if not new.get("immutable") else changed:
        yield Cause("FieldValueForbidden", key, "Forbidden: field is immutable when `immutable` is set")


def _immutable_role(new: Object, old: Object) -> Iterator[Cause]:
    if new.get("roleRef") != old.get("roleRef"):
        yield validate.invalid("roleRef", "", "cannot change roleRef")


def _pod(pod: Object) -> Iterator[Cause]:
    return pod_validate.spec(pod["spec"])


def _pod_update(new: Object, old: Object) -> Iterator[Cause]:
    return pod_validate.spec_update(new["spec"], old["spec"])


_PLAIN = Strategy()
_STRATEGIES = {
    "pods": Strategy(pod_defaults.fill, _pod, _pod_update, has_status=True, counts_generations=True),
    "secrets": Strategy(_fill_secret, validate.secret_data, _immutable_data),
    "configmaps": Strategy(validate=validate.config_data, validate_update=_immutable_data),
    "namespaces": Strategy(_fill_namespace, has_status=True, subdomain_names=False),
    "nodes": Strategy(has_status=True),
    "resourcequotas": Strategy(_fill_quota, has_status=True),
    "rolebindings": Strategy(validate_update=_immutable_role),
    "clusterrolebindings": Strategy(validate_update=_immutable_role),
}


def strategy(resource: str) -> Strategy:
    """Return the rules of a resource."""
    return _STRATEGIES.get(resource, _PLAIN)
