"""Which companion fails its task: a table of pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kpo_async.api_types import pod_from_dict
from kpo_async.pod.companions import STOP, first_failed


@dataclass(frozen=True)
class Task:
    base_container: str = "base"
    companions: tuple[str, ...] = ("proxy",)
    ignore_companions: bool | tuple[str, ...] = False


def pod(exit_code: int, reason: str, *, pod_reason: str | None, stopped: bool) -> Any:
    """A pod whose base container has succeeded and whose companion has ended."""
    ends = {"base": {"exitCode": 0, "reason": "Completed"}, "proxy": {"exitCode": exit_code, "reason": reason}}
    status: dict[str, Any] = {
        "phase": "Running" if pod_reason is None else "Failed",
        "containerStatuses": [{"name": name, "state": {"terminated": end}} for name, end in ends.items()],
    }
    if pod_reason:
        status["reason"] = pod_reason
    spec: dict[str, Any] = {"containers": [{"name": name} for name in ends]}
    if stopped:
        spec |= STOP["spec"]
    return pod_from_dict({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("exit_code", "reason", "pod_reason", "stopped", "fails"),
    [
        (9, "Error", None, False, True),
        (137, "Error", None, False, True),
        (9, "Error", None, True, True),  # it had failed before the others were stopped
        (137, "Error", "DeadlineExceeded", True, False),
        (143, "Error", "DeadlineExceeded", True, False),
        (137, "Error", None, True, False),  # the pod's own reason comes with a later status
        (137, "OOMKilled", None, True, True),
        (0, "Completed", None, False, False),
    ],
)
def test_a_companion_that_was_stopped_after_the_base_container_has_not_failed(
    exit_code: int, reason: str, pod_reason: str | None, stopped: bool, fails: bool
) -> None:
    seen = pod(exit_code, reason, pod_reason=pod_reason, stopped=stopped)
    assert (first_failed(seen, Task()) is not None) is fails


def test_an_ignored_companion_fails_no_task() -> None:
    seen = pod(9, "Error", pod_reason=None, stopped=False)
    assert first_failed(seen, Task(ignore_companions=("proxy",))) is None
    assert first_failed(seen, Task(ignore_companions=True)) is None
