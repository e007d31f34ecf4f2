"""Redact a pod for printing: hide values that could be secret, drop managedFields."""

from __future__ import annotations

from kpo_async.json_types import Json

HIDDEN = "***"


def redact(pod: Json) -> Json:
    """Return a copy of `pod` without managedFields, with the literal value of every environment variable hidden."""
    metadata = {key: value for key, value in (pod.get("metadata") or {}).items() if key != "managedFields"}
    spec = dict(pod.get("spec") or {})
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        if kind in spec:
            spec[kind] = [_container(container) for container in spec[kind]]
    return {**pod, "metadata": metadata, "spec": spec}


def _container(container: Json) -> Json:
    if not container.get("env"):
        return container
    env = [{**variable, "value": HIDDEN} if "value" in variable else variable for variable in container["env"]]
    return {**container, "env": env}
