"""The STATUS, READY and RESTARTS of a pod, as a real server's table puts them."""

from __future__ import annotations

from dataclasses import dataclass

from kpo_async.localcluster.store.store import Object


@dataclass
class Summary:
    """A pod in one line."""

    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    restarted_at: str | None = None

    def count_restarts(self, status: Object) -> None:
        self.restarts += status.get("restartCount", 0)
        ended = status.get("lastState", {}).get("terminated", {}).get("finishedAt")
        if ended and (self.restarted_at is None or ended > self.restarted_at):
            self.restarted_at = ended


def summarize(pod: Object) -> Summary:
    """What the columns of `kubectl get pods` say."""
    status, spec = pod.get("status", {}), pod["spec"]
    conditions = {found["type"]: found for found in status.get("conditions", [])}
    summary = Summary(status.get("reason") or status.get("phase", "Unknown"))
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
    summary.total = len(spec.get("containers", [])) + len(sidecars)
    initializing = _initialize(summary, pod, sidecars)
    if not initializing or conditions.get("Initialized", {}).get("status") == "True":
        _containers(summary, pod, is_ready=conditions.get("Ready", {}).get("status") == "True")
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _initialize(summary: Summary, pod: Object, sidecars: set[str]) -> bool:
    """Go through the init containers; whether one of them is still in the way."""
    count = len(pod["spec"].get("initContainers", []))
    for index, status in enumerate(pod.get("status", {}).get("initContainerStatuses", [])):
        summary.count_restarts(status)
        state = status.get("state", {})
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if status["name"] in sidecars and status.get("started"):
            summary.ready += bool(status.get("ready"))
            continue
        waiting = state.get("waiting", {}).get("reason", "")
        if ended is not None:
            summary.reason = f"Init:{_ending(ended)}"
        elif waiting and waiting != "PodInitializing":
            summary.reason = f"Init:{waiting}"
        else:
            summary.reason = f"Init:{index}/{count}"
        return True
    return False


def _containers(summary: Summary, pod: Object, *, is_ready: bool) -> None:
    running = False
    for status in reversed(pod.get("status", {}).get("containerStatuses", [])):
        summary.count_restarts(status)
        state = status.get("state", {})
        if state.get("waiting", {}).get("reason"):
            summary.reason = state["waiting"]["reason"]
        elif "terminated" in state:
            summary.reason = _ending(state["terminated"])
        elif status.get("ready") and "running" in state:
            running = True
            summary.ready += 1
    if summary.reason == "Completed" and running:
        summary.reason = "Running" if is_ready else "NotReady"


def _ending(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
