"""The columns READY, STATUS and RESTARTS of a pod, as in a real server's table."""

from __future__ import annotations

from dataclasses import dataclass

from kpo_async.localcluster.store.objects import Object


@dataclass
class PodSummary:
    """A pod's row."""

    reason: str
    """STATUS."""
    ready: int = 0
    total: int = 0
    restarts: int = 0
    restarted_at: str | None = None

    def count_restarts(self, status: Object) -> None:
        """Add the restarts of a container status."""
        self.restarts += status.get("restartCount", 0)
        ended = status.get("lastState", {}).get("terminated", {}).get("finishedAt")
        if ended and (self.restarted_at is None or ended > self.restarted_at):
            self.restarted_at = ended


def summarize(pod: Object) -> PodSummary:
    """Return the row of `kubectl get pods`."""
    status, spec = pod.get("status", {}), pod["spec"]
    conditions = {found["type"]: found for found in status.get("conditions", [])}
    summary = PodSummary(status.get("reason") or status.get("phase", "Unknown"))
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"
    sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
    summary.total = len(spec.get("containers", [])) + len(sidecars)
    initializing = _add_init_containers(summary, pod, sidecars)
    if not initializing or conditions.get("Initialized", {}).get("status") == "True":
        _add_containers(summary, pod, is_ready=conditions.get("Ready", {}).get("status") == "True")
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _add_init_containers(summary: PodSummary, pod: Object, sidecars: set[str]) -> bool:
    """Add the init containers; return whether one of them has not finished."""
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
            summary.reason = f"Init:{_termination(ended)}"
        elif waiting and waiting != "PodInitializing":
            summary.reason = f"Init:{waiting}"
        else:
            summary.reason = f"Init:{index}/{count}"
        return True
    return False


def _add_containers(summary: PodSummary, pod: Object, *, is_ready: bool) -> None:
    running = False
    for status in reversed(pod.get("status", {}).get("containerStatuses", [])):
        summary.count_restarts(status)
        state = status.get("state", {})
        if state.get("waiting", {}).get("reason"):
            summary.reason = state["waiting"]["reason"]
        elif "terminated" in state:
            summary.reason = _termination(state["terminated"])
        elif status.get("ready") and "running" in state:
            running = True
            summary.ready += 1
    if summary.reason == "Completed" and running:
        summary.reason = "Running" if is_ready else "NotReady"


def _termination(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
