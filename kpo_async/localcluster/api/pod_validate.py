"""Validation of a pod's spec, with the texts of a real API server. Pure; the pod has its defaults already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kpo_async.localcluster.api.errors import Cause
from kpo_async.localcluster.api.validate import (
    dns_label,
    dns_subdomain,
    duplicate,
    invalid,
    labels,
    missing,
    qualified_name,
    required,
    unsupported,
)
from kpo_async.localcluster.store import quantity
from kpo_async.localcluster.store.objects import Object

MAX_INT32 = 2**31 - 1
_ENUMS = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
}
_CONTAINER_ENUMS = {
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}
_FIELD_REFS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_FIELD_REF_MAPS = re.compile(r"metadata\.(labels|annotations)(\['[^']+'\])?")
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_STANDARD_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def spec(found: Object) -> Iterator[Cause]:
    """Yield everything that is invalid in a pod's spec."""
    volumes: set[str] = set()
    yield from _volumes(found.get("volumes", []), volumes)
    yield from _all_containers(found, volumes)
    for key, allowed in _ENUMS.items():
        if found.get(key) not in allowed:
            yield unsupported(f"spec.{key}", found.get(key, ""), allowed)
    yield from labels(found.get("nodeSelector", {}), "spec.nodeSelector")
    yield from _affinity(found.get("affinity", {}))
    for key in ("serviceAccountName", "nodeName"):
        if found.get(key):
            yield from (invalid(f"spec.{key}", found[key], problem) for problem in dns_subdomain(found[key]))
    for key in ("hostname", "subdomain"):
        if found.get(key):
            yield from (invalid(f"spec.{key}", found[key], problem) for problem in dns_label(found[key]))
    deadline = found.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        yield invalid("spec.activeDeadlineSeconds", deadline, f"must be between 1 and {MAX_INT32}, inclusive")
    yield from _user(found.get("securityContext", {}), "spec.securityContext")
    yield from _tolerations(found.get("tolerations", []))
    for index, gate in enumerate(found.get("schedulingGates", [])):
        name = gate.get("name", "")
        yield from (invalid(f"spec.schedulingGates[{index}]", name, problem) for problem in qualified_name(name))
    if "os" in found and found["os"].get("name") not in ("linux", "windows"):
        yield unsupported("spec.os", found["os"].get("name", ""), ("linux", "windows"))


def _volumes(volumes: list[Object], names: set[str]) -> Iterator[Cause]:
    for index, volume in enumerate(volumes):
        where = f"spec.volumes[{index}]"
        name = volume.get("name", "")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, problem) for problem in dns_label(name))
            if name in names:
                yield duplicate(f"{where}.name", name)
        names.add(name)
        kinds = sorted((key for key in volume if key != "name"), key=lambda key: key == "configMap")
        for extra in kinds[1:]:
            message = "Forbidden: may not specify more than 1 volume type"
            yield Cause("FieldValueForbidden", f"{where}.{extra}", message)
        for kind, key in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
            if kinds[:1] == [kind] and not volume[kind].get(key):
                yield required(f"{where}.{kind}.{key}")


def _all_containers(found: Object, volumes: set[str]) -> Iterator[Cause]:
    names: set[str] = set()
    if not found.get("containers"):
        yield required("spec.containers")
    for key in ("containers", "initContainers"):
        for index, container in enumerate(found.get(key, [])):
            where = f"spec.{key}[{index}]"
            name = container.get("name", "")
            if not name:
                yield required(f"{where}.name")
            else:
                yield from (invalid(f"{where}.name", name, problem) for problem in dns_label(name))
                if name in names:
                    yield duplicate(f"{where}.name", name)
            names.add(name)
            yield from _container(container, where, volumes)


def _container(container: Object, where: str, volumes: set[str]) -> Iterator[Cause]:
    image = container.get("image", "")
    if not image:
        yield required(f"{where}.image")
    elif image != image.strip():
        yield invalid(f"{where}.image", image, "must not have leading or trailing whitespace")
    for key, allowed in _CONTAINER_ENUMS.items():
        if container.get(key) not in allowed:
            yield unsupported(f"{where}.{key}", container.get(key, ""), allowed)
    yield from _ports(container.get("ports", []), where)
    yield from _environment(container, where)
    yield from _mounts(container.get("volumeMounts", []), where, volumes)
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if key in container and not any(handler in container[key] for handler in _HANDLERS):
            yield required(f"{where}.{key}", "must specify a handler type")
    for key, handler in container.get("lifecycle", {}).items():
        if key in ("preStop", "postStart") and not any(kind in handler for kind in _HANDLERS):
            yield required(f"{where}.lifecycle.{key}", "must specify a handler type")
    yield from _resources(container.get("resources", {}), f"{where}.resources")
    yield from _user(container.get("securityContext", {}), f"{where}.securityContext")


def _ports(ports: list[Object], where: str) -> Iterator[Cause]:
    for index, port in enumerate(ports):
        at = f"{where}.ports[{index}]"
        number = port.get("containerPort", 0)
        if number == 0:
            yield required(f"{at}.containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(f"{at}.containerPort", number, "must be between 1 and 65535, inclusive")
        if name := port.get("name"):
            if len(name) > 15:
                yield invalid(f"{at}.name", name, "must be no more than 15 characters")
            if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])*", name):
                yield invalid(
                    f"{at}.name", name, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
                )
            if not re.search("[a-z]", name):
                yield invalid(f"{at}.name", name, "must contain at least one letter (a-z)")
        if port.get("protocol") not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{at}.protocol", port.get("protocol", ""), ("SCTP", "TCP", "UDP"))


def _environment(container: Object, where: str) -> Iterator[Cause]:
    for index, entry in enumerate(container.get("env", [])):
        at = f"{where}.env[{index}]"
        name = entry.get("name", "")
        if not name:
            yield required(f"{at}.name")
        elif not re.fullmatch(r"[ -<>-~]+", name):
            message = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield invalid(f"{at}.name", name, message)
        if "valueFrom" in entry:
            yield from _env_source(entry, f"{at}.valueFrom")
    for index, entry in enumerate(container.get("envFrom", [])):
        at = f"{where}.envFrom"
        sources = [key for key in ("configMapRef", "secretRef") if key in entry]
        if not sources:
            yield invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
        elif not entry[sources[0]].get("name"):
            yield required(f"{at}[{index}].{sources[0]}.name")


def _env_source(entry: Object, where: str) -> Iterator[Cause]:
    source = entry["valueFrom"]
    kinds = [key for key in _ENV_SOURCES if key in source]
    if not kinds:
        yield invalid(
            where, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        )
        return
    if entry.get("value"):
        yield invalid(where, "", "may not be specified when `value` is not empty")
    if len(kinds) > 1:
        yield invalid(where, "", "may not have more than one field specified at a time")
    if "fieldRef" in source:
        path = source["fieldRef"].get("fieldPath", "")
        if not path:
            yield required(f"{where}.fieldRef.fieldPath")
        elif path not in _FIELD_REFS and not _FIELD_REF_MAPS.fullmatch(path):
            message = f"error converting fieldPath: field label not supported: {path}"
            yield invalid(f"{where}.fieldRef.fieldPath", path, message)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            yield from (required(f"{where}.{kind}.{key}") for key in ("name", "key") if not source[kind].get(key))


def _mounts(mounts: list[Object], where: str, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"{where}.volumeMounts[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{at}.name")
        if name not in volumes:
            yield missing(f"{at}.name", name)
        if not path:
            yield required(f"{at}.mountPath")
        elif path in paths:
            yield invalid(f"{at}.mountPath", path, "must be unique")
        paths.add(path)
        sub_path = mount.get("subPath", "")
        if sub_path.startswith("/"):
            yield invalid(f"{at}.subPath", sub_path, "must be a relative path")
        if ".." in sub_path.split("/"):
            yield invalid(f"{at}.subPath", sub_path, "must not contain '..'")


def _resources(found: Object, where: str) -> Iterator[Cause]:
    limits, requests = found.get("limits", {}), found.get("requests", {})
    for key, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            at = f"{where}.{key}[{name}]"
            if "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
                yield invalid(at, name, "must be a standard resource type or fully qualified")
                yield invalid(at, name, "must be a standard resource for containers")
            if quantity.parse(amount) < 0:
                yield invalid(at, amount, "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and quantity.parse(amount) > quantity.parse(limits[name]):
            message = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{where}.requests", amount, message)


def _user(context: Object, where: str) -> Iterator[Cause]:
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        value = context.get(key)
        if value is not None and not 0 <= value <= MAX_INT32:
            yield invalid(f"{where}.{key}", value, f"must be between 0 and {MAX_INT32}, inclusive")


def _affinity(affinity: Object) -> Iterator[Cause]:
    hard: Any = affinity.get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if hard is not None and not hard.get("nodeSelectorTerms"):
        where = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        yield required(where, "must have at least one node selector term")


def _tolerations(tolerations: list[Object]) -> Iterator[Cause]:
    for index, found in enumerate(tolerations):
        at = f"spec.tolerations[{index}]"
        operator = found.get("operator", "")
        if not found.get("key") and operator != "Exists":
            message = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield invalid(f"{at}.operator", operator, message)
        if operator == "Exists" and found.get("value"):
            yield invalid(f"{at}.operator", found["value"], "value must be empty when `operator` is 'Exists'")
        if operator not in ("", "Equal", "Exists"):
            yield unsupported(f"{at}.operator", operator, ("Equal", "Exists"))
        if found.get("effect", "") not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
            allowed = ("NoSchedule", "PreferNoSchedule", "NoExecute")
            yield unsupported(f"{at}.effect", found["effect"], allowed)


_IMMUTABLE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def spec_update(new: Object, old: Object) -> Iterator[Cause]:
    """Yield the changes of a pod's spec that an update may not make."""
    if _fixed(new) != _fixed(old):
        yield Cause("FieldValueForbidden", "spec", _IMMUTABLE)
        return
    before, after = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
    if before is not None and (after is None or after > before):
        message = (
            "must be less than or equal to previous value" if after is not None else "must not update from a value"
        )
        yield invalid("spec.activeDeadlineSeconds", after if after is not None else "nil", message)
    kept = [found for found in old.get("tolerations", []) if found not in new.get("tolerations", [])]
    if kept:
        yield Cause("FieldValueForbidden", "spec.tolerations", "Forbidden: existing toleration can not be modified")
    gates = [gate["name"] for gate in old.get("schedulingGates", [])]
    for index, gate in enumerate(new.get("schedulingGates", [])):
        if gate["name"] not in gates:
            where = f"spec.schedulingGates[{index}]"
            yield Cause(
                "FieldValueForbidden",
                where,
                "Forbidden: only deletion is allowed, but found new scheduling gate '" + gate["name"] + "'",
            )


def _fixed(found: Object) -> Object:
    """The spec without the fields that may change."""
    fixed = {
        key: value
        for key, value in found.items()
        if key not in ("activeDeadlineSeconds", "tolerations", "schedulingGates")
    }
    for key in ("containers", "initContainers"):
        if key in fixed:
            fixed[key] = [{**container, "image": ""} for container in fixed[key]]
    return fixed
