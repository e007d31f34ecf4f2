r"""Attach to a manifest the sidecar that carries /airflow/xcom/return.json out of the pod.

`XComTransport.SIDECAR` is a native sidecar (an init container with restartPolicy Always: KEP-753, Kubernetes 1.29+).
The kubelet sends it SIGTERM once every main container has ended. It then runs `hand_over.sh` and exits. The header is
the first line of its termination message, which arrives with the pod's status:

    kpo-async/1 absent                               the file does not exist
    kpo-async/1 empty                                the file has no bytes
    kpo-async/1 irregular                            it is a directory, or anything else but a file
    kpo-async/1 unreadable                           the sidecar's user may not read the file
    kpo-async/1 text SIZE SHA256\nCONTENT            ASCII that fits into the message
    kpo-async/1 base64 SIZE SHA256\nCONTENT          other bytes that fit
    kpo-async/1 log SIZE SHA256                      the content is in the sidecar's log

SIZE counts bytes of the file; SHA256 is `-` where the image has no sha256sum. The log frames the content:

    kpo-async/1 begin gzip SIZE SHA256               or `begin plain` where the image has no gzip
    BASE64                                           in one line
    kpo-async/1 end

`XComTransport.EXEC` is an ordinary container that waits for an exec request, for older clusters; it needs the right to
pods/exec. `lifecycle/xcom.py` reads both. The functions of this module are pure: a manifest in, a manifest out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpo_async.compat import StrEnum
from kpo_async.json_types import Json

CONTAINER = "airflow-xcom-sidecar"
IMAGE = "alpine:3.24.2"
VOLUME = "xcom"
MOUNT_PATH = "/airflow/xcom"
RESULT_PATH = f"{MOUNT_PATH}/return.json"
DONE_PATH = f"{MOUNT_PATH}/.done"
"""The classic sidecar exits when this file exists: unlike a signal, that works in any process namespace."""
RESOURCES: Json = {"requests": {"cpu": "1m", "memory": "10Mi"}}
NOBODY = 65534

MESSAGE_LIMIT = 4096
"""Bytes of one container's termination message that the kubelet reads."""
POD_MESSAGES_LIMIT = 12 * 1024
"""Bytes of termination messages that the kubelet keeps per pod, shared evenly among all containers."""
HEADER_ROOM = 128
"""Bytes of the message reserved for the header."""
INSURED = 2000
"""Bytes above which a result also goes to the log: where a webhook injects containers, less of a message is kept."""

MARK = "kpo-async/1"
"""The protocol's name and version; every header begins with it."""


class XComTransport(StrEnum):
    """How the result leaves the pod."""

    SIDECAR = "sidecar"
    EXEC = "exec"


_HAND_OVER = re.sub(
    r"^#.*\n", "", Path(__file__).with_name("hand_over.sh").read_text(encoding="utf-8"), flags=re.MULTILINE
).strip()
"""The shell function `hand_over`, with placeholders `${XCOM_...}` that `_hand_over` fills in."""

_FIRST = "signalled=; trap 'signalled=yes' TERM INT"
"""The very first command: a node under load may start the shell so late that the pod's containers have ended."""

_WAIT = r"""
trap '{ kill -9 $!; wait $!; } 2> /dev/null; hand_over; exit 0' TERM INT
[ -z "$signalled" ] || { hand_over; exit 0; }
while :; do sleep 86400 > /dev/null 2>&1 & wait $!; done
""".strip()
# The trap does the work, so the signal may find the shell in `wait` or just before it. A trap interrupts `wait`, not a
# `sleep` in the foreground.

_CLASSIC = f"trap 'exit 0' TERM INT\nwhile [ ! -e {DONE_PATH} ]; do sleep 1 > /dev/null 2>&1 & wait $!; done"


def attach(
    manifest: Mapping[str, Any],
    *,
    base: str = "base",
    transport: str = XComTransport.SIDECAR,
    image: str | None = None,
    resources: Mapping[str, Any] | None = None,
    security_context: Mapping[str, Any] | None = None,
) -> Json:
    """Return a copy of `manifest` with the sidecar in it and its volume mounted in container `base`.

    Without a `security_context` the sidecar runs as the base container's user, with as few rights as reading needs.
    """
    spec = dict(manifest.get("spec") or {})
    containers = [dict(container) for container in spec.get("containers") or ()]
    mount = {"name": VOLUME, "mountPath": MOUNT_PATH}
    main: Json = {}
    for container in containers:
        if container.get("name") == base:
            main = container
            container["volumeMounts"] = [mount, *_without_volume(container.get("volumeMounts"))]
    sidecar = {
        "name": CONTAINER,
        "image": image or IMAGE,
        "volumeMounts": [mount],
        "resources": dict(resources) if resources else RESOURCES,
        "securityContext": dict(security_context) if security_context else _security_context(spec, main),
    }
    inits = list(spec.get("initContainers") or ())
    if transport == XComTransport.EXEC:
        containers.append({**sidecar, "command": ["sh", "-c", _CLASSIC]})
    else:
        # Last of the init containers: the kubelet stops sidecars in reverse order, so this one gets its signal first.
        script = native_script(containers=len(containers) + len(inits) + 1)
        inits.append({**sidecar, "command": ["sh", "-c", script], "restartPolicy": "Always"})
    spec["containers"] = containers
    if inits:
        spec["initContainers"] = inits
    spec["volumes"] = [*_without_volume(spec.get("volumes")), {"name": VOLUME, "emptyDir": {}}]
    return {**manifest, "spec": spec}


def native_script(
    *, containers: int, file: str = RESULT_PATH, message: str = "/dev/termination-log", limit: int | None = None
) -> str:
    """Return the native sidecar's program for a pod with so many `containers`. `limit`: bytes of content a message."""
    if limit is None:
        limit = min(MESSAGE_LIMIT, POD_MESSAGES_LIMIT // max(1, containers)) - HEADER_ROOM
    return f"{_FIRST}\n{_hand_over(file, message, limit)}\n{_WAIT}"


def exec_script(*, directory: str = MOUNT_PATH) -> str:
    """Return the program to exec in the classic sidecar: it prints the header, and a frame if there is content."""
    message, frame = f"{directory}/.message", f"{directory}/.frame"
    return f"{_hand_over(f'{directory}/return.json', message, -1)}\nhand_over > {frame}; cat {message} {frame}"


def done_script(*, directory: str = MOUNT_PATH) -> str:
    """Return the program to exec in the classic sidecar to make it exit."""
    return f": > {directory}/.done"


def _hand_over(file: str, message: str, limit: int) -> str:
    body = _HAND_OVER
    for name, value in (("FILE", file), ("MESSAGE", message), ("LIMIT", limit), ("INSURED", INSURED)):
        body = body.replace(f"${{XCOM_{name}}}", str(value))
    return body


def _without_volume(items: Any) -> list[Any]:
    """`items`, volumes or mounts, without those of the sidecar's volume."""
    return [item for item in items or () if item.get("name") != VOLUME]


def _security_context(spec: Mapping[str, Any], base: Mapping[str, Any]) -> Json:
    """Return the strictest security context under which the sidecar can still read the base container's files.

    Where the pod demands runAsNonRoot, this is the restricted Pod Security Standard, as the base container's user or
    else nobody. Otherwise the image's user and capabilities stay: without them not even root reads another user's
    0600 file.
    """
    pod, own = spec.get("securityContext") or {}, base.get("securityContext") or {}
    context: Json = {"allowPrivilegeEscalation": False}
    if "seccompProfile" not in pod:
        context["seccompProfile"] = {"type": "RuntimeDefault"}
    for name in ("runAsUser", "runAsGroup"):
        if name in own:
            context[name] = own[name]
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")):
        context["runAsNonRoot"] = True
        context["capabilities"] = {"drop": ["ALL"]}
        if "runAsUser" not in context and "runAsUser" not in pod:
            context["runAsUser"] = NOBODY
    return context
