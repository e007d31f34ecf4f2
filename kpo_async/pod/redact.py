"""A pod as it may be printed: without the values that could be secret, and without what no reader wants. Pure."""

from __future__ import annotations

from kpo_async.json_types import Json

HIDDEN = "***"


def redact(pod: Json) -> Json:
    """A copy of `pod` in which every environment variable's literal value is hidden and managedFields are left out."""
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
