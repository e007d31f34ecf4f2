r"""The sidecar that carries /airflow/xcom/return.json out of the pod, put into a manifest.

`XComTransport.SIDECAR` is a native sidecar (an init container with restartPolicy Always: KEP-753, Kubernetes 1.29+).
The kubelet sends it SIGTERM once every main container has ended; then it hands the file over and exits. The header is
the first line of its termination message, which arrives with the pod's status:

    kpo-async/1 absent                               there is no such file
    kpo-async/1 empty                                it has no byte
    kpo-async/1 unreadable                           the sidecar's user may not read it
    kpo-async/1 text SIZE SHA256\nCONTENT            ASCII that fits
    kpo-async/1 base64 SIZE SHA256\nCONTENT          other bytes that fit
    kpo-async/1 log SIZE SHA256                      it is in the sidecar's own log

SIZE counts bytes of the file; SHA256 is `-` where the image has no sha256sum. In the log it stands between two lines:

    kpo-async/1 begin gzip SIZE SHA256               (or `begin plain` where the image has no gzip)
    BASE64, in one line
    kpo-async/1 end

`XComTransport.EXEC` is an ordinary container that waits to be asked, for older clusters; it needs the right to pods/exec.
`xcom.py` reads both. Pure functions here: a manifest in, a manifest out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpo_async.compat import StrEnum
from kpo_async.json_types import Json

CONTAINER = "airflow-xcom-sidecar"
IMAGE = "alpine:3.24.2"
VOLUME = "xcom"
MOUNT_PATH = "/airflow/xcom"
RESULT_PATH = f"{MOUNT_PATH}/return.json"
DONE_PATH = f"{MOUNT_PATH}/.done"
"""What makes the classic sidecar exit: a file works in any image and any process namespace, a signal does not."""
RESOURCES: Json = {"requests": {"cpu": "1m", "memory": "10Mi"}}
NOBODY = 65534

MESSAGE_LIMIT = 4096
"""Bytes of a container's termination message that the kubelet reads."""
POD_MESSAGES_LIMIT = 12 * 1024
"""Bytes of termination messages in a pod, shared out evenly among its containers, injected ones too."""
HEADER_ROOM = 128
INSURED = 2000
"""Larger results go to the log as well: webhooks may inject containers, and then less of a message is kept."""


MARK = "kpo-async/1"
"""Begins every header: the name of the protocol and its version."""


class XComTransport(StrEnum):
    """How the result leaves the pod."""

    SIDECAR = "sidecar"
    EXEC = "exec"


HAND_OVER = r"""
say() { printf '%s\n' "kpo-async/1 $*"; }
hand_over() {
  trap '' TERM INT
  file=${XCOM_FILE}; message=${XCOM_MESSAGE}
  [ -e "$file" ] || { say absent > "$message"; return; }
  [ -r "$file" ] || { say unreadable > "$message"; return; }
  [ -s "$file" ] || { say empty > "$message"; return; }
  size=$(($(wc -c < "$file")))
  sum=$(sha256sum < "$file" 2>/dev/null) || sum=-
  sum=${sum%% *}
  other=$(($(LC_ALL=C tr -d '\11\12\15\40-\176' < "$file" | wc -c)))
  where=log
  if [ "$other" -eq 0 ]; then
    [ "$size" -le "${XCOM_LIMIT}" ] && where=text
  else
    [ "$((size * 4 / 3 + 4))" -le "${XCOM_LIMIT}" ] && where=base64
  fi
  case $where in
    text) { say text "$size" "$sum"; cat "$file"; } > "$message" ;;
    base64) { say base64 "$size" "$sum"; base64 < "$file" | tr -d '\n'; } > "$message" ;;
    log) say log "$size" "$sum" > "$message" ;;
  esac
  [ $where = log ] || [ "$size" -gt ${XCOM_INSURED} ] || return 0
  if command -v gzip > /dev/null; then
    say begin gzip "$size" "$sum"; gzip -c < "$file" | base64 | tr -d '\n'
  else
    say begin plain "$size" "$sum"; base64 < "$file" | tr -d '\n'
  fi
  echo; say end
}
""".strip()
"""A function for any POSIX sh with the usual small tools. `native_script` fills in what stands in `${XCOM_...}`."""

_WAIT = r"""
trap '{ kill -9 $!; wait $!; } 2> /dev/null; hand_over; exit 0' TERM INT
while :; do sleep 86400 > /dev/null 2>&1 & wait $!; done
""".strip()
# The work is done in the trap, so that it does not matter whether the signal finds the shell in `wait` or just before
# it; and `wait` is what a trap may interrupt: a shell that runs `sleep` in the foreground would sit it out first.

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
    """`manifest` with the sidecar in it and its volume mounted in container `base`. The argument is left as it is.

    Without a `security_context` the sidecar runs as the base container does, as tightly as can be done blindly.
    """
    spec = dict(manifest.get("spec") or {})
    containers = [dict(container) for container in spec.get("containers") or ()]
    mount = {"name": VOLUME, "mountPath": MOUNT_PATH}
    main: Json = {}
    for container in containers:
        if container.get("name") == base:
            main = container
            container["volumeMounts"] = [mount, *_without_volume(container.get("volumeMounts"), "name")]
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
        # Last of the init containers: sidecars are stopped in reverse, so this one is told first.
        script = native_script(containers=len(containers) + len(inits) + 1)
        inits.append({**sidecar, "command": ["sh", "-c", script], "restartPolicy": "Always"})
    spec["containers"] = containers
    if inits:
        spec["initContainers"] = inits
    spec["volumes"] = [*_without_volume(spec.get("volumes"), "name"), {"name": VOLUME, "emptyDir": {}}]
    return {**manifest, "spec": spec}


def native_script(
    *, containers: int, file: str = RESULT_PATH, message: str = "/dev/termination-log", limit: int | None = None
) -> str:
    """What the native sidecar runs, in a pod of so many containers."""
    if limit is None:
        limit = min(MESSAGE_LIMIT, POD_MESSAGES_LIMIT // max(1, containers)) - HEADER_ROOM
    return f"{_hand_over(file, message, limit)}\n{_WAIT}"


def exec_script(*, directory: str = MOUNT_PATH) -> str:
    """What the classic sidecar is asked to run: prints the header, and a frame if there is content."""
    message, frame = f"{directory}/.message", f"{directory}/.frame"
    return f"{_hand_over(f'{directory}/return.json', message, -1)}\nhand_over > {frame}; cat {message} {frame}"


def done_script(*, directory: str = MOUNT_PATH) -> str:
    """What makes the classic sidecar exit."""
    return f": > {directory}/.done"


def _hand_over(file: str, message: str, limit: int) -> str:
    body = HAND_OVER
    for name, value in (("FILE", file), ("MESSAGE", message), ("LIMIT", limit), ("INSURED", INSURED)):
        body = body.replace(f"${{XCOM_{name}}}", str(value))
    return body


def _without_volume(items: Any, key: str) -> list[Any]:
    return [item for item in items or () if item.get(key) != VOLUME]


def _security_context(spec: Mapping[str, Any], base: Mapping[str, Any]) -> Json:
    """As the restricted Pod Security Standard asks, unless the sidecar must read the files of a root container.

    Where the pod says runAsNonRoot, it is dropped to the base container's user, or else to nobody. Where it does not,
    the image's user stays and so do its capabilities: without them not even root reads another user's 0600 file.
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
